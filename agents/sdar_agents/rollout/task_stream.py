"""Task sampler of a training run: the tasks of a step are a function of seed and step, so it has no state to save."""

from __future__ import annotations

from functools import lru_cache

from sdar_envs import Task
from sdar_envs.core import TaskSource
from sdar_envs.errors import InvalidOption
from sdar_envs.registry import sample_indices
from sdar_envs.rng import Rng

__all__ = ["TaskStream"]

_ENDLESS = 1_000_000_000


class TaskStream:
    """Training tasks in random order without replacement, reshuffled after each pass.

    An endless split without a `limit` is sampled from its first billion tasks.

    Args:
        source: where tasks come from.
        split: one of its splits.
        per_step: tasks in a step.
        seed: of the order.
        limit: only so many tasks of the split, `sdar_envs.registry.sample_indices`.

    Raises:
        InvalidOption: there are fewer tasks than a step needs.
    """

    def __init__(self, source: TaskSource, split: str, *, per_step: int, seed: int, limit: int | None = None) -> None:
        self._source = source
        self._split = split
        self._per_step = per_step
        self._seed = seed
        endless = source.splits[split] is None and limit is None
        self._indices = None if endless else sample_indices(source, split, limit)
        if self._indices is not None and len(self._indices) < per_step:
            raise InvalidOption(
                f"a step needs {per_step} different tasks, and there are {len(self._indices)} in {split!r}: lower "
                "tasks_per_step, or raise train_tasks."
            )
        self._order = lru_cache(maxsize=2)(self._draw_order)

    def tasks(self, step: int) -> tuple[Task, ...]:
        """Return the tasks of a step, all different; steps count from 1."""
        if self._indices is None:
            rng = Rng(f"task stream {self._seed} step {step}")
            indices: dict[int, None] = {}
            while len(indices) < self._per_step:
                indices[rng.below(_ENDLESS)] = None
            return tuple(self._source.task(self._split, index) for index in indices)
        # Whole steps only: the rest of a pass is too few for a step, which would have to repeat tasks of it.
        steps = len(self._indices) // self._per_step
        round_, place = divmod(step - 1, steps)
        order = self._order(round_)[place * self._per_step : (place + 1) * self._per_step]
        return tuple(self._source.task(self._split, index) for index in order)

    def _draw_order(self, round_: int) -> list[int]:
        assert self._indices is not None
        return Rng(f"task stream {self._seed} round {round_}").shuffled(self._indices)
