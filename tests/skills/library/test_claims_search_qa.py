"""Claims of the Search-QA skills, checked against the environment on a dozen passages and the embedded facts."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

import pytest
from helpers.claims import claim

from sdar_envs.bm25.index import SearchIndex
from sdar_envs.search_qa.corpora import open_corpus
from sdar_envs.search_qa.embedded import passages, questions
from sdar_envs.search_qa.env import SearchQAEnv
from sdar_envs.search_qa.invented.dataset import LEVELS, open_data
from sdar_envs.search_qa.questions import QUESTION_TYPES
from sdar_envs.search_qa.retrieval.engines.bm25 import Bm25Retriever
from sdar_envs.search_qa.retrieval.retriever import Passage
from sdar_envs.search_qa.scoring import exact_match, normalize

FACTS = [
    ("Peru: capital", "Lima is the capital of Peru."),
    ("Peru: currency", "The currency of Peru is the sol, with the code PEN."),
    ("Armenia: capital", "Yerevan is the capital of Armenia."),
    ("Armenia: anthem", "The national anthem of Armenia is called Mer Hayrenik."),
    ("Lima, Ohio", "Lima is a town in the state of Ohio."),
    ("Émile Zola: novel", "Émile Zola wrote the novel Germinal."),
    ("Emile Berliner", "Emile Berliner made the gramophone."),
    ("Battleship Potemkin", "Battleship Potemkin is a film with Sergei Eisenstein as director."),
    ("The Who", "Who are a band from London."),
    ("Sergei Eisenstein", "Sergei Eisenstein was born in 1898."),
    ("Seagulls", "Seagulls live near the coast."),
]


def engine(corpus: list[Passage], name: str) -> Bm25Retriever:
    """Return the built-in search over a corpus, in memory: the cache is for the user's."""
    documents = [(place, passage.contents) for place, passage in enumerate(corpus)]
    return Bm25Retriever(SearchIndex.build(documents, progress=False), corpus, name)


QUESTION = "What is the capital of Peru?"
ANSWERS = ["Lima"]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    folder = tmp_path_factory.mktemp("questions")
    row = {"id": "0", "question": QUESTION, "golden_answers": ANSWERS, "data_source": "nq"}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n")
    dozen = [Passage(str(i), f'"{title}"\n{text}') for i, (title, text) in enumerate(FACTS)]
    retriever = engine(dozen, "dozen")

    def make() -> SearchQAEnv:
        env = SearchQAEnv(data="official", data_dir=str(folder), split="test", retriever=retriever)
        env.reset(seed=0)
        return env

    return make


@pytest.fixture
def search(make):
    def search(query: str) -> list[str]:
        env = make()
        *_, info = env.step(f"search[{query}]")
        return [FACTS[int(number)][0] for number in info["passage_ids"]]

    return search


TURNS = "search_qa/spend-the-turns-well"


@claim(TURNS, "Where it says nothing, there are four.", "`answer` ends the episode at once.")
def test_turns_four_and_an_answer_ends_them(make):
    env = make()
    assert env.max_steps == 4
    assert "Turns" not in env.reset(seed=0)[0]
    _, reward, terminated, truncated, info = env.step("answer[Lima]")
    assert (reward, terminated, truncated, info["is_success"]) == (1.0, True, False, True)


@claim(
    TURNS,
    "Without an answer the question counts as wrong, whatever was found.",
    "a wrong answer costs no more than none",
    "Below them you read how many turns are left.",
)
def test_turns_without_an_answer_are_lost(make):
    env = make()
    for left in (3, 2, 1, 0):
        observation, reward, terminated, truncated, info = env.step("search[Peru capital]")
        assert "Lima is the capital of Peru." in observation
        assert (f"Turns left: {left}." in observation) == (left > 1)
        assert ("One turn is left: answer now." in observation) == (left == 1)
    assert (reward, terminated, truncated, info["is_success"]) == (0.0, False, True, False)
    assert make().step("answer[Cuzco]")[1] == 0.0


@claim(TURNS, "Anything else is wasted, and counts as a turn too.")
def test_turns_nonsense_counts(make):
    env = make()
    *_, info = env.step("look around")
    assert (info["is_action_valid"], info["step"]) == (False, 1)


