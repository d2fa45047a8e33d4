"""Panels: the tasks that an evaluation plays, in a fixed order, with a fingerprint of their content."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sdar_envs import Task, TextEnv
from sdar_envs.errors import InvalidOption
from sdar_envs.registry import env_arguments, env_creator, make_text_env, open_split, sample_indices
from sdar_envs.storage import absolute_arguments

__all__ = ["Panel", "PanelSpec", "evaluation_split"]


@dataclass(frozen=True, slots=True)
class PanelSpec:
    """Specification of a panel: an environment, a split of its tasks, and how many of them.

    Attributes:
        env_id: a registered `TextEnv`, such as `sdar/ALFWorld-v0`.
        split: name of the split; None for `evaluation_split`.
        limit: only so many tasks, `sdar_envs.registry.sample_indices`; None for all. Needed for a split without end.
        env_kwargs: further arguments of the environment, such as `{"data": "official", "max_steps": 30}`.
        only: ids of the tasks to play of those that the limit leaves; None for all of them.
    """

    env_id: str
    split: str | None = None
    limit: int | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] | None = None


def evaluation_split(env_id: str, env_kwargs: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the held-out split that results of an environment are reported on by default.

    That is the one that its class declares as `evaluation_split`, else `test`. An environment whose tasks have only one
    split is evaluated on that.

    Args:
        env_id: a registered `TextEnv`.
        env_kwargs: its arguments, which may decide what splits there are.

    Raises:
        UnknownName: there is no such environment or argument, or there are several splits and the one declared is none
            of them.
    """
    env, split = open_split(env_id, env_kwargs, None)
    env.close()
    return split


class Panel:
    """Tasks of a panel, and a pool of environments to play them in.

    Args:
        spec: what to play.

    Attributes:
        env_id: id of the environment.
        split: name of the split.
        limit: as in the specification.
        only: as in the specification.
        env_kwargs: all arguments of the environment, defaults filled in, paths absolute.
        defaults: the default arguments of the environment, as JSON values.
        name: what tables call the tasks beside the split, such as `invented`; empty if the split says it all.

    Raises:
        InvalidOption: the limit is not positive or missing for a split without end, or there are no tasks.
        UnknownName: there is no such environment, argument or split.
    """

    def __init__(self, spec: PanelSpec) -> None:
        if spec.limit is not None and spec.limit < 1:
            raise InvalidOption(f"limit is {spec.limit}; wanted an integer of at least 1.")
        self.env_id = spec.env_id
        self.limit = spec.limit
        self.only = spec.only
        defaults = env_arguments(spec.env_id)
        self.defaults = {name: _plain(value) for name, value in defaults.items()}
        given = absolute_arguments(env_creator(spec.env_id), spec.env_kwargs)
        env, self.split = open_split(spec.env_id, given, spec.split)
        # An environment with one split may have no such argument.
        self._given = {**given, **({"split": self.split} if "split" in defaults else {})}
        self._idle: list[TextEnv[Any]] = []
        self.env_kwargs = MappingProxyType({**defaults, **self._given})
        self.name = env.panel_name(self.env_kwargs)
        self._source = env.source
        self._indices = sample_indices(self._source, self.split, spec.limit)
        if spec.only is not None:
            wanted = frozenset(spec.only)
            self._indices = [index for index in self._indices if self._source.task(self.split, index).id in wanted]
        self.give_back(env)
        if not self._indices:
            raise InvalidOption(f"split {self.split!r} of {self.env_id} has no tasks: there is nothing to evaluate.")

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._indices)

    def __iter__(self) -> Iterator[Task]:
        """Iterate over the tasks: all in the order of the split, or a sample in its own."""
        return (self._source.task(self.split, index) for index in self._indices)

    def take_env(self) -> TextEnv[Any]:
        """Return an environment that no other episode uses; `give_back` it when the episode is over."""
        return self._idle.pop() if self._idle else make_text_env(self.env_id, **self._given)

    def give_back(self, env: TextEnv[Any]) -> None:
        """Return an environment to the pool. Drop one that raised an error instead."""
        self._idle.append(env)

    def close(self) -> None:
        """Close the environments in the pool."""
        while self._idle:
            self._idle.pop().close()

    def to_json(self) -> dict[str, Any]:
        """Return the panel as in a run's configuration."""
        return {
            "env_id": self.env_id,
            "split": self.split,
            "limit": self.limit,
            "env_kwargs": {name: _plain(value) for name, value in self.env_kwargs.items()},
            "tasks": len(self),
            **({"name": self.name} if self.name else {}),
            **({} if self.only is None else {"only": list(self.only)}),
            **self._content(),
        }

    def _content(self) -> dict[str, Any]:
        """Return `variant` and `fingerprint`, which identify the content of the tasks, and `data_flags` if any.

        `variant` says, besides the task, what decides how an episode reads, such as the corpus that is searched.
        `fingerprint` is a digest of it and of each task's id, kind, instruction, first observation, and right answers
        where there are some. Both are the same on every machine, wherever the data lie.
        """
        digest, variant = hashlib.sha256(), ""
        env = self.take_env()
        for number, task in enumerate(self):
            observation, _ = env.reset(seed=0, options={"task_id": task.id})
            if not number:
                variant = env.variant
                digest.update(variant.encode())
            row = [task.id, task.task_type, task.instruction, observation, task.data.get("answers")]
            row += [task.data[name] for name in ("aliases", "folds_accents") if name in task.data]
            digest.update(json.dumps(row).encode())
        self.give_back(env)
        flags = dict(env.data_flags)
        content = {"variant": variant, "fingerprint": digest.hexdigest()[:32]}
        return {**content, "data_flags": flags} if flags else content


def _plain(value: Any) -> Any:
    """Return a JSON value as it is, a path as text, and any other object, such as a retriever, by its class's name."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return f"{type(value).__module__}.{type(value).__qualname__}"
    return value
