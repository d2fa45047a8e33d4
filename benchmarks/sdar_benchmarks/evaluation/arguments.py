"""What an environment can be made with, read from its signature.

Nothing here knows an environment's arguments by name, so the commands work for any registered `TextEnv`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from sdar_envs import ENV_IDS
from sdar_envs.errors import UnknownName, did_you_mean

__all__ = ["env_class", "env_defaults", "make_env"]


def env_class(env_id: str) -> Any:
    """Return what Gymnasium calls to make the environment, usually its class.

    Raises:
        UnknownName: no such environment is registered.
    """
    if env_id not in gym.registry:
        # Gymnasium has dozens of ids of its own, none of which we can play.
        raise UnknownName(
            f"no environment {env_id!r}; the environments are {', '.join(ENV_IDS)}.{did_you_mean(env_id, ENV_IDS)}"
        )
    entry_point = gym.spec(env_id).entry_point
    return load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point


def env_defaults(env_id: str) -> dict[str, Any]:
    """Return the environment's arguments with their defaults, in the order of its signature.

    Raises:
        UnknownName: no such environment is registered.
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(env_class(env_id)).parameters.items()
        if parameter.default is not parameter.empty
    }
    return {**defaults, **gym.spec(env_id).kwargs}


def make_env(env_id: str, env_kwargs: Mapping[str, Any]) -> gym.Env[str, str]:
    """Make an environment, refusing arguments that it does not have.

    Raises:
        UnknownName: there is no such environment, or it has no such argument.
    """
    defaults = env_defaults(env_id)
    for name in env_kwargs:
        if name not in defaults:
            raise UnknownName(
                f"{env_id} has no argument {name!r}; its arguments are {', '.join(defaults)}."
                f"{did_you_mean(name, defaults)}"
            )
    # Gymnasium's own checker looks at every step; the environments are checked by their tests.
    env: gym.Env[str, str] = gym.make(env_id, disable_env_checker=True, **env_kwargs)
    return env
