"""What an expert says before it acts: sentence by sentence, and what it may and may not know."""

from __future__ import annotations

import pytest

import sdar_envs
from sdar_agents.sft.thoughts import household_thought, think
from sdar_envs.alfworld.instruction import read_instruction
from sdar_envs.prompt import Turn

HERE = ["go to desk 1", "go to drawer 2", "look"]
SAW = Turn("On the desk 1, you see a mug 2, a mug 1, and a pen 3.", "go to drawer 2")


def say(instruction: str, action: str, commands: list[str], observation: str = "", **given: object) -> str:
    past = given.get("past", [])
    shown = given.get("shown", 2)
    assert isinstance(past, list)
    assert isinstance(shown, int)
    mission = read_instruction(instruction)
    return household_thought(mission, past, observation, action, commands=[*commands, *HERE], shown=shown)


@pytest.mark.parametrize(
    ("instruction", "action", "commands", "thought"),
    [
        (
            "put a mug in desk.",
            "go to drawer 2",
            [],
            "I want a mug in desk. I hold nothing. I see no mug. Search: mug drawer 2.",
        ),
        (
            "put a mug in desk.",
            "open drawer 2",
            ["examine drawer 2"],
            "I want a mug in desk. I hold nothing. I see no mug. Search: mug drawer 2.",
        ),
        (
            "find two mug and put them in desk.",
            "take mug 1 from drawer 2",
            [],
            "I want two mug in desk. I hold nothing. I see mug 1.",
        ),
        ("put a mug in desk.", "look", [], "I want a mug in desk. I hold nothing. I see no mug."),
        (
            "put a mug in desk.",
            "move pen 3 to drawer 2",
            ["examine drawer 2", "examine pen 3"],
            "I want a mug in desk. I hold pen 3. I lay it down.",
        ),
        (
            "put a hot mug in desk.",
            "go to desk 1",
            ["examine mug 1"],
            "I want hot mug in desk. I hold mug 1. It is not hot. It goes to desk 1.",
        ),
        (
            "put a mug in desk.",
            "move mug 1 to desk 1",
            ["examine desk 1", "examine mug 1"],
            "I want a mug in desk. I hold mug 1.",
        ),
        (
            "look at mug under the desklamp.",
            "go to desk 1",
            [],
            "I want mug under desklamp. I hold nothing. I see no mug. Search: mug desk 1.",
        ),
        (
            "look at mug under the desklamp.",
            "go to desk 1",
            ["examine mug 1"],
            "I want mug under desklamp. I hold mug 1. I see no desklamp. Search: desklamp desk 1.",
        ),
        (
            "look at mug under the desklamp.",
            "use desklamp 1",
            ["examine mug 1"],
            "I want mug under desklamp. I hold mug 1. I see desklamp 1.",
        ),
    ],
)
def test_each_sentence(instruction: str, action: str, commands: list[str], thought: str) -> None:
    assert say(instruction, action, commands) == thought


def test_what_was_seen_is_said_only_while_the_prompt_shows_it() -> None:
    later = Turn("You arrive at drawer 2.", "open drawer 2")
    for past, shown, sentence in (
        ([SAW], 2, "I saw mug 1 in desk 1."),
        ([SAW, later], 2, "I saw mug 1 in desk 1."),
        ([SAW, later], 1, "I see no mug. Search: mug desk 1."),
        ([SAW], 0, "I see no mug. Search: mug desk 1."),
    ):
        assert say("put a mug in desk.", "go to desk 1", [], past=past, shown=shown).endswith(sentence)
    # Not what lies elsewhere, nor what is another thing.
    assert say("put a mug in desk.", "go to drawer 2", [], past=[SAW]).endswith("Search: mug drawer 2.")
    assert say("put a cd in desk.", "go to desk 1", [], past=[SAW]).endswith("Search: cd desk 1.")


def test_a_treatment_is_remembered() -> None:
    heated = "You heat the mug 1 using the microwave 1."
    commands = ["examine mug 1"]
    for given in ({"observation": heated}, {"past": [Turn(heated, "look")] * 1 + [SAW] * 5}):
        assert "It is hot." in say("put a hot mug in desk.", "go to desk 1", commands, **given)  # type: ignore[arg-type]
    other = {"past": [Turn("You heat the mug 2 using the microwave 1.", "look")]}
    assert "It is not hot." in say("put a hot mug in desk.", "go to desk 1", commands, **other)


def test_a_searcher_that_read_nothing_says_so_without_the_question() -> None:
    task = sdar_envs.tasks("sdar/SearchQA-v0", split="train", limit=1)[0]
    said = think(task, [], "", "search[x]", commands=[], shown=2)
    assert said == "I have read no passage yet. I look it up."
