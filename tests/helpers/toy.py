"""Toy environment for tests: reach a number by `up`, `down` and `double`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sdar_envs.core import Outcome, Task, TextEnv, index_from_id
from sdar_envs.errors import UnknownName


class Numbers:
    """`toy/valid/0000` to `toy/valid/0029`, and a stream `toy/train/0000`, ... without end."""

    splits: Mapping[str, int | None] = {"train": None, "valid": 30}

    def task(self, split: str, index: int) -> Task:
        start, target = (int(n) for n in np.random.default_rng([index, split == "valid"]).integers(10, size=2))
        return Task(
            id=f"toy/{split}/{index:04d}",
            env="toy/Counting-v0",
            split=split,
            task_type="count_up" if target >= start else "count_down",
            instruction=f"Make it {target}.",
            data={"start": start, "target": target},
        )

    def find(self, task_id: str) -> Task:
        for split, size in self.splits.items():
            if task_id.startswith(prefix := f"toy/{split}/"):
                return self.task(split, index_from_id(task_id, prefix, size))
        raise UnknownName(f"no task {task_id[:200]!r}; ids look like 'toy/valid/0007'.")


class CountingEnv(TextEnv[int]):
    """Shows a number; the task is to make it another one."""

    def __init__(self, *, split: str = "valid", max_steps: int = 8, render_mode: str | None = None) -> None:
        super().__init__(Numbers(), split=split, max_steps=max_steps, render_mode=render_mode)

    def _begin(self, task: Task) -> str:
        self._number = int(task.data["start"])
        return f"It is {self._number}. {task.instruction}"

    def _act(self, action: str) -> Outcome:
        valid = action in self._commands()
        if valid:
            self._number += {"up": 1, "down": -1, "double": self._number}[action]
        won = self._number == self.task.data["target"]
        words = f"It is {self._number}." if valid else f"{action[:20]!r} is no command."
        return Outcome(words, float(won), won, won, valid)

    def _commands(self) -> list[str]:
        return ["double", "down", "up"]

    def _save(self) -> int:
        return self._number

    def _load(self, task: Task, state: int) -> None:
        self._number = state

    def _env_id(self) -> str:
        return "toy/Counting-v0"

    def _extra_info(self) -> dict[str, Any]:
        return {"number": self._number, "trace": {"parity": self._number % 2, "digits": list(str(self._number))}}
