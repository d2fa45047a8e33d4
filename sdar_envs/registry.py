"""The suites by name: registration with Gymnasium, their tasks, vectors of environments."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode

from sdar_envs.core import Task, TaskSource, TextEnv, is_integer, text_env
from sdar_envs.errors import InvalidOption
from sdar_envs.vector import TextVectorEnv

__all__ = ["ENV_IDS", "count_tasks", "make_text_env", "make_vec", "register_all", "suite_of", "tasks"]

_ENTRY_POINTS = {
    "sdar/ALFWorld-v0": "sdar_envs.alfworld.env:ALFWorldEnv",
    "sdar/WebShop-v0": "sdar_envs.webshop.env:WebShopEnv",
    "sdar/SearchQA-v0": "sdar_envs.search_qa.env:SearchQAEnv",
}

ENV_IDS: tuple[str, ...] = tuple(_ENTRY_POINTS)
"""The environments of this package."""


def register_all() -> None:
    """Tell Gymnasium about the environments. Entry points are strings: nothing heavy is imported."""
    for env_id, entry_point in _ENTRY_POINTS.items():
        if env_id not in gym.registry:
            gym.register(id=env_id, entry_point=entry_point)


def tasks(env_id: str, *, split: str, limit: int | None = None, **kwargs: Any) -> tuple[Task, ...]:
    """List a split in its fixed order: evaluation walks it, each task once.

    Args:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`.
        split: the split's name.
        limit: only the first so many tasks; needed for a split without end.
        **kwargs: as for `gymnasium.make`, for example `data="official"`.

    Raises:
        InvalidOption: the split has no end and no limit was given.
        UnknownName: there is no such split.
        gymnasium.error.Error: there is no such environment.
    """
    source = make_text_env(env_id, split=split, **kwargs).source
    return tuple(source.task(split, index) for index in range(count_tasks(source, split, limit)))


def count_tasks(source: TaskSource, split: str, limit: int | None = None) -> int:
    """Return how many tasks of a split there are to walk.

    Args:
        source: where the tasks come from.
        split: one of its splits.
        limit: only the first so many; needed for a split without end.

    Raises:
        InvalidOption: the split has no end and no limit was given, or the limit is negative.
    """
    size = source.splits[split]
    if limit is not None and limit < 0:
        raise InvalidOption(f"limit is {limit}; wanted None or a number from 0.")
    if size is None and limit is None:
        raise InvalidOption(f"split {split!r} has tasks without end: say how many with a limit.")
    return min(n for n in (size, limit) if n is not None)


def make_vec(
    env_id: str,
    num_envs: int,
    *,
    group_size: int = 1,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **kwargs: Any,
) -> TextVectorEnv:
    """Make a vector of environments in this process (see `TextVectorEnv`).

    Args:
        env_id: a registered `TextEnv`.
        num_envs: how many.
        group_size: so many consecutive environments share their tasks, for group-relative advantages.
        autoreset_mode: what happens after an episode's end, as in Gymnasium.
        **kwargs: as for `gymnasium.make`.
    """
    if not is_integer(num_envs) or num_envs < 1:
        raise InvalidOption(f"num_envs is {num_envs!r}; wanted an integer of at least 1.")
    envs = [make_text_env(env_id, **kwargs) for _ in range(num_envs)]
    vector = TextVectorEnv(envs, group_size=group_size, autoreset_mode=autoreset_mode)
    vector.spec = envs[0].spec
    return vector


def suite_of(env_id: str) -> str:
    """Return the suite of an environment's tasks, such as `alfworld`, or an empty string if it declares none.

    Args:
        env_id: a registered environment.

    Raises:
        gymnasium.error.Error: there is no such environment.
    """
    entry_point = gym.spec(env_id).entry_point
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return str(getattr(creator, "suite", ""))


def make_text_env(env_id: str, **kwargs: Any) -> TextEnv[Any]:
    """Make an environment without wrappers and without Gymnasium's checker, which looks at every step.

    Args:
        env_id: a registered `TextEnv`.
        **kwargs: as for `gymnasium.make`, without `max_episode_steps`.

    Raises:
        InvalidOption: `max_episode_steps` was given.
    """
    if "max_episode_steps" in kwargs:
        # It would add a wrapper, and what we hand out here has none.
        raise InvalidOption("max_episode_steps belongs to Gymnasium's wrapper: pass max_steps instead.")
    return text_env(gym.make(env_id, disable_env_checker=True, **kwargs))
