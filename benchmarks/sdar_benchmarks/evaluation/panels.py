"""Panels: which tasks of which environment are played, in which order, by which content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import gymnasium as gym

from sdar_benchmarks.evaluation.arguments import env_class, env_defaults, make_env
from sdar_envs import Task
from sdar_envs.core import text_env
from sdar_envs.errors import InvalidOption
from sdar_envs.registry import count_tasks

__all__ = ["Panel", "Suite", "evaluation_split"]


@dataclass(frozen=True, slots=True)
class Suite:
    """What to play of one environment.

    Attributes:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`.
        split: the split's name; None for the one that results are usually reported on.
        limit: only the first so many tasks; None for all. Needed for a split without end.
        env_kwargs: further arguments of the environment, such as `{"data": "official", "max_steps": 30}`.
    """

    env_id: str
    split: str | None = None
    limit: int | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)


def evaluation_split(env_id: str) -> str:
    """Return the split that results of an environment are usually reported on.

    Raises:
        UnknownName: there is no such environment.
    """
    return str(getattr(env_class(env_id), "evaluation_split", "test"))


class Panel:
    """The tasks of a suite, and environments to play them in.

    Args:
        suite: what to play.

    Attributes:
        env_id: the environment.
        split: the split.
        limit: as in the suite.
        env_kwargs: all arguments of the environment, defaults filled in.

    Raises:
        InvalidOption: the limit is not positive or missing for a split without end, or there are no tasks.
        UnknownName: there is no such environment, argument or split.
    """

    def __init__(self, suite: Suite) -> None:
        if suite.limit is not None and suite.limit < 1:
            raise InvalidOption(f"limit is {suite.limit}; wanted an integer of at least 1.")
        self.env_id = suite.env_id
        self.split: str = evaluation_split(suite.env_id) if suite.split is None else suite.split
        self.limit = suite.limit
        self._given = {**suite.env_kwargs, "split": self.split}
        self.env_kwargs = MappingProxyType({**env_defaults(suite.env_id), **self._given})
        self._idle: list[gym.Env[str, str]] = []
        env = self.take_env()
        self._source = text_env(env).source
        self._count = count_tasks(self._source, self.split, suite.limit)
        self.give_back(env)
        if not self._count:
            raise InvalidOption(f"split {self.split!r} of {self.env_id} has no tasks: there is nothing to evaluate.")

    def __len__(self) -> int:
        """Return the number of tasks."""
        return self._count

    def __iter__(self) -> Iterator[Task]:
        """Go through the tasks in the split's order."""
        return (self._source.task(self.split, index) for index in range(self._count))

    def take_env(self) -> gym.Env[str, str]:
        """Return an environment that nobody else plays in; `give_back` it when the episode is over."""
        return self._idle.pop() if self._idle else make_env(self.env_id, self._given)

    def give_back(self, env: gym.Env[str, str]) -> None:
        """Take an environment back. One that raised an error is better thrown away."""
        self._idle.append(env)

    def close(self) -> None:
        """Close the environments."""
        while self._idle:
            self._idle.pop().close()

    def to_json(self) -> dict[str, Any]:
        """Return the suite as it stands in a run's configuration."""
        return {
            "env_id": self.env_id,
            "split": self.split,
            "limit": self.limit,
            "env_kwargs": {name: _plain(value) for name, value in self.env_kwargs.items()},
            "tasks": len(self),
            **self._content(),
        }

    def _content(self) -> dict[str, str]:
        """Return what is behind the tasks, in words and as a digest.

        `variant` says, besides the task, what decides how an episode reads, such as the corpus that is searched.
        `fingerprint` is a digest of it and of each task's id, kind, instruction, first observation, and right answers
        where there are some. Both are the same on every machine, wherever the data lie.
        """
        digest, variant = hashlib.sha256(), ""
        env = self.take_env()
        for number, task in enumerate(self):
            observation, _ = env.reset(seed=0, options={"task_id": task.id})
            if not number:
                variant = text_env(env).snapshot().variant
                digest.update(variant.encode())
            row = [task.id, task.task_type, task.instruction, observation, task.data.get("answers")]
            digest.update(json.dumps(row).encode())
        self.give_back(env)
        return {"variant": variant, "fingerprint": digest.hexdigest()[:32]}


def _plain(value: Any) -> Any:
    """Return a JSON value as it is, and an object, such as a retriever of the user's own, by the name of its class."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return f"{type(value).__module__}.{type(value).__qualname__}"
    return value
