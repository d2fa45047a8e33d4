"""Environments by id or `module:id`, for the verbs: classes, arguments, construction (see `sdar_envs.registry`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdar_envs import TaskSource, TextEnv
from sdar_envs.registry import env_arguments as env_defaults
from sdar_envs.registry import env_creator as env_class
from sdar_envs.registry import make_text_env

__all__ = ["env_class", "env_defaults", "make_env", "splits_text"]


def make_env(env_id: str, env_kwargs: Mapping[str, Any]) -> TextEnv[Any]:
    """Make an environment, refusing arguments that it does not have.

    Args:
        env_id: a registered id, or `module:id`, which imports the module first.
        env_kwargs: the arguments, by name.

    Raises:
        UnknownName: there is no such environment, or it has no such argument.
    """
    return make_text_env(env_id, **env_kwargs)


def splits_text(source: TaskSource) -> str:
    """Return the splits of an environment with their sizes, such as `train (endless), test (500)`."""
    return ", ".join(f"{name} ({'endless' if size is None else size})" for name, size in source.splits.items())
