"""Agents by name: the scripted ones, and classes of the user's own."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from sdar_agents import AGENT_NAMES, AgentPool, Decision, open_agent
from sdar_agents.players.agent import AsyncAdapter
from sdar_envs.errors import InvalidOption, UnknownName

CLASSES = """
class Simple:
    def __init__(self, command="look", **rest):
        self.command = command
    def reset(self, env, observation, info, seed): ...
    def act(self, observation, info):
        return self.command

class Async:
    def __init__(self, size):
        self.size = size
    async def reset(self, env, observation, info, seed): ...
    async def act(self, observation, info): ...

class Mixed:
    def reset(self, env, observation, info, seed): ...
    async def act(self, observation, info): ...

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
        agents = open_agent(name, {}, ["sdar/ALFWorld-v0"])
        assert (agents.name, agents.concurrency) == (name, 1)


def test_the_default_is_the_script_of_each_suite() -> None:
    settings = open_agent("default", {}, ["sdar/ALFWorld-v0", "sdar/WebShop-v0", "toy/Any-v0"]).settings
    assert settings == {"sdar/ALFWorld-v0": "explorer", "sdar/WebShop-v0": "rule", "toy/Any-v0": "random"}


def test_your_own_class_is_plain_or_asynchronous() -> None:
    simple = open_agent("own_agents:Simple", {"command": "inventory"}, ())
    assert (simple.settings, simple.concurrency) == ({"command": "inventory"}, 1)
    agent = simple.take()
    assert isinstance(agent, AsyncAdapter)
    assert asyncio.run(agent.act("", {})) == Decision("inventory")
    several: Any = open_agent("own_agents:Async", {"size": 3}, ())
    assert (several.take().size, several.concurrency) == (3, 16)


def test_a_pool_makes_agents_when_all_play_and_uses_them_again() -> None:
    pool = open_agent("own_agents:Simple", {}, ())
    first, second = pool.take(), pool.take()
    assert first is not second
    pool.give_back(second)
    assert pool.take() is second


def test_closing_a_pool_closes_its_agents_and_what_they_share() -> None:
    closed = []

    class Closing:
        async def reset(self, *_: Any) -> None: ...

        async def act(self, *_: Any) -> Decision:
            return Decision("look")

        async def close(self) -> None:
            closed.append("agent")

    async def close() -> None:
        closed.append("shared")

    asyncio.run(AgentPool("closing", Closing, close=close).close())
    assert closed == ["agent", "shared"]


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
        (UnknownName, "own_agents:Smple", {}, r"own_agents has no 'Smple'; .*Did you mean 'Simple'\?"),
        (UnknownName, "own_agents:", {}, "'own_agents:' does not name an agent; wanted module:name"),
        (UnknownName, ":Simple", {}, "':Simple' does not name an agent"),
        (UnknownName, "own_agents:Mixed", {}, "one coroutine among reset and act"),
        (UnknownName, "own_agents:function", {}, "is a function; wanted a class"),
        (UnknownName, "own_agents:Neither", {}, "is no agent; wanted the methods reset and act"),
        (InvalidOption, "own_agents:Async", {"sise": 3}, "cannot be made with .*unexpected keyword argument 'sise'"),
        (InvalidOption, "own_agents:Simple", {"password": "x"}, "'password' looks like a secret"),
        (InvalidOption, "own_agents:Simple", {"MY_TOKEN": "x"}, "'MY_TOKEN' looks like a secret"),
        (InvalidOption, "openai", {"model": "m", "extra_body": {"api-key": "x"}}, "'api-key' looks like a secret"),
    ],
)
def test_refusals(error: type[Exception], name: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(error, match=match):
        open_agent(name, settings, ["sdar/ALFWorld-v0"])
