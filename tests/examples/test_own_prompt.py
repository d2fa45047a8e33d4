"""A prompt style of one's own, as an object and as a file."""

import sys
from pathlib import Path

import pytest

import sdar_envs
from sdar_envs import parse_completion, render_messages, resolve_style

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def style(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield resolve_style("own_prompt:BRIEF")
    sys.modules.pop("own_prompt", None)


def test_object_and_file_are_the_same_style(style):
    assert resolve_style("own_prompt.yaml") == style


def test_an_episode_is_played_in_this_style(style):
    env = sdar_envs.make_text_env("sdar/ALFWorld-v0", split="valid_seen")
    observation, info = env.reset(seed=0)
    (message,) = render_messages(style, info["instruction"], [], observation, info["admissible_commands"])
    assert message["content"].startswith("You are a robot in a house. Reason in a line")
    assert "<action>" not in message["content"]
    command = env.oracle_plan()[0]
    parsed = parse_completion(f"I begin. [{command.upper()}]", style)
    assert (parsed.action, parsed.is_well_formed, parsed.reasoning) == (command, True, "I begin. ")
    assert env.step(parsed.action)[-1]["is_action_valid"]
    assert not parse_completion("I would look around.", style).is_well_formed


def test_a_template_file_is_a_style_too(style):
    episode = sdar_envs.ChatEpisode("sdar/ALFWorld-v0", style="own_prompt.jinja2", split="valid_seen")
    step = episode.reset(seed=0)
    assert step.messages[0]["content"].startswith(f"You are a robot in a house. {step.observation}\n\nChoose one")
    assert "\n- help" not in step.messages[0]["content"]
    command = episode.env.oracle_plan()[0]
    step = episode.step(f"<think>I begin.</think><action>{command}</action>")
    assert step.is_action_valid
    assert f"each with what came of it:\n1. {command} -> {step.observation}\n\nChoose" in step.messages[0]["content"]
