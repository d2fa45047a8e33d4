"""Agents by name, with their settings: scripted ones, chat models, and `module:Class` for one of your own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from sdar_agents.baselines.scripted import AGENTS, DefaultAgent, default_agent, import_agent
from sdar_agents.engines.local import LocalPolicy
from sdar_agents.engines.policy import AsyncPolicy
from sdar_agents.engines.servers.endpoint import Endpoint
from sdar_agents.players.agent import AsyncAdapter
from sdar_agents.players.chat import ChatAgent
from sdar_agents.players.pool import AgentPool
from sdar_agents.players.skills import token_counter
from sdar_agents.skill_use.settings import open_skills
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.registry import suite_of
from sdar_envs.secrets import check_no_secrets
from sdar_envs.storage import absolute_arguments

__all__ = ["AGENT_NAMES", "EXTRAS", "MODELS", "open_agent"]

_CHATS_AT_ONCE = 16

MODELS: Mapping[str, type[AsyncPolicy]] = MappingProxyType({"openai": Endpoint, "transformers": LocalPolicy})
"""The policies that `ChatAgent` can ask, by the name of the agent that does."""

EXTRAS: Mapping[str, str] = MappingProxyType({"openai": "openai-compatible", "transformers": "transformers"})
"""The extra of `sdar-envs` that each of them needs."""

AGENT_NAMES: tuple[str, ...] = ("default", *AGENTS, *MODELS)
"""All names; `default` is the script of each suite."""


def open_agent(name: str, settings: Mapping[str, Any], env_ids: Sequence[str]) -> AgentPool:
    """Make agents by name, for evaluation.

    Args:
        name: one of `AGENT_NAMES`, or `module:Class` for a class of your own with the methods of `Agent` (called in
            threads) or of `AsyncAgent` (coroutines). An instance plays one episode at a time.
        settings: keyword arguments of the agent, such as `{"model": ..., "temperature": 0.4}`, or of your class. Files
            and folders among them, which your class names in `path_arguments`, are kept absolute.
        env_ids: what it will play.

    Raises:
        UnknownName: there is no such agent, or it has no such setting.
        InvalidOption: a setting is missing, out of range, or holds a secret (settings are recorded).
        MissingExtra: the agent needs an extra that is not installed.
    """
    check_no_secrets(settings)
    pool = _open(name, settings, env_ids)
    check_no_secrets(pool.settings)  # again: the agent has read its key, which is known now
    return pool


def _open(name: str, settings: Mapping[str, Any], env_ids: Sequence[str]) -> AgentPool:
    if ":" in name:
        return _open_class(name, settings)
    if name in MODELS:
        return _open_model(name, MODELS[name], settings, env_ids)
    if name not in AGENT_NAMES:
        raise UnknownName(
            f"no agent {name!r}; the agents are {', '.join(AGENT_NAMES)}, and module:Class for your own."
            f"{did_you_mean(name, AGENT_NAMES)}"
        )
    if settings.get("skills") is not None:
        raise InvalidOption(
            f"the {name} agent is a script, which reads no skills: choose a model with --agent {' or '.join(MODELS)}."
        )
    if settings:
        raise UnknownName(f"the {name} agent has no setting {next(iter(settings))!r}: it has none at all.")
    make = DefaultAgent if name == "default" else AGENTS[name]
    chosen = {env_id: default_agent(env_id) for env_id in env_ids} if name == "default" else {}
    return AgentPool(name, lambda: AsyncAdapter(make(), in_threads=False), settings=chosen)


def _open_model(
    name: str, make: Callable[..., AsyncPolicy], settings: Mapping[str, Any], env_ids: Sequence[str]
) -> AgentPool:
    of_policy = _keywords(make)
    of_agent = _keywords(ChatAgent)
    del of_agent["policy"]
    known = {**of_policy, **of_agent}
    for setting in settings:
        if setting not in known:
            raise UnknownName(
                f"the {name} agent has no setting {setting!r}; its settings are {', '.join(known)}."
                f"{did_you_mean(setting, known)}"
            )
    if "model" not in settings:
        raise InvalidOption(f"the {name} agent was given no model: name one with --model.")
    settings = absolute_arguments(ChatAgent, absolute_arguments(make, settings))
    policy = make(**{key: value for key, value in settings.items() if key in of_policy})
    chosen = {key: value for key, value in settings.items() if key in of_agent}
    shown: dict[str, Any] = {}
    if chosen.get("skills") is not None:
        chosen["skills"], shown["skills"] = open_skills(
            chosen["skills"], [suite_of(env_id) for env_id in env_ids], count_tokens=token_counter(policy)
        )
    make_agent = partial(ChatAgent, policy, **chosen)
    agent = make_agent()
    # Both say what became of a default such as "a GPU if there is one".
    resolved = {key: getattr(policy, key, getattr(agent, key, value)) for key, value in {**known, **settings}.items()}
    resolved |= shown
    return AgentPool(
        name,
        make_agent,
        settings={key: dict(value) if isinstance(value, Mapping) else value for key, value in resolved.items()},
        defaults=known,
        concurrency=_CHATS_AT_ONCE,
        close=policy.close,
        adaptations=policy.adaptations.to_json if isinstance(policy, Endpoint) else list,
    )


def _keywords(make: Callable[..., Any]) -> dict[str, Any]:
    """Return the parameters of a class with their defaults."""
    return {key: parameter.default for key, parameter in inspect.signature(make).parameters.items()}


def _open_class(name: str, settings: Mapping[str, Any]) -> AgentPool:
    made = import_agent(name)
    settings = absolute_arguments(made, settings)
    is_async = inspect.iscoroutinefunction(made.act)

    def make() -> Any:
        try:
            agent: Any = made(**settings)
        except TypeError as error:
            raise InvalidOption(
                f"the agent {name!r} cannot be made with the settings {dict(settings)!r}: {error}."
            ) from error
        return agent if is_async else AsyncAdapter(agent, in_threads=True)

    return AgentPool(name, make, settings=dict(settings), concurrency=_CHATS_AT_ONCE if is_async else 1)
