"""The tool classes for TRL, which need no TRL: what a model can call, and what it is told."""

import inspect
import json
import re

import pytest
from helpers.toy import CountingEnv

from sdar_envs import ChatEpisode, tasks
from sdar_envs.errors import InvalidOption
from sdar_envs.integrations.trl import (
    ALFWorldTools,
    CommandTools,
    EpisodeRollouts,
    SearchQATools,
    WebShopTools,
    episode_return,
)
from sdar_envs.prompt import STYLES
from sdar_envs.tools import ACT

TOOLS = {
    "sdar/ALFWorld-v0": (ALFWorldTools, "valid_unseen", "alfworld"),
    "sdar/WebShop-v0": (WebShopTools, "test", "webshop"),
    "sdar/SearchQA-v0": (SearchQATools, "test", "search_qa"),
}
every_suite = pytest.mark.parametrize("env_id", TOOLS)


def calls(tools):
    """Return what a model can call: what TRL makes tools of."""
    methods = inspect.getmembers(type(tools), predicate=inspect.isfunction)
    return {
        name: getattr(tools, name)
        for name, _ in methods
        if name not in ("reset", "get_reward") and not name.startswith("_")
    }


def call(tools, command):
    """Call the tool that a command is of."""
    tool = next(tool for tool in tools._episode.style.tools if tool.argument(command) is not None)
    return calls(tools)[tool.name](**{tool.parameter: tool.argument(command)})


@pytest.mark.parametrize(
    ("tools", "wanted"),
    [
        *(pytest.param(made, STYLES[suite].tools, id=suite) for made, _, suite in TOOLS.values()),
        pytest.param(lambda: CommandTools("sdar/ALFWorld-v0"), (ACT,), id="own"),
    ],
)
def test_the_tools_are_those_of_the_style(tools, wanted):
    found = calls(tools())
    assert sorted(found) == sorted(tool.name for tool in wanted)
    for tool in wanted:
        method = found[tool.name]
        assert inspect.signature(method, eval_str=True).parameters[tool.parameter].annotation is str
        described, _, arguments = inspect.getdoc(method).partition("\n\nArgs:\n")
        assert described == tool.description
        assert arguments.strip() == f"{tool.parameter}: {tool.meaning}"


@every_suite
def test_an_episode_by_tools_is_the_episode(env_id):
    made, split, _ = TOOLS[env_id]
    tools, episode = made(split=split), ChatEpisode(env_id, mode="appended", action_format="tools", split=split)
    for task in tasks(env_id, split=split, limit=3):
        row = {"task_id": task.id, "prompt": [{"role": "user", "content": ""}], "environment": task.suite}
        step = episode.reset(task_id=task.id)
        assert tools.reset(**row) == step.messages[0]["content"]
        for command in episode.env.oracle_plan():
            said, step = call(tools, command), episode.act(command)
            assert said == (step.observation if step.is_over else step.new_messages[0]["content"])
        assert tools.get_reward() == 1.0
        assert "over" in call(tools, command)
        assert tools.get_reward() == 1.0
    assert tools.reset() != ""
    assert tools.get_reward() == 0.0


def test_nothing_is_played_before_a_reset():
    assert "over" in ALFWorldTools().act("look")


@every_suite
def test_a_model_sees_no_answers(env_id):
    made, split, suite = TOOLS[env_id]
    tools = made(split=split, **({"reveal_answers": True} if suite == "search_qa" else {}))
    [task] = tasks(env_id, split=split, limit=1)
    texts = [tools.reset(task_id=task.id), call(tools, tools._episode.env.oracle_plan()[0])]
    assert not re.search("golden|supporting_hit|passage_ids|oracle|reward_info", json.dumps(texts))
    assert not [name for name in vars(tools) if not name.startswith("_")]


def test_control_tokens_of_texts_are_none():
    class Telling(CountingEnv):
        def _begin(self, task):
            return super()._begin(task) + " <|im_end|>"

        def _act(self, action):
            outcome = super()._act(action)
            return outcome._replace(observation="<|im_end|>")

    tools = CommandTools(Telling())
    assert "< |im_end|>" in tools.reset()
    assert "< |im_end|>" in tools.act("up")


def test_rollouts_want_a_turn():
    with pytest.raises(InvalidOption, match="turn_tokens is 0"):
        EpisodeRollouts("sdar/ALFWorld-v0", turn_tokens=0)
    assert episode_return(["a", "b"], [1.0, 0.0], won=[1.0, 0.0]) == [1.0, 0.0]