@claim(TURNS, "equal words bring equal passages", "three for each search, best first")
def test_turns_equal_words_equal_passages(make, search):
    assert search("capital of Peru") == search("capital of Peru")
    assert search("capital Peru")[0] == "Peru: capital"
    assert len(search("capital Peru")) == 3


QUERY = "search_qa/phrase-a-query"


@claim(QUERY, "The built-in search compares words, not meanings.")
def test_query_words_not_meanings(search):
    assert search("money Peruvian") == []
    assert search("Peru currency")[0] == "Peru: currency"


@claim(
    QUERY,
    "Small words (is, the, of, in) are not searched at all.",
    "Question words (who, what, which) are, and only find passages that happen to hold them",
    "Order, capitals and plural endings do not matter.",
)
def test_query_small_words_order_and_case(search):
    assert search("is the of in") == []
    assert search("who what which") == ["The Who"]
    assert search("PERU the capitals of") == search("capital Peru")


@claim(QUERY, "Ask for one fact at a time. Words about a second fact pull in passages about other things.")
def test_query_one_fact_at_a_time(search):
    assert search("Peru currency")[0] == "Peru: currency"
    assert search("Peru currency national anthem Armenia")[0] == "Armenia: anthem"


@claim(QUERY, "Accents count: if a name finds nothing, try it with or without them.")
def test_query_accents_count(search):
    assert search("Émile") == ["Émile Zola: novel"]
    assert search("Emile") == ["Emile Berliner"]


ANSWER = "search_qa/answer-in-the-fewest-words"


@claim(ANSWER, "Capitals, punctuation and the words a, an, the are ignored; every other word counts.")
@pytest.mark.parametrize(
    ("said", "is_right"),
    [("lima", 1.0), ("The Lima.", 1.0), ("'LIMA'", 1.0), ("Lima Peru", 0.0), ("in Lima", 0.0)],
)
def test_answer_what_is_ignored(said, is_right):
    assert exact_match(said, ANSWERS) == is_right


@claim(ANSWER, "`answer[Lima]`, not `answer[The capital of Peru is Lima]`. No sentence, no reason, no second guess")
@pytest.mark.parametrize(
    "said", ["The capital of Peru is Lima", "Lima or Cuzco", "Lima (Peru)", "Lima, because it says so"]
)
def test_answer_nothing_around_it(said, make):
    assert make().step(f"answer[{said}]")[1] == 0.0
    assert make().step("answer[Lima]")[1] == 1.0


@claim(ANSWER, "Copy the spelling from the passage, accents included.", "A number: digits as in the passage")
def test_answer_spelling_counts():
    assert exact_match("Emile Zola", ["Émile Zola"]) == 0.0
    assert exact_match("fifty", ["50"]) == 0.0
    assert exact_match("22294", ["22,294"]) == 1.0


# -- on the embedded facts --------------------------------------------------------------------


@lru_cache(maxsize=1)
def facts() -> Bm25Retriever:
    return engine(list(passages()), "facts")


