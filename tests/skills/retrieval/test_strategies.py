"""Built-in strategies: what each returns, limits, errors, determinism."""

from __future__ import annotations

import random
import re

import numpy as np
import pytest
from helpers.skill_toys import make_skill, make_task
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_skills import Library, Retrieved, make_retriever
from sdar_skills.library.budget import fit_budget

LIBRARY = Library(
    [
        make_skill("bend-knees", "lift", "Bend your knees before you lift a heavy box.", metadata={"keywords": "lift"}),
        make_skill("grip", "lift", "Grip it well.", metadata={"keywords": "lift, heavy box, crate"}),
        make_skill("lean", "push", "Lean against the wardrobe.", metadata={"keywords": "push, hat"}),
        make_skill("breathe", None, "Breathe."),
        make_skill("try-this", "lift", "A trial.", status="shadow"),
        make_skill("old-way", "lift", "Lift with your back.", status="retired"),
    ]
)
RNG = random.Random(0)


def count_words(text: str) -> int:
    return len(text.split())


def letters(texts):
    """An encoder: how often each letter occurs."""
    return np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])


def settings(name: str) -> dict[str, object]:
    return {"encoder": letters} if name == "embedding" else {}


def names(retrieved: tuple[Retrieved, ...]) -> list[str]:
    return [item.skill.name for item in retrieved]


def retrieve(name, task=None, *, k=10, token_budget=None, seed=0, library=LIBRARY, **more):
    retriever = make_retriever(name, library, **settings(name), **more)
    return retriever.retrieve(task or make_task(), k, token_budget, random.Random(seed))


def test_task_type_gives_the_types_skills_then_general_ones():
    found = retrieve("task_type")
    assert names(found) == ["bend-knees", "grip", "breathe"]
    assert [item.score for item in found] == [1.0, 1.0, 0.0]
    assert [item.why for item in found] == ["for lift", "for lift", "general"]
    assert names(retrieve("task_type", k=1)) == ["bend-knees"]
    assert retrieve("task_type", k=0) == ()


def test_task_type_does_not_look_at_the_words():
    assert names(retrieve("task_type", make_task("push", "lift the heavy box"))) == ["lean", "breathe"]


def test_keyword_ranks_by_how_much_is_said():
    found = retrieve("keyword", make_task(instruction="Lift the heavy  box."))
    assert names(found) == ["grip", "bend-knees", "breathe"]
    assert found[0].why == "the instruction says lift, heavy box"
    # One keyword each: the skill with fewer others is closer.
    assert names(retrieve("keyword", make_task(instruction="lift it"))) == ["bend-knees", "grip", "breathe"]


def test_keyword_settles_on_one_type():
    task = make_task(instruction="push the crate and lift it")
    assert names(retrieve("keyword", task)) == ["grip", "bend-knees", "breathe"]
    assert names(retrieve("keyword", make_task(instruction="push the hat, lift it"))) == ["lean", "breathe"]


def test_keyword_says_when_nothing_matched():
    found = retrieve("keyword", make_task(instruction="that is pushing it"))
    assert names(found) == ["breathe"]
    assert found[0].why == "general; no keyword of a task skill is in the instruction"


@given(st.text(st.characters(codec="utf-8"), max_size=12), st.text(st.characters(codec="utf-8"), max_size=30))
def test_keyword_matches_whole_words_only(word, instruction):
    word = " ".join(word.replace(",", " ").split())
    library = Library([make_skill("a", "lift", metadata={"keywords": word}), make_skill("b")])
    found = names(retrieve("keyword", make_task(instruction=instruction), library=library))
    text = " ".join(instruction.split())
    positions = [m.start() for m in re.finditer(f"(?={re.escape(word)})", text, flags=re.IGNORECASE)] if word else []
    inside = re.compile(r"\w")
    whole = any(
        not (i > 0 and inside.match(text[i - 1]))
        and not (i + len(word) < len(text) and inside.match(text[i + len(word)]))
        for i in positions
    )
    assert ("a" in found) == whole


def test_bm25_ranks_by_shared_words_and_leaves_out_other_task_skills():
    found = retrieve("bm25", make_task("lift", "lean on the wardrobe and breathe"))
    assert names(found) == ["lean", "breathe"]
    assert found[0].score > found[1].score > 0
    found = retrieve("bm25", make_task("lift", "zzz"))
    assert [(item.skill.name, item.score) for item in found] == [("breathe", 0.0)]
    assert found[0].why == "general; shares no word with the instruction"


def test_embedding_ranks_by_cosine():
    found = retrieve("embedding", make_task("lift", "bend knees about bend-knees"))
    assert names(found)[0] == "bend-knees"
    assert len(found) == 4
    scores = [item.score for item in found]
    assert scores == sorted(scores, reverse=True)
    assert all(-1 - 1e-12 <= score <= 1 + 1e-12 for score in scores)


def test_embedding_encodes_skills_and_instructions_once():
    texts = []

    def encoder(batch):
        texts.extend(batch)
        return letters(batch)

    retriever = make_retriever("embedding", LIBRARY, encoder=encoder)
    for _ in range(3):
        retriever.retrieve(make_task(), 2, None, RNG)
    assert len(texts) == len(set(texts)) == 4 + 1


