"""Discounted statistics of the ledger: mean reward, advantage and gap of each skill version in each task type.

A showing of step s has the weight gamma ** (now - s), where now is the latest step that was read. All runs share this
clock; select one with `run` if they do not run at the same time.

Rows are added one by one in the order of the ledger, so the results do not depend on the times of refreshing: a run
that resumes from a checkpoint gets bitwise the same floats as an uninterrupted one.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from sdar_envs.errors import InvalidOption
from sdar_skills.evidence.ledger import Ledger, Position
from sdar_skills.library.skill import Arm

__all__ = ["Aggregate", "Statistics"]


class Aggregate(NamedTuple):
    """Statistics of an arm in one context (suite and task type).

    Attributes:
        showings: number of showings.
        n: sum of their weights; equal to `showings` without a discount.
        effective_n: effective sample size, (sum of weights)^2 / sum of squared weights.
        mean_reward: weighted mean reward.
        mean_advantage: weighted mean of reward minus baseline.
        variance: variance of the advantage, unbiased for these weights (n - 1 in the denominator without a discount);
            None with fewer than two showings of non-zero weight.
        mean_gap: weighted mean of the teacher-student gap, nats per token, over the showings that have one; else None.
        last_step: step of the latest showing.
    """

    showings: int
    n: float
    effective_n: float
    mean_reward: float
    mean_advantage: float
    variance: float | None
    mean_gap: float | None
    last_step: int


class Statistics:
    """Incremental statistics of a ledger.

    Args:
        ledger: the ledger to read.
        gamma: discount per training step, above 0 and at most 1; 1 is for a policy that does not change.
        run: only this run; None for all.
        upto: initial position to read to; None for the end.

    Raises:
        InvalidOption: gamma is out of range, or the position is of another ledger.
    """

    def __init__(
        self, ledger: Ledger, *, gamma: float = 1.0, run: str | None = None, upto: Position | None = None
    ) -> None:
        if not 0 < gamma <= 1:
            raise InvalidOption(f"gamma is {gamma!r}; wanted a number above 0 and at most 1.")
        self.gamma = gamma
        self._ledger = ledger
        self._run = run
        self._lock = threading.RLock()
        self._clear()
        self.refresh(upto=upto)

    def _clear(self) -> None:
        self._now = 0
        self._position: Position | None = None
        self._tallies: dict[tuple[str, str], dict[Arm, _Tally]] = {}
        self._by_number: dict[tuple[int, int], _Tally] = {}
        self._aggregates: dict[tuple[str, str], Mapping[Arm, Aggregate]] = {}

    @property
    def position(self) -> Position:
        """Position to which the ledger was read."""
        assert self._position is not None
        return self._position

    @property
    def now(self) -> int:
        """Latest training step that was read; 0 if there is none."""
        return self._now

    def refresh(self, *, upto: Position | None = None) -> None:
        """Read new rows of the ledger.

        Args:
            upto: position to read to, which may lie before the present one; None for the end.

        Raises:
            InvalidOption: the position is of another ledger.
        """
        with self._lock:
            while True:
                batch = self._ledger.read(self._position, upto, self._run)
                if batch.starts_anew:
                    self._clear()
                if batch.rows:
                    self._aggregates = {}
                    self._add(batch.rows)
                self._position = batch.position
                if batch.is_last:
                    return

    def context(self, suite: str, task_type: str) -> Mapping[Arm, Aggregate]:
        """Return the statistics of every arm that was shown for a task type, as a read-only mapping."""
        key = (suite, task_type)
        with self._lock:
            found = self._aggregates.get(key)
            if found is None:
                tallies = self._tallies.get(key, {})
                found = MappingProxyType({arm: self._aggregate(tally) for arm, tally in tallies.items()})
                self._aggregates[key] = found
            return found

    def contexts(self) -> tuple[tuple[str, str], ...]:
        """Return the suites and task types with showings, sorted."""
        with self._lock:
            return tuple(sorted(self._tallies))

    def _add(self, rows: list[tuple[int, int, int, int, float, float, float | None]]) -> None:
        by_number, gamma, now = self._by_number, self.gamma, self._now
        for _, arm, context, step, reward, baseline, gap in rows:
            tally = by_number.get((arm, context))
            if tally is None:
                tally = self._new_tally(arm, context)
            now = max(now, step)
            tally.add(step, reward, reward - baseline, gap, gamma)
        self._now = now

    def _new_tally(self, arm: int, context: int) -> _Tally:
        tally = self._by_number[arm, context] = _Tally()
        self._tallies.setdefault(self._ledger.context(context), {})[self._ledger.arm(arm)] = tally
        return tally

    def _aggregate(self, tally: _Tally) -> Aggregate:
        return Aggregate(
            showings=tally.showings,
            n=tally.weight * self.gamma ** (self._now - tally.last),
            effective_n=tally.weight * tally.weight / tally.squares,
            mean_reward=tally.reward,
            mean_advantage=tally.advantage,
            # The denominator is sum w - sum w^2 / sum w, without its cancellation.
            variance=tally.spread * tally.weight / (2 * tally.pairs) if tally.pairs else None,
            mean_gap=tally.gap if tally.gap_weight else None,
            last_step=tally.last,
        )


class _Tally:
    """Running weighted means and variance (Welford), relative to the arm's own latest step.

    A later step scales all sums down; a showing of an earlier step, from another process, is added with less weight.

    Source: D. H. D. West, Updating mean and variance estimates, CACM 1979.
    """

    __slots__ = ("advantage", "gap", "gap_weight", "last", "pairs", "reward", "showings", "spread", "squares", "weight")

    def __init__(self) -> None:
        self.showings = 0
        self.last = 0
        self.weight = self.squares = self.pairs = 0.0  # sums of w, w^2, and w v over all pairs of showings
        self.reward = self.advantage = self.spread = 0.0
        self.gap = self.gap_weight = 0.0

    def add(self, step: int, reward: float, advantage: float, gap: float | None, gamma: float) -> None:
        weight = 1.0
        if step > self.last:
            factor = gamma ** (step - self.last)
            self.weight *= factor
            self.squares *= factor * factor
            self.pairs *= factor * factor
            self.spread *= factor
            self.gap_weight *= factor
            self.last = step
        elif step < self.last:
            weight = gamma ** (self.last - step)
        before = self.weight
        self.showings += 1
        self.weight += weight
        self.squares += weight * weight
        self.pairs += weight * before
        share = weight / self.weight
        self.reward += share * (reward - self.reward)
        difference = advantage - self.advantage
        self.advantage += share * difference
        self.spread += share * before * difference * difference
        if gap is not None and weight:
            self.gap_weight += weight
            self.gap += weight / self.gap_weight * (gap - self.gap)
