"""Agents by name: the scripted ones, and classes of the user's own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sdar_agents import AGENT_NAMES, open_agent
from sdar_agents.players.players import OneAtATime
from sdar_envs.errors import InvalidOption, UnknownName

CLASSES = """
class Simple:
    def __init__(self, command="look", **rest):
        self.command = command
    def reset(self, env, observation, info, seed): ...
    def act(self, observation, info):
        return self.command

class Many:
    def __init__(self, size):
        self.size = size
    async def begin(self, env, observation, info, seed): ...
    async def close(self): ...

class Neither: ...

def function(): ...
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_agents.py").write_text(CLASSES)
    (tmp_path / "broken_agents.py").write_text("import nothing_of_that_name")
    monkeypatch.delitem(sys.modules, "own_agents", raising=False)


def test_names() -> None:
    for name in set(AGENT_NAMES) - {"openai", "transformers"}:
        entrant = open_agent(name, {}, ["sdar/ALFWorld-v0"])
        assert (entrant.name, entrant.concurrency) == (name, 1)


def test_the_default_is_the_script_of_each_suite() -> None:
    settings = open_agent("default", {}, ["sdar/ALFWorld-v0", "sdar/WebShop-v0", "toy/Any-v0"]).settings
    assert settings == {"sdar/ALFWorld-v0": "explorer", "sdar/WebShop-v0": "rule", "toy/Any-v0": "random"}


def test_your_own_class_plays_one_at_a_time_or_many() -> None:
    simple = open_agent("own_agents:Simple", {"command": "inventory"}, ())
    assert isinstance(simple.agent, OneAtATime)
    assert (simple.settings, simple.concurrency) == ({"command": "inventory"}, 1)
    many: Any = open_agent("own_agents:Many", {"size": 3}, ())
    assert (many.agent.size, many.concurrency) == (3, 16)


@pytest.mark.parametrize(
    ("error", "name", "settings", "match"),
    [
        (UnknownName, "orcale", {}, r"no agent 'orcale'; .*module:Class for your own\. Did you mean 'oracle'\?"),
        (
            UnknownName,
            "oracle",
            {"temperature": 1},
            "the oracle agent has no setting 'temperature': it has none",
        ),
        (UnknownName, "nowhere:Class", {}, r"'nowhere:Class' cannot be imported \(ModuleNotFoundError: No module"),
        (UnknownName, "broken_agents:X", {}, r"cannot be imported \(ModuleNotFoundError: .*nothing_of_that_name"),
        (UnknownName, "own_agents:Smple", {}, r"cannot be imported \(AttributeError: .*Smple"),
        (UnknownName, "own_agents:", {}, "cannot be imported"),
        (UnknownName, ":Simple", {}, "cannot be imported"),
        (UnknownName, "own_agents:function", {}, "is a function; wanted a class"),
        (UnknownName, "own_agents:Neither", {}, "is no agent: wanted the methods reset and act"),
        (InvalidOption, "own_agents:Many", {"sise": 3}, "cannot be made with .*unexpected keyword argument 'sise'"),
        (InvalidOption, "own_agents:Simple", {"password": "x"}, "'password' looks like a secret"),
        (InvalidOption, "own_agents:Simple", {"MY_TOKEN": "x"}, "'MY_TOKEN' looks like a secret"),
        (InvalidOption, "openai", {"model": "m", "extra_body": {"api-key": "x"}}, "'api-key' looks like a secret"),
    ],
)
def test_refusals(error: type[Exception], name: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(error, match=match):
        open_agent(name, settings, ["sdar/ALFWorld-v0"])