@pytest.mark.parametrize("wrong", [lambda t: np.zeros(3), lambda t: np.zeros((1, 2)), lambda t: [[np.nan]] * len(t)])
def test_a_wrong_encoder_is_refused(wrong):
    with pytest.raises(InvalidOption, match=r"the encoder 'of the retriever' made an array of shape .* wanted"):
        make_retriever("embedding", LIBRARY, encoder=wrong).retrieve(make_task(), 1, None, RNG)


def test_a_zero_vector_is_close_to_nothing():
    found = make_retriever("embedding", LIBRARY, encoder=lambda t: np.zeros((len(t), 2))).retrieve(
        make_task(), 2, None, RNG
    )
    assert [item.score for item in found] == [0.0, 0.0]


def test_random_draws_from_the_whole_suite():
    seen = [names(retrieve("random", k=1, seed=seed))[0] for seed in range(200)]
    assert set(seen) == {"bend-knees", "grip", "lean", "breathe"}
    assert max(map(seen.count, set(seen))) < 80
    assert sorted(names(retrieve("random"))) == ["bend-knees", "breathe", "grip", "lean"]


def test_full_gives_all_and_none_nothing():
    assert names(retrieve("full")) == ["bend-knees", "grip", "breathe", "lean"]
    assert names(retrieve("full", k=3)) == ["bend-knees", "grip", "breathe"]
    assert retrieve("none") == ()
    assert retrieve("none", make_task("unheard of", suite="nowhere")) == ()


STRATEGIES = ("task_type", "keyword", "bm25", "embedding", "random", "full")


@pytest.mark.parametrize("name", STRATEGIES)
class TestEveryStrategy:
    def test_refuses_an_unknown_suite(self, name):
        with pytest.raises(UnknownName, match=r"no skills for the suite 'tov'.*Did you mean 'toy'"):
            retrieve(name, make_task(suite="tov"))

    def test_refuses_an_unknown_type(self, name):
        with pytest.raises(UnknownName, match=r"task type 'lif'.*Did you mean 'lift'"):
            retrieve(name, make_task("lif"))

    def test_never_returns_retired_skills_and_trials_only_on_request(self, name):
        task = make_task(instruction="lift a trial with your back, breathe")
        assert not {"old-way", "try-this"} & set(names(retrieve(name, task)))
        trials = names(retrieve(name, task, include_shadow=True))
        assert "old-way" not in trials
        assert ("try-this" in trials) == (name != "keyword")

    def test_refuses_bad_limits(self, name):
        for k in (-1, 1.5, True, "3"):
            with pytest.raises(InvalidOption, match="wanted the greatest number of skills"):
                retrieve(name, k=k)
        with pytest.raises(InvalidOption, match="has no token counter"):
            retrieve(name, token_budget=10)
        with pytest.raises(InvalidOption, match="wanted None or a number of tokens"):
            retrieve(name, token_budget=-1, count_tokens=count_words)

    def test_gives_no_skills_where_none_are_asked_for(self, name):
        assert retrieve(name, make_task("unheard of", suite="nowhere"), k=0) == ()

    def test_is_deterministic(self, name):
        assert retrieve(name, seed=3) == retrieve(name, seed=3)
        if name != "random":
            assert retrieve(name, seed=3) == retrieve(name, seed=4)

    @pytest.mark.parametrize("budget", [0, 1, 3, 9, 12, 13, 100])
    def test_keeps_the_budget_with_whole_skills(self, name, budget):
        task = make_task(instruction="lift it, grip it, breathe")
        if budget < 3 and name in ("task_type", "keyword", "full"):
            # "Breathe." alone would fit: a general skill in the place of the task's own, and nobody told.
            with pytest.raises(
                InvalidOption, match=f"budget is {budget}, and no skill for 'lift' fits: the shortest takes 3"
            ):
                retrieve(name, task, token_budget=budget, count_tokens=count_words, seed=1)
            assert retrieve(name, task, k=0, token_budget=budget, count_tokens=count_words) == ()
            return
        everything = retrieve(name, task, seed=1)
        found = retrieve(name, task, token_budget=budget, count_tokens=count_words, seed=1)
        assert sum(count_words(item.skill.text) for item in found) <= budget
        places = [everything.index(item) for item in found]
        assert places == sorted(places)
        # What was left out did not fit beside the better ones.
        for place, item in enumerate(everything):
            if item not in found:
                better = sum(count_words(other.skill.text) for other in found if everything.index(other) < place)
                assert better + count_words(item.skill.text) > budget


def test_a_budget_leaves_out_the_long_and_keeps_the_next():
    ranked = [Retrieved(make_skill(name, text=text), 0.0, "") for name, text in (("a", "x y z"), ("b", "x"))]
    assert names(fit_budget(ranked, 2, 2, count_words)) == ["b"]
    assert names(fit_budget(ranked, 2, 4, count_words)) == ["a", "b"]
    assert names(fit_budget(ranked, 1, 4, count_words)) == ["a"]


def test_an_encoder_with_prefixes_is_used_as_it_wants():
    seen = []

    def encode(texts):
        seen.extend(texts)
        return letters(texts)

    encoder = Encoder("e5", encode, query_prefix="query: ", passage_prefix="passage: ")
    make_retriever("embedding", LIBRARY, encoder=encoder).retrieve(make_task(), 1, None, RNG)
    assert sorted({text.partition(": ")[0] for text in seen}) == ["passage", "query"]
    assert seen[-1] == "query: lift the box."
