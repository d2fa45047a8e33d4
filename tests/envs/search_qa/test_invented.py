"""The invented world: one timeline, functional relations, chains that have to be searched, and splits that differ."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import sdar_envs
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.search_qa.invented import dataset
from sdar_envs.search_qa.invented.dataset import LEVELS, with_settings
from sdar_envs.search_qa.invented.judging import Searching
from sdar_envs.search_qa.invented.making import _pairs, make_data
from sdar_envs.search_qa.invented.names import GRAMMAR, Names, refused_words
from sdar_envs.search_qa.invented.passages import write_passages
from sdar_envs.search_qa.invented.relations import KINDS, RELATIONS
from sdar_envs.search_qa.invented.world import make_world
from sdar_envs.search_qa.scoring import normalize
from sdar_envs.search_qa.single_search import one_search_queries

SEARCH_QA = "sdar/SearchQA-v0"
RECORD = json.loads((Path(__file__).parents[3] / "benchmarks/studies/search_qa_worlds.json").read_text())
SMALL = {"seed": 5, "entities": 400, "questions": 100}


@pytest.fixture(scope="module")
def world():
    return make_world("invented/1/1", 4000)


@pytest.fixture(scope="module")
def text(world):
    return write_passages(world, "invented/1/1", 50)


@pytest.fixture(scope="module")
def data():
    settings = LEVELS["default"]
    return make_data(settings, dataset._shipped()[settings.key()])


@pytest.fixture(scope="module")
def rows(data):
    """Questions about the main world."""
    return [row for split, of in data.rows.items() if split != "test_worlds" for row in of]


def of_kind(rows, *kinds):
    return [row for row in rows if row["metadata"]["kind"] in kinds]


CHAINS = ("chain of 2", "chain of 3", "chain of 4")


def asked(row):
    return f" {normalize(row['question'])} "


def mentions(text, name):
    return f" {normalize(name)} " in f" {normalize(text)} "


# -- the same everywhere ------------------------------------------------------------------------


def test_the_default_level_is_what_was_released(data):
    recorded = RECORD["default"]
    assert data.fingerprint == recorded["sha256"]["passages"]
    assert data.other_fingerprint == recorded["sha256"]["other_passages"]
    assert data.questions_fingerprint == recorded["sha256"]["questions"]
    assert {kind: dict(of) for kind, of in data.yields.items()} == recorded["yields"]
    assert {split: len(of) for split, of in data.rows.items()} == recorded["questions"]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_searching_again_gives_the_verdicts_that_are_shipped(level):
    settings, told = LEVELS[level], {}
    data = make_data(settings, record=told)
    assert told == dataset._shipped()[settings.key()]
    assert data.questions_fingerprint == RECORD[level]["sha256"]["questions"]


def test_other_seeds_and_settings_give_other_worlds():
    told = {}
    short = make_data(with_settings("default", {**SMALL, "hops": 2}), record=told)
    assert max(int(kind[-1]) for kind in short.yields if kind.startswith("chain")) == 2
    assert "test_hops" not in short.rows
    assert len(short.passages) < 1000
    # Equal settings give equal data, with the verdicts that were told too.
    again = make_data(with_settings("default", {**SMALL, "hops": 2}), told)
    assert again.questions_fingerprint == short.questions_fingerprint
    other = make_world("invented/1/6", 400)
    assert {entity.name for entity in other.entities} != {
        entity.name for entity in make_world("invented/1/5", 400).entities
    }


# -- rule 1: facts on one timeline --------------------------------------------------------------


def test_nobody_does_anything_before_being_grown_up_or_after_death(world):
    years = {}
    for fact in world.facts:
        if fact.relation == "work.year":
            years[fact.subject.id] = fact.number
    for fact in world.facts:
        name, subject, other = fact.relation, fact.subject, fact.object
        if name == "work.author":
            assert other.born + 20 <= years[subject.id] < other.died
        elif name in ("organisation.founder", "event.chair", "event.medallist", "mountain.climber", "river.mapper"):
            year = subject.born or next(
                f.number for f in world.by_subject[subject.id] if f.relation in ("mountain.climbed", "river.mapped")
            )
            assert other.born + 18 <= year < other.died, name
        elif name == "organisation.director":
            assert other.born + 30 <= fact.years[0] < fact.years[1] < other.died
        elif name == "person.teacher":
            assert other.born + 24 <= subject.born + 20
            assert other.died > subject.born + 12
        elif name == "person.biographer":
            assert other.died > subject.died
        elif name == "person.spouse":
            assert max(subject.born, other.born) + 19 <= min(subject.died, other.died)
        elif name in ("person.school", "work.publisher", "event.organiser"):
            assert other.born <= (years[subject.id] if name == "work.publisher" else subject.died or subject.born)
        elif name == "work.subject":
            assert other.born <= years[subject.id]


# -- rules 2 and 3: one answer ------------------------------------------------------------------


def test_relations_are_functional_and_marriage_counts_both_ways(world):
    counts = Counter((fact.relation, fact.subject.id) for fact in world.facts if fact.years is None)
    assert set(counts.values()) == {1}
    married = Counter(
        person.id for fact in world.facts if fact.relation == "person.spouse" for person in (fact.subject, fact.object)
    )
    assert set(married.values()) == {1}
    terms = {}
    for fact in world.facts:
        if fact.years is not None:
            terms.setdefault(fact.subject.id, []).append(fact.years)
    assert all(first[1] <= second[0] for of in terms.values() for first, second in pairwise(of))


def reached(world, entities, step, question):
    """Return all that a step leads to from any of some entities: values, or entities."""
    inverse, relation = step.startswith("~"), step.removeprefix("~")
    found = set()
    for entity in entities:
        facts = world.by_object[entity] if inverse else world.by_subject[entity]
        for fact in facts:
            if fact.relation != relation:
                continue
            if fact.years is not None:
                year = int(re.search(r"\bin (?:the year )?(\d{4})", question).group(1))
                if not fact.years[0] <= year <= fact.years[1]:
                    continue
            found.add(fact.subject.id if inverse else fact.value or fact.object.id)
        if relation == "person.spouse":
            found |= {fact.subject.id for fact in world.by_object[entity] if fact.relation == relation}
    return found


def test_following_a_chain_through_all_facts_leads_to_the_gold_answer_alone(world, rows):
    names = {entity.name: entity.id for entity in world.entities}
    by_id = {entity.id: entity for entity in world.entities}
    for row in of_kind(rows, "lookup", *CHAINS):
        about = row["metadata"]
        entities = {names[about["name_queries"][0]]}
        for step, bridge in zip(about["path"], about["bridges"], strict=True):
            entities = reached(world, entities, step, row["question"])
            assert len(entities) == 1, row
            (found,) = entities
            assert (by_id[found].name if found in by_id else found) == bridge
        assert row["golden_answers"][0] == about["bridges"][-1]


def test_names_are_unique_and_many_have_a_twin(world):
    names = Counter(name for entity in world.entities for name in (entity.name, *entity.aliases))
    assert set(names.values()) == {1}
    families = {entity.name.split()[1] for entity in world.of_kind("person")}
    patterns = Counter(f"{name[:i]}_{name[i + 1 :]}" for name in families for i in range(len(name)))
    twins = sum(any(patterns[f"{name[:i]}_{name[i + 1 :]}"] > 1 for i in range(len(name))) for name in families)
    assert twins / len(families) > 0.3


def test_a_description_fits_one_person_of_the_whole_world(world, rows):
    people = Counter((world.fact(person, "occupation").value, person.born) for person in world.of_kind("person"))
    for row in of_kind(rows, "described lookup", "described chain"):
        described = re.search(r"the ([a-z ]+) born (?:in [A-Z]\w+ )?in (\d{4})", row["question"])
        occupation = described.group(1).rpartition("the ")[2]
        assert people[occupation, int(described.group(2))] == 1


def test_an_intersection_has_one_answer_and_each_half_several(world, rows):
    names = {entity.name: entity.id for entity in world.entities}
    for row in of_kind(rows, "intersection"):
        halves = [
            {f.subject.name for f in world.by_object[names[name]] if f.relation == step.removeprefix("~")}
            for step, name in zip(row["metadata"]["path"], row["metadata"]["name_queries"], strict=True)
        ]
        assert halves[0] & halves[1] == {row["golden_answers"][0]}
        assert min(map(len, halves)) > 1


# -- rule 4: connected --------------------------------------------------------------------------


def test_no_passage_leads_past_a_hop(world, text, rows):
    names = {entity.name: entity.id for entity in world.entities}
    contents = {passage.id: passage.contents for passage in text.passages}
    for row in of_kind(rows, *CHAINS):
        about = row["metadata"]
        on_the_way = [about["name_queries"][0], *about["bridges"]]
        known = [text.named[names[name]] for name in on_the_way if name in names]
        for i, of in enumerate(known):
            assert not any(of & later for later in known[i + 2 :]), row
        assert not mentions(contents[about["supporting"][-1]], on_the_way[0]) or len(about["supporting"]) == 1


def test_passages_name_what_they_are_noted_to_name(world, text):
    contents = {passage.id: f" {normalize(passage.contents)} " for passage in text.passages}
    for entity in world.entities[::150]:
        name = f" {normalize(entity.name)} "
        assert {passage for passage, of in contents.items() if name in of} == text.named[entity.id]


def test_a_question_does_not_give_its_answer_away_and_its_passages_do(data, rows):
    contents = {passage.id: passage.contents for passage in data.passages}
    computed = {"count", "years between", "which of several", "bridged comparison"}
    for row in rows:
        about = row["metadata"]
        assert len(set(about["supporting"])) == about["hops"] == len(about["queries"]) == len(about["bridges"])
        if about["kind"] != "which of several":
            assert not any(f" {normalize(answer)} " in asked(row) for answer in row["golden_answers"]), row
        if about["kind"] not in computed:
            assert any(mentions(contents[name], row["golden_answers"][0]) for name in about["supporting"]), row


# -- rule 5: searches ---------------------------------------------------------------------------


def test_one_search_does_not_do_and_one_for_each_hop_does(data, rows):
    judge = Searching(data.passages)
    for row in rows[::45]:
        about = row["metadata"]
        for query, passage in zip(about["queries"], about["supporting"], strict=True):
            assert passage in judge.found(query)
        if about["hops"] > 1:
            queries = one_search_queries(row["question"], about["queries"], about["name_queries"])
            assert not any(set(about["supporting"]) <= set(judge.found(query)) for query in queries), row
            assert not (about["kind"] in CHAINS and reads(judge, row)), row


def reads(judge, row):
    return any(
        mentions(judge._contents[name], answer)
        for name in judge.found(row["question"])
        for answer in row["golden_answers"]
    )


# -- rules 6 to 9: words ------------------------------------------------------------------------


def test_each_relational_fact_stands_in_one_passage_and_half_at_the_object(world, text):
    contents = {passage.id: passage.contents for passage in text.passages}
    there = Counter()
    for fact in world.facts:
        if fact.object is None:
            assert mentions(contents[fact.passage], fact.value)
            continue
        assert text.named[fact.subject.id] & text.named[fact.object.id] >= {fact.passage}
        if not fact.passage.endswith(".works"):
            there[fact.passage.startswith(f"{fact.object.id}.")] += 1
    assert 0.48 < there[True] / there.total() < 0.52
    titles = Counter(passage.title for passage in text.passages)
    assert max(titles.values()) > 2, "passages of an entity share its title"


def test_passages_state_several_facts_in_some_sixty_words(world, text):
    facts = Counter(fact.passage for fact in world.facts if not fact.passage.endswith(".works"))
    assert sum(5 <= count <= 8 for count in facts.values()) > 0.9 * len(facts)
    lengths = sorted(len(passage.contents.split()) for passage in text.passages)
    assert 55 < lengths[len(lengths) // 2] < 80
    assert lengths[-1] <= 120


def test_sentences_are_whole(text, rows):
    odd = re.compile(r"\b(the|a|an|of|was|in|by) \1\b|[{}]|\bcurrent|  |\b(of|by|for|with|to) (he|she)\b|\bA [AEIOU]")
    assert [passage.contents for passage in text.passages if odd.search(passage.contents)] == []
    assert [row["question"] for row in rows if odd.search(row["question"])] == []
    assert all(row["question"].endswith("?") for row in rows)


def test_dates_and_numbers_are_right_in_every_spelling(rows):
    for row in rows:
        first, *others = row["golden_answers"]
        if re.fullmatch(r"\d+ [A-Z][a-z]+ \d{4}", first):
            day, month, year = first.split()
            assert others == [f"{month} {day}, {year}"]
        elif re.fullmatch(r"[\d,]+", first) and row["metadata"]["path"][-1] in RELATIONS:
            units = RELATIONS[row["metadata"]["path"][-1]].unit
            assert others == [f"{first} {unit}" for unit in units]


def test_phrases_nest_to_the_right():
    for name, relation in RELATIONS.items():
        for ask in (*relation.asks, *relation.inverse_asks):
            assert ask.endswith("{x}?") or name == "organisation.director", ask
        assert relation.inverse.endswith("{x}") or not relation.inverse.endswith("}")
        assert (relation.target in KINDS) == bool(relation.stated_there)
        # Every wording names what it is about, or stands where that is known; the first sentence of a passage names it.
        assert any("{S}" in sentence or "{s}" in sentence for sentence in relation.stated)


def test_titles_are_quoted_in_questions(world, rows):
    titles = {work.name for work in world.of_kind("work")}
    for row in rows:
        for name in row["metadata"]["name_queries"]:
            if name in titles and mentions(row["question"], name):
                assert f'"{name}"' in row["question"]


def test_no_name_is_a_word_that_exists(world):
    refused = refused_words()
    assert len(refused) > 500
    assert all(GRAMMAR.fullmatch(word) for word in refused)
    parts = {
        word.lower()
        for entity in world.entities
        if entity.kind != "work"
        for name in (entity.name, *entity.aliases)
        for word in name.split()
    }
    made = {word for word in parts if GRAMMAR.fullmatch(word)}
    assert len(made) > 2000
    assert not made & refused


def test_a_maker_of_names_refuses_existing_words_and_never_repeats():
    words = Names(sdar_envs.search_qa.invented.names.Rng("names")).words("river", 400, twins=50)
    assert len(set(words)) == 400
    assert not {word.lower() for word in words} & refused_words()
    with pytest.raises(InvalidOption, match="fewer entities"):
        Names(sdar_envs.search_qa.invented.names.Rng("names")).words("river", 30_000)


def test_comparisons_have_four_or_five_options_or_three_that_are_not_named(world, rows):
    for row in of_kind(rows, "which of several"):
        assert 4 <= len(re.split(r", | or ", row["question"].partition(": ")[2])) <= 5 or '"' in row["question"]
        assert 4 <= row["metadata"]["hops"] <= 5
    for row in of_kind(rows, "bridged comparison"):
        assert row["metadata"]["hops"] == 6


def test_lists_of_works_are_complete(world, text):
    contents = {passage.id: passage.contents for passage in text.passages}
    for author in sorted(world.listed):
        works = {f.subject.name for f in world.by_object[author] if f.relation == "work.author"}
        assert len(works) >= 4
        assert set(re.findall(r'"([^"\n]+)"', contents[f"{author}.works"].partition("\n")[2])) == works


# -- splits -------------------------------------------------------------------------------------


def test_splits_measure_what_they_say(data):
    rows = data.rows
    assert tuple(rows) == dataset.SPLITS
    answers = {
        split: {normalize(answer) for row in rows[split] for answer in row["golden_answers"][:1]}
        for split in ("train", "dev", "test")
    }
    assert not answers["train"] & answers["test"]
    assert not answers["train"] & answers["dev"]
    assert not answers["dev"] & answers["test"]
    pairs = {split: {pair for row in of for pair in _pairs(row)} for split, of in rows.items()}
    steps = {step for row in rows["train"] for step in row["metadata"]["path"]}
    known = pairs["train"] | pairs["dev"] | pairs["test"]
    for row in rows["test_paths"]:
        assert set(_pairs(row)) - known, row
        assert steps.issuperset(row["metadata"]["path"])
    assert {row["metadata"]["kind"] for row in rows["test_hops"]} == {"chain of 4"}
    assert not of_kind([*rows["train"], *rows["dev"], *rows["test"], *rows["test_paths"]], "chain of 4")
    texts = [row["question"] for of in rows.values() for row in of]
    assert len(set(texts)) == len(texts)


def test_the_other_world_shares_no_name(data):
    here = {word for passage in data.passages for word in passage.contents.split("\n")[0].strip('"').split()}
    there = {word for passage in data.other_passages for word in passage.contents.split("\n")[0].strip('"').split()}
    shared = {word.lower() for word in here & there}
    # Titles of books and kinds of institutions are of common parts.
    assert not {word for word in shared if GRAMMAR.fullmatch(word)}


# -- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"level": "hrad"}, UnknownName, "Did you mean 'hard'"),
        ({"corpus": "invnted"}, UnknownName, "invented"),
        ({"world": {"sede": 1}}, UnknownName, "Did you mean 'seed'"),
        ({"world": {"entities": 10}}, InvalidOption, "from 400 to"),
        ({"world": "2"}, InvalidOption, "wanted settings by name"),
        ({"corpus": "facts", "level": "hard"}, InvalidOption, "has no levels"),
        ({"corpus": "films", "world": {"seed": 2}}, InvalidOption, "has no levels"),
        ({"data": "official", "corpus": "facts"}, InvalidOption, "leave out"),
    ],
)
def test_mistakes_are_told(arguments, error, said):
    with pytest.raises((error, InvalidOption), match=said):
        sdar_envs.make_text_env(SEARCH_QA, **arguments)


def test_damaged_verdicts_are_told(monkeypatch, tmp_path):
    (tmp_path / "verdicts.json.gz").write_bytes(gzip.compress(b"[]"))
    monkeypatch.setattr(dataset, "VERDICTS", tmp_path / "verdicts.json.gz")
    with pytest.raises(sdar_envs.errors.CorruptData, match="reinstall"):
        dataset._shipped()


# -- in the environment -------------------------------------------------------------------------


def test_ids_carry_the_corpus_and_old_ones_play_the_facts():
    env = sdar_envs.make_text_env(SEARCH_QA, split="test")
    observation, info = env.reset(options={"task_id": "search_qa/invented/test/0000"})
    assert observation == f"{info['instruction']}\nTurns: 8."
    assert env.variant.endswith(f"bm25:invented-{RECORD['default']['sha256']['passages']}")
    observation, info = env.reset(options={"task_id": "search_qa/test/0001"})
    assert (info["task_id"], observation) == ("search_qa/facts/test/0001", info["instruction"])
    assert info["data_set"] == "facts"
    *_, info = env.step(env.oracle_plan()[0])
    assert info["passage_ids"]
    with pytest.raises(UnknownName, match="was withdrawn"):
        env.reset(options={"task_id": "search_qa/test/0000"})


def test_another_split_searches_its_own_world():
    env = sdar_envs.make_text_env(SEARCH_QA, split="test", reveal_answers=True)
    for split, digest in (("test", "passages"), ("test_worlds", "other_passages"), ("test", "passages")):
        env.reset(options={"task_id": f"search_qa/invented/{split}/0000"})
        assert env._tool.fingerprint == f"bm25:invented-{RECORD['default']['sha256'][digest]}"
        saved = env.snapshot()
        while plan := env.oracle_plan():
            *_, info = env.step(plan[0])
        assert info["won"]
        assert info["metrics"]["evidence"] == info["metrics"]["hops_solved"] == 1.0
        assert info["evidence_turn"] == info["searches"] == info["metrics"]["searches"]
        other = sdar_envs.make_text_env(SEARCH_QA, split="test", reveal_answers=True)
        other.restore(saved)
        assert other.variant == env.variant


def test_searches_can_be_off():
    env = sdar_envs.make_text_env(SEARCH_QA, split="test", retriever="off")
    env.reset(seed=0)
    observation, *_, info = env.step("search[anything]")
    assert "searching is off, answer from memory" in observation
    assert info["passage_ids"] == []
    assert not env.blocks_on_io
    assert env.variant.endswith(", off")
    with pytest.raises(InvalidOption, match="token_env"):
        sdar_envs.make_text_env(SEARCH_QA, retriever="off", token_env="TOKEN")


# -- readings -----------------------------------------------------------------------------------


def test_questions_that_were_read_have_the_answer_that_was_found_right(data):
    lines = (Path(__file__).parents[3] / "benchmarks/studies/search_qa_readings.jsonl").read_text().splitlines()
    read = [row for row in map(json.loads, lines) if row["corpus"] == "invented"]
    assert len(read) > 380
    here = {row["question"]: row["golden_answers"][0] for of in data.rows.values() for row in of}
    kept = [row for row in read if row["question"] in here]
    assert len(kept) > 0.9 * len(read)
    assert all(here[row["question"]] == row["answer"] for row in kept)
    assert sum(row["verdict"] != "right" for row in read) / len(read) < 0.03
