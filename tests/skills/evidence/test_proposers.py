"""Proposers: the template, and the strict parsing of a model's answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from sdar_envs import Task
from sdar_envs.errors import InvalidOption
from sdar_skills.evidence.experience import Draft, Episode, Step
from sdar_skills.evidence.proposers import ModelProposer, ProposalFailed
from sdar_skills.library.skill import Skill


def episode(name: str, *, won: bool, steps: int = 2) -> Episode:
    task = Task(f"alfworld/train/{name}", "sdar/ALFWorld-v0", "train", "pick", f"put a mug in drawer {name}")
    played = tuple(Step(f"You see\n\nthing {number}.", f"do {number}", number != 1) for number in range(steps))
    return Episode(name, "run-1", task, played, won)


EPISODES = [episode("a", won=True), episode("b", won=True), episode("c", won=False)]
GOOD = {"title": "Open first", "description": "Says to open.", "text": "Open it.", "scope": "kind", "episodes": ["E2"]}


def answer(*skills: Any) -> str:
    return json.dumps({"skills": skills})


class Model:
    """Answers from a list, and remembers what it was asked."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[list[dict[str, str]]] = []

    def __call__(self, messages: Sequence[dict[str, str]]) -> str:
        self.asked.append([dict(message) for message in messages])
        return self.answers[len(self.asked) - 1]


# -- a model ----------------------------------------------------------------------------------


def test_a_good_answer_becomes_a_draft() -> None:
    model = Model(answer(GOOD, {**GOOD, "scope": "all kinds", "episodes": ["E1", "E2", "E1"]}))
    drafts = ModelProposer(model, "tiny").propose(EPISODES, [])
    # Wins and losses come in turn: E2 is the loss.
    assert drafts == [
        Draft("Open first", "Says to open.", "Open it.", False, (EPISODES[2],)),
        Draft("Open first", "Says to open.", "Open it.", True, (EPISODES[0], EPISODES[2])),
    ]


def test_what_a_model_is_asked() -> None:
    model = Model(answer())
    known = [Skill("look-around", "alfworld", None, "Says to look.", "Look.")]
    long = episode("d", won=True, steps=5)
    assert ModelProposer(model, "tiny", max_steps=2, max_episodes=3).propose([*EPISODES, long], known) == []
    system, user = model.asked[0]
    assert (system["role"], user["role"]) == ("system", "user")
    assert "Kind of task: pick" in user["content"]
    assert "- look-around: Says to look." in user["content"]
    assert (
        "Episode E2, not solved: put a mug in drawer c\nYou see thing 0.\n> do 0\nYou see thing 1." in user["content"]
    )
    assert "> do 1   (not understood)" in user["content"]
    assert "E3, solved: put a mug in drawer b" in user["content"]
    assert "E4" not in user["content"]
    model = Model(answer())
    ModelProposer(model, "tiny", max_steps=2).propose([long], [])
    assert "(3 earlier steps are left out)\nYou see thing 3." in model.asked[0][1]["content"]
    assert "(none)" in model.asked[0][1]["content"]


def test_a_long_observation_is_shortened_in_sight() -> None:
    task = EPISODES[0].task
    model = Model(answer())
    ModelProposer(model, "tiny").propose([Episode("a", "r", task, (Step("x" * 700, "go"),), False)], [])
    assert f"{'x' * 600} ...\n> go" in model.asked[0][1]["content"]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ("Here you are: {}", "it is not JSON"),
        ("[]", 'it is not an object with the one key "skills"'),
        ('{"skills": [], "note": ""}', 'it is not an object with the one key "skills"'),
        ('{"skills": {}}', 'it is not an object with the one key "skills"'),
        (answer(*[GOOD] * 4), "it has 4 skills, more than 3"),
        (
            answer(GOOD, "open"),
            "skill 2 is not an object with exactly the keys title, description, text, scope, episodes",
        ),
        (answer({**GOOD, "note": ""}), "skill 1 is not an object with exactly the keys"),
        (answer({**GOOD, "text": " "}), "the text of skill 1 is not a text of 1 to 4000 characters"),
        (answer({**GOOD, "text": "x" * 4001}), "the text of skill 1 is not a text"),
        (answer({**GOOD, "title": 7}), "the title of skill 1 is not a text of 1 to 80"),
        (answer({**GOOD, "scope": "every"}), "the scope of skill 1 is 'every', not"),
        (answer({**GOOD, "scope": []}), "the scope of skill 1 is"),
        (answer({**GOOD, "episodes": ["E9"]}), "the episodes of skill 1 are not a list of some of E1, E2, E3"),
        (answer({**GOOD, "episodes": []}), "the episodes of skill 1 are not"),
        (answer({**GOOD, "episodes": [1]}), "the episodes of skill 1 are not"),
    ],
)
def test_a_bad_answer_is_sent_back_with_what_was_wrong(bad: str, problem: str) -> None:
    model = Model(bad, answer(GOOD))
    assert len(ModelProposer(model, "tiny").propose(EPISODES, [])) == 1
    *_, said, back = model.asked[1]
    assert said == {"role": "assistant", "content": bad}
    assert problem in back["content"]
    assert back["role"] == "user"


def test_after_some_bad_answers_it_gives_up() -> None:
    model = Model("no", "no", "no")
    with pytest.raises(ProposalFailed, match=r"tiny gave no valid answer in 2 attempts; the last one: it is not JSON"):
        ModelProposer(model, "tiny", attempts=2).propose(EPISODES, [])
    assert len(model.asked) == 2


def test_numbers_are_checked() -> None:
    with pytest.raises(InvalidOption, match="max_steps is 0; wanted a whole number from 1"):
        ModelProposer(Model(), "tiny", max_steps=0)