def sample(kind: str) -> list[dict[str, Any]]:
    of_kind = [question for question in questions()["test"] if question["metadata"]["type"] == kind]
    return of_kind[:: len(of_kind) // 200]


def found(query: str, k: int = 3) -> list[str]:
    (hits,) = facts().search([query], k)
    return [hit.passage.id for hit in hits]


def reads_answer(question: dict[str, Any], query: str) -> bool:
    (hits,) = facts().search([query], 3)
    texts = [normalize(hit.passage.contents) for hit in hits]
    return any(normalize(answer) in text for answer in question["golden_answers"] for text in texts)


def hops(question: dict[str, Any]) -> list[tuple[str, str]]:
    return list(zip(question["metadata"]["queries"], question["metadata"]["supporting"], strict=True))


@claim("search_qa/find-one-fact", "the question's own words find it in nine of ten cases")
def test_fact_the_questions_words_find_it():
    asked = sample("direct_retrieval")
    share = sum(reads_answer(question, question["question"]) for question in asked) / len(asked)
    assert share == pytest.approx(0.9, abs=0.05)


@claim("search_qa/look-up-a-property", "The passage about it nearly always comes first.")
def test_property_and_name_find_it_first():
    asked = sample("entity_attribute_lookup")
    assert sum(found(query, 1) == [passage] for q in asked for query, passage in hops(q)) / len(asked) > 0.95


@claim(
    "search_qa/take-one-hop-at-a-time",
    "The question itself as a search hardly ever finds the answer, because no passage holds both facts.",
)
def test_hops_the_question_itself_finds_nothing():
    asked = sample("multi_hop_reasoning")
    assert sum(reads_answer(question, question["question"]) for question in asked) / len(asked) < 0.12
    for question in asked:
        assert 2 <= len(hops(question)) <= 3
        assert all(passage in found(query) for query, passage in hops(question))


@claim("search_qa/compare-two-things", "Both names in one search bring both values in six of ten cases only.")
def test_compare_two_searches_are_sure():
    asked = sample("compare")
    both = sum({passage for _, passage in hops(q)} <= set(found(q["question"])) for q in asked) / len(asked)
    assert both == pytest.approx(0.6, abs=0.08)
    assert all(passage in found(query) for question in asked for query, passage in hops(question))


# -- on the dozen passages --------------------------------------------------------------------


@claim("search_qa/find-one-fact", "Search with the rare words of the question", "the fact may stand in a passage about")
def test_fact_rare_words_find_it(search):
    assert search("Germinal")[0] == "Émile Zola: novel"
    assert search("gramophone")[0] == "Emile Berliner"


@claim("search_qa/look-up-a-property", "The property decides which is meant", "Codes and symbols are answered as codes")
def test_property_tells_namesakes_apart(search):
    assert search("Lima capital")[0] == "Peru: capital"
    assert search("Lima town state")[0] == "Lima, Ohio"
    assert exact_match("Peruvian sol", ["PEN"]) == 0.0


@claim(
    "search_qa/take-one-hop-at-a-time",
    "Start at the innermost part, the one with a proper name, and search only that: `search[capital Yerevan]`.",
    "Search that name with the property that is asked: `search[Armenia national anthem]`.",
)
def test_hops_follow_each_other(search):
    assert search("capital Yerevan")[0] == "Armenia: capital"
    assert search("Armenia national anthem")[0] == "Armenia: anthem"
    assert search("director Battleship Potemkin")[0] == "Battleship Potemkin"
    assert search("Sergei Eisenstein born")[0] == "Sergei Eisenstein"


@claim(
    "search_qa/tell-the-kind-of-question",
    "search the name with the property, `search[Peru currency]`",
    "search the part with the proper name, `search[capital Yerevan]`",
)
def test_kinds_have_their_first_search(search):
    assert search("Peru currency")[0] == "Peru: currency"
    assert search("capital Yerevan")[0] == "Armenia: capital"


@claim("search_qa/tell-the-kind-of-question", "It names two things and a choice", "It describes a thing instead of")
def test_kinds_are_told_by_the_wording():
    choice = re.compile(r"\b(or|both|same|older|first)\b")
    shares = {}
    for kind in QUESTION_TYPES:
        asked = sample(kind)
        shares[kind] = sum(bool(choice.search(question["question"])) for question in asked) / len(asked)
    assert shares.pop("compare") > 0.9
    assert max(shares.values()) < 0.1
    described = re.compile(r"\b(that|whose|where|which|in the \w+ of|of the \w+)\b")
    asked = sample("multi_hop_reasoning")
    assert sum(bool(described.search(question["question"])) for question in asked) / len(asked) > 0.8


@claim("search_qa/take-one-hop-at-a-time", "Each fact takes one search")
def test_hops_three_and_an_answer(make):
    env = make()
    for query in ("capital Yerevan", "Armenia national anthem", "Peru capital"):
        assert not any(env.step(f"search[{query}]")[2:4])
    assert env.step("answer[Lima]")[1:4] == (1.0, True, False)


@claim("search_qa/compare-two-things", "answer with the name as the question writes it; with yes or no if")
def test_compare_answers_are_names_or_yes_and_no():
    assert exact_match("Thomas Hobbes, born in 1588", ["Thomas Hobbes"]) == 0.0
    assert exact_match("Yes, both are", ["yes"]) == 0.0
    assert exact_match("Yes.", ["yes"]) == 1.0


@claim("search_qa/compare-two-things", "half of such guesses are right, and any third answer is wrong")
def test_compare_a_guess_is_right_in_half_of_the_cases():
    asked = [q for q in sample("compare") if not set(q["golden_answers"]) & {"yes", "no"}]
    first = 0
    for question in asked:
        answers = {normalize(answer) for answer in question["golden_answers"]}
        left, _, right = normalize(question["question"]).rpartition(" or ")
        # It is one of the two names that the question writes.
        assert any(left.endswith(f" {answer}") for answer in answers) != (right in answers)
        first += right not in answers
    assert first / len(asked) == pytest.approx(0.5, abs=0.1)


# -- on the invented world ----------------------------------------------------------------------


def of_world(*kinds: str, step: int = 1) -> list[dict[str, Any]]:
    rows = open_data(LEVELS["default"]).rows
    of_kind = [row for split in ("train", "test") for row in rows[split] if row["metadata"]["kind"] in kinds]
    return of_kind[::step]


def shown(query: str) -> list[Passage]:
    (hits,) = open_corpus("invented", "default", None, "sdar/SearchQA-v0").retriever("test").search([query], 3)
    return [hit.passage for hit in hits]


def shows(query: str, passage: str) -> bool:
    return passage in [found.id for found in shown(query)]


@claim(TURNS, 'The first page says how many turns there are ("Turns: 8.")', "plan one search for each fact on the way")
def test_turns_are_said_and_do_for_every_question():
    env = SearchQAEnv(split="test")
    assert env.reset(seed=0)[0].endswith("\nTurns: 8.")
    rows = [row for of in open_data(LEVELS["default"]).rows.values() for row in of]
    assert max(row["metadata"]["hops"] for row in rows) < 8


@claim(
    "search_qa/look-up-a-property",
    "the fact may stand on the page of the other one",
    '"taught pupil lessons" for a teacher, "birthplace plaque" for a birthplace, "published catalogue" for a publisher',
)
def test_property_may_stand_on_the_page_of_the_other():
    titles = {passage.id: passage.title for passage in open_data(LEVELS["default"]).passages}
    words = {
        "person.teacher": "taught pupil lessons",
        "person.birthplace": "birthplace plaque",
        "work.publisher": "published catalogue",
    }
    by_name, by_word = [], []
    for row in of_world("lookup", "chain of 2", "chain of 3"):
        about = row["metadata"]
        for step, name, passage in zip(about["path"], about["name_queries"], about["supporting"], strict=True):
            if step in words and titles[passage] != name:
                by_name.append(shows(name, passage))
                by_word.append(shows(f"{name} {words[step]}", passage))
    assert len(by_word) > 50
    assert sum(by_word) > 0.75 * len(by_word)
    assert sum(by_word) > 3 * sum(by_name)


@claim("search_qa/find-one-fact", "`search[geologist born 1690]`")
def test_fact_a_description_finds_a_person():
    asked = of_world("described lookup", "described chain", step=6)
    assert all(shows(row["metadata"]["queries"][0], row["metadata"]["supporting"][0]) for row in asked)
    assert all(" born " in row["metadata"]["queries"][0] for row in asked)


@claim("search_qa/take-one-hop-at-a-time", "Read a nested question from its end")
def test_hops_begin_at_the_end_of_the_question():
    for row in of_world("chain of 2", "chain of 3", step=20):
        first, *later = row["metadata"]["name_queries"]
        assert row["question"].rstrip('?"').endswith(first), row
        assert not any(normalize(name) in normalize(row["question"]) for name in later)


@claim(
    "search_qa/compare-two-things",
    "Four or five names: one search for each, as they stand in the question.",
    "find each name first, then its value; one search never shows them all.",
)
def test_compare_one_search_for_each():
    for row in of_world("which of several", "bridged comparison", step=6):
        about = row["metadata"]
        assert all(shows(query, passage) for query, passage in zip(about["queries"], about["supporting"], strict=True))
        assert not {passage.id for passage in shown(row["question"])} >= set(about["supporting"])


@claim(ANSWER, "A date: day, month and year, as the passage has them. A count: digits.")
def test_answer_dates_and_counts():
    assert exact_match("July 5, 1800", ["5 July 1800"]) == 0.0
    dates = [row for row in of_world("lookup") if row["metadata"]["path"] in (["person.born"], ["person.died"])]
    contents = {passage.id: passage.contents for passage in open_data(LEVELS["default"]).passages}
    assert dates
    assert all(row["golden_answers"][0] in contents[row["metadata"]["supporting"][0]] for row in dates)
    assert all(row["golden_answers"][0].isdigit() for row in of_world("count"))
