"""Environments by name, for the commands: their classes, arguments and construction (see `sdar_envs.registry`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdar_envs import TextEnv
from sdar_envs.registry import env_arguments as env_defaults
from sdar_envs.registry import env_creator as env_class
from sdar_envs.registry import make_text_env

__all__ = ["env_class", "env_defaults", "make_env"]


def make_env(env_id: str, env_kwargs: Mapping[str, Any]) -> TextEnv[Any]:
    """Make an environment, refusing arguments that it does not have.

    Raises:
        UnknownName: there is no such environment, or it has no such argument.
    """
    return make_text_env(env_id, **env_kwargs)
