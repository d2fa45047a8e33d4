"""Agents by name, with their settings: scripted ones, models, and `module:Class` for your own."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from sdar_agents.baselines.scripted import AGENTS, default_agent
from sdar_agents.engines.endpoint import Endpoint
from sdar_agents.players.chat import ChatAgent, Model
from sdar_agents.players.local import LocalModel
from sdar_agents.players.players import AsyncAgent, OneAtATime, Player
from sdar_envs.core import text_env
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean

__all__ = ["AGENT_NAMES", "MODELS", "Entrant", "open_agent"]

_SECRET = re.compile(r"(^|[_-])(key|secret|password|passwd|token|credentials?|authorization)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entrant:
    """An agent that takes part in an evaluation.

    Attributes:
        name: as it was asked for.
        settings: all of them, as JSON values; no secrets.
        agent: plays.
        concurrency: how many episodes it should play at once unless somebody says otherwise.
    """

    name: str
    settings: Mapping[str, Any]
    agent: AsyncAgent
    concurrency: int


MODELS: Mapping[str, type[Model]] = MappingProxyType({"openai": Endpoint, "transformers": LocalModel})
"""The models that `ChatAgent` can ask, by the name of the agent that does."""

AGENT_NAMES: tuple[str, ...] = ("default", *AGENTS, *MODELS)
"""All names; `default` is the script of each suite."""


class DefaultAgent:
    """The script that was written for the suite; `random` if there is none."""

    def __init__(self) -> None:
        self._agents: dict[str, OneAtATime] = {}

    async def begin(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> Player:
        """Give the episode to the script of its suite."""
        name = default_agent(text_env(env).task.env)
        agent = self._agents.setdefault(name, OneAtATime(AGENTS[name], in_threads=False))
        return await agent.begin(env, observation, info, seed)

    async def close(self) -> None:
        """Let the scripts go."""
        self._agents.clear()


def open_agent(name: str, settings: Mapping[str, Any], env_ids: Sequence[str]) -> Entrant:
    """Make an agent by name.

    Args:
        name: one of `AGENT_NAMES`, or `module:Class` for a class of your own: an `AsyncAgent`, if it has `begin`, else
            an `Agent`, which is called in threads, each instance for one episode at a time.
        settings: arguments of the agent, such as `{"model": ..., "temperature": 0.4}`; of your class, what it is
            made with.
        env_ids: what it will play.

    Raises:
        UnknownName: there is no such agent, or it has no such setting.
        InvalidOption: a setting is missing or out of range, or what it needs is not installed.
    """
    _refuse_secrets(settings)
    if ":" in name:
        return _open_class(name, settings)
    if name in MODELS:
        return _open_model(name, MODELS[name], settings)
    if name not in AGENT_NAMES:
        raise UnknownName(
            f"no agent {name!r}; the agents are {', '.join(AGENT_NAMES)}, and module:Class for your own."
            f"{did_you_mean(name, AGENT_NAMES)}"
        )
    if settings:
        raise UnknownName(f"the {name} agent has no setting {next(iter(settings))!r}: it has none at all.")
    if name == "default":
        return Entrant(name, {env_id: default_agent(env_id) for env_id in env_ids}, DefaultAgent(), concurrency=1)
    return Entrant(name, {}, OneAtATime(AGENTS[name], in_threads=False), concurrency=1)


def _refuse_secrets(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        if _SECRET.search(name):
            raise InvalidOption(
                f"the setting {name!r} looks like a secret, and settings are written into the run folder: put "
                "it into an environment variable (the openai agent takes its name as api_key_env)."
            )
        if isinstance(value, Mapping):
            _refuse_secrets(value)


def _open_model(name: str, make: Callable[..., Model], settings: Mapping[str, Any]) -> Entrant:
    of_model = _keywords(make)
    of_agent = _keywords(ChatAgent)
    known = {**of_model, **of_agent}
    for setting in settings:
        if setting not in known:
            raise UnknownName(
                f"the {name} agent has no setting {setting!r}; its settings are {', '.join(known)}."
                f"{did_you_mean(setting, known)}"
            )
    if "model" not in settings:
        raise InvalidOption(f"the {name} agent was given no model: name one with --model.")
    try:
        model = make(**{key: value for key, value in settings.items() if key in of_model})
    except ModuleNotFoundError as error:
        raise InvalidOption(str(error)) from error
    agent = ChatAgent(model, **{key: value for key, value in settings.items() if key in of_agent})
    # A model says what became of a default such as "an accelerator if there is one".
    resolved = {key: getattr(model, key, value) for key, value in {**known, **settings}.items()}
    resolved = {key: dict(value) if isinstance(value, Mapping) else value for key, value in resolved.items()}
    return Entrant(name, resolved, agent, concurrency=16)


def _keywords(make: Callable[..., Any]) -> dict[str, Any]:
    """Return what can be set, with the defaults; `model` of a `ChatAgent` is no setting but an object."""
    parameters = inspect.signature(make).parameters
    return {key: parameter.default for key, parameter in parameters.items() if make is not ChatAgent or key != "model"}


def _open_class(name: str, settings: Mapping[str, Any]) -> Entrant:
    module_name, _, class_name = name.partition(":")
    if os.getcwd() not in sys.path:
        # A console script does not look into the folder where it was started; whoever writes an agent expects it.
        sys.path.insert(0, os.getcwd())
    try:
        made: Any = importlib.import_module(module_name)
        for part in class_name.split("."):
            made = getattr(made, part)
    except Exception as error:
        raise UnknownName(
            f"the agent {name!r} cannot be imported ({type(error).__name__}: {error}); wanted module:Class, "
            "the module as `import` finds it from here."
        ) from error
    if not isinstance(made, type):
        raise UnknownName(f"the agent {name!r} is a {type(made).__name__}; wanted a class.")
    if hasattr(made, "begin"):
        return Entrant(name, dict(settings), _make(name, made, settings), concurrency=16)
    if not (hasattr(made, "reset") and hasattr(made, "act")):
        raise UnknownName(
            f"the class {name!r} is no agent: wanted the methods reset and act (an Agent), or begin and close "
            "(an AsyncAgent); see sdar_agents.Agent and sdar_agents.AsyncAgent."
        )
    agent = OneAtATime(lambda: _make(name, made, settings), in_threads=True)
    return Entrant(name, dict(settings), agent, concurrency=1)


def _make(name: str, made: type, settings: Mapping[str, Any]) -> Any:
    try:
        return made(**settings)
    except TypeError as error:
        raise InvalidOption(f"the agent {name!r} cannot be made with {dict(settings)!r}: {error}.") from error
