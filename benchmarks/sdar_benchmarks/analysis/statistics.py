"""Confidence intervals of rates and means, pass@k, and paired significance tests, clustered by task. NumPy only.

Episodes of one task are not independent, so the unit is the task: whole tasks are resampled, bet on, or have their
signs flipped. All draws are seeded: the same rows give the same numbers.

`mean_intervals` chooses the interval of a mean: that of a share (`success_interval`) if all values are 0 or 1, by bets
(`bounded_interval`) if there are few tasks or all are alike, else by bootstrap (`bootstrap_intervals`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdar_agents.training.intervals import score_interval, wilson_interval
from sdar_envs.errors import InvalidOption

__all__ = [
    "ENUMERATED_TASKS",
    "FEW_TASKS",
    "FLIPS",
    "RESAMPLES",
    "FlipTest",
    "bootstrap_intervals",
    "bounded_interval",
    "holm",
    "mean_intervals",
    "pass_at_k",
    "sign_flip_test",
    "success_interval",
    "wilson_interval",
]

RESAMPLES = 10_000
"""Resamples of a bootstrap: the Monte-Carlo error of the ends of a 95 % interval is then about 0.7 % of its width.
Fewer beyond 10,000 tasks, down to a tenth."""

ENUMERATED_TASKS = 20
"""Largest number of non-zero fractional differences for which all 2**n sign patterns are enumerated."""

FLIPS = 200_000
"""Random sign patterns beyond `ENUMERATED_TASKS`: the standard error of p is then at most 0.0011. Fewer beyond 5,000
tasks, down to a twentieth."""

FEW_TASKS = 30
"""Largest number of tasks for which a mean has an interval by bets: with fewer, those by bootstrap are too narrow."""

# Largest number of elements of a temporary array.
_CHUNK = 1 << 22
# Beyond it the distribution of a sum of whole numbers would take more than 16 MB: they are treated as fractions.
_LARGEST_WHOLE_SUM = 1_000_000
# Part of the money that is bet, with equal weights: nodes of the arcsine distribution, Beta(1/2, 1/2).
_BETS = np.sin(np.pi * (2 * np.arange(64) + 1) / 256) ** 2
_BISECTIONS = 50


def bootstrap_intervals(
    values: ArrayLike, tasks: ArrayLike, *, resamples: int | None = None, seed: int = 0
) -> NDArray[np.float64]:
    """Cluster bootstrap: 95 % percentile intervals of means, resampling whole tasks.

    A resample draws as many tasks as there are, with replacement, and takes the mean over all of their rows. The
    columns share the draws. With few tasks (below about 20) such intervals are too narrow; with one they have no
    width at all.

    Args:
        values: (N,) or (N, M), a row per episode.
        tasks: (N,) anything that tells tasks apart.
        resamples: number of draws; None for `RESAMPLES`.
        seed: of the draws.

    Returns:
        (M, 2), low and high of each column.

    Raises:
        InvalidOption: there are no rows, or not as many tasks as rows.

    Source: Efron and Tibshirani (1993), chapter 13; Cameron, Gelbach and Miller (2008), section II.
    """
    sums = _task_sums(values, tasks)
    count = len(sums)
    resamples = resamples or max(RESAMPLES // 10, min(RESAMPLES, 10**8 // count))
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, sums.shape[1] - 1))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(count, size=(size, count)) + np.arange(size)[:, None] * count
        weights = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        totals = weights @ sums
        means[start : start + size] = totals[:, :-1] / totals[:, -1:]
    result: NDArray[np.float64] = np.quantile(means, [0.025, 0.975], axis=0).T
    return result


def mean_intervals(
    values: ArrayLike,
    tasks: ArrayLike,
    *,
    low: float = 0.0,
    high: float = 1.0,
    resamples: int | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """95 % intervals of the means of bounded values, clustered by task: by the method that suits each column.

    Values that are all 0 or 1 are a share: `success_interval`. With at most `FEW_TASKS` tasks, or if all tasks are
    alike, so that a bootstrap shows no width: `bounded_interval`. Else, and for values that are not within the bounds:
    `bootstrap_intervals`.

    Args:
        values: (N,) or (N, M), a row per episode.
        tasks: (N,) anything that tells tasks apart.
        low: smallest possible value.
        high: largest possible value.
        resamples: number of the bootstrap's draws; None for `RESAMPLES`.
        seed: of the bootstrap's draws.

    Returns:
        (M, 2), low and high of each column.

    Raises:
        InvalidOption: there are no rows, or not as many tasks as rows.
    """
    columns = np.asarray(values, dtype=np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    sums = _task_sums(columns, tasks)
    means = sums[:, :-1] / sums[:, -1:]
    result = np.empty((columns.shape[1], 2))
    resampled = []
    for i, column in enumerate(columns.T):
        if (low, high) == (0, 1) and np.isin(column, (0, 1)).all():
            result[i] = success_interval(column, tasks)
        elif (len(sums) <= FEW_TASKS or np.ptp(means[:, i]) == 0) and low <= column.min() and column.max() <= high:
            result[i] = bounded_interval(column, tasks, low=low, high=high)
        else:
            resampled.append(i)
    if resampled:
        result[resampled] = bootstrap_intervals(columns[:, resampled], tasks, resamples=resamples, seed=seed)
    return result


def bounded_interval(
    values: ArrayLike, tasks: ArrayLike, *, low: float = 0.0, high: float = 1.0
) -> tuple[float, float]:
    """95 % interval of the mean of bounded values by betting, clustered by task; it holds for any number of tasks.

    Who bets a part f of their money that a value x is above m, an amount that cannot be lost twice, has
    1 - f + f x / m times as much afterwards, and no more on average if m is the mean or above it. Each part of `_BETS`
    plays with the same stake. A mean at which they own 40 times their stakes together, which has a chance of at most
    1 in 40 (Markov), is outside of the interval; so from above. The order of the tasks does not matter.

    Args:
        values: (N,) within the bounds.
        tasks: (N,) anything that tells tasks apart; a task's bet is on the sum of its rows.
        low: smallest possible value.
        high: largest possible value.

    Raises:
        InvalidOption: there are no rows, not as many tasks as rows, or a value is out of bounds.

    Source: Waudby-Smith and Ramdas (2024), JRSS B 86:1-27, sections 4 and 5; mixtures of bets: Orabona and Jun (2024),
    IEEE Transactions on Information Theory 70:436-455.
    """
    unit = (np.asarray(values, dtype=np.float64) - low) / (high - low)
    sums = _task_sums(unit, tasks)
    if not ((unit >= 0) & (unit <= 1)).all():
        raise InvalidOption(f"a value is out of bounds; wanted values from {low:g} to {high:g}.")
    totals, rows = sums[:, 0], sums[:, 1]
    ends = _lowest_mean(totals, rows), 1 - _lowest_mean(rows - totals, rows)
    return low + (high - low) * ends[0], low + (high - low) * ends[1]


def _lowest_mean(totals: NDArray[np.float64], rows: NDArray[np.float64]) -> float:
    """Return the smallest mean at which bets that tasks' sums are above it do not win 40 times the stakes."""
    # Tasks that have fewer rows than others stake less.
    share, stake = totals / rows.max(), rows / rows.max()
    bets = _BETS[:, None]
    below, above = 0.0, float(totals.sum() / rows.sum())
    if above == 0:
        return 0.0
    for _ in range(_BISECTIONS):
        middle = (below + above) / 2
        gains = np.log1p(bets * (share / middle - stake)).sum(axis=1)
        if np.logaddexp.reduce(gains) - math.log(len(_BETS)) < math.log(40):
            above = middle
        else:
            below = middle
    return above


def success_interval(successes: ArrayLike, tasks: ArrayLike) -> tuple[float, float]:
    """Wilson interval (95 %) of the success rate with the effective sample size of clustered trials.

    Seeds of one task are no independent trials. This is Wilson's interval for as many trials as would be as uncertain:
    p(1-p) / v, with v the variance of the rate between tasks, but at least the number of tasks (seeds that
    say all the same) and at most that of episodes. If each task was tried once, it is Wilson's own.

    Args:
        successes: (N,) of bool or 0 and 1.
        tasks: (N,) anything that tells tasks apart.

    Raises:
        InvalidOption: there are no rows, or not as many tasks as rows.

    Source: Dean and Pagano (2015), Journal of Survey Statistics and Methodology 3:484-503; Kish (1965), section 8.2.
    """
    won = np.asarray(successes, dtype=np.float64)
    sums = _task_sums(won, tasks)
    count, rate = len(sums), float(won.mean())
    trials = float(count)
    if count > 1:
        variance = float(np.sum((sums[:, 0] - rate * sums[:, 1]) ** 2)) * count / (count - 1) / len(won) ** 2
        # No variance says nothing about how seeds of a task correlate: the smallest number of trials is assumed.
        trials = min(max(rate * (1 - rate) / variance, count), len(won)) if variance else trials
    return score_interval(rate, trials)


def pass_at_k(attempts: ArrayLike, successes: ArrayLike, k: int) -> NDArray[np.float64]:
    """Unbiased estimate of pass@k: 1 - C(n-c, k) / C(n, k).

    Args:
        attempts: (T,) n, attempts at each task; at least k.
        successes: (T,) c, how many of them succeeded.
        k: attempts to draw.

    Returns:
        (T,) the estimate of each task.

    Raises:
        InvalidOption: k is below 1, or above the attempts at a task.

    Source: Chen et al. (2021), arXiv:2107.03374, equation 1.
    """
    n, c = np.asarray(attempts, dtype=np.int64), np.asarray(successes, dtype=np.int64)
    if k < 1 or (n < k).any():
        raise InvalidOption(f"pass@{k} of tasks with {n.min(initial=k)} attempts; wanted k from 1 to the attempts.")
    if (c < 0).any() or (c > n).any():
        raise InvalidOption("a task has more successes than attempts, or fewer than none.")
    # C(n-c, k) / C(n, k) as a product, which cannot overflow; it reaches 0 by itself if n - c < k.
    failing = np.ones(n.shape)
    for i in range(k):
        failing *= np.maximum(n - c - i, 0) / (n - i)
    result: NDArray[np.float64] = 1 - failing
    return result


@dataclass(frozen=True, slots=True)
class FlipTest:
    """Result of a sign-flip test.

    Attributes:
        p: the two-sided p-value.
        method: "exact", or "monte-carlo".
        standard_error: of p, from the Monte-Carlo draws; 0 if exact.
    """

    p: float
    method: Literal["exact", "monte-carlo"]
    standard_error: float


def sign_flip_test(differences: ArrayLike, *, seed: int = 0) -> FlipTest:
    """Sign-flip (paired permutation) test: are the differences, one per task, symmetric about zero?

    If it makes no difference which of two agents played, a task's difference could as well have the other sign. p is
    the share of all 2**n sign patterns whose sum is at least as far from 0 as the one seen. Whole numbers (successes)
    are counted exactly, up to a sum of a million, by the distribution of their sum; others exactly up to
    `ENUMERATED_TASKS` that are not 0, and by m = `FLIPS` random patterns beyond, with p = (b + 1) / (m + 1).

    Args:
        differences: (T,) of each task; sums over its seeds.
        seed: of the random patterns.

    Raises:
        InvalidOption: a difference is not finite.

    Source: Fisher (1935), section 21; Phipson and Smyth (2010), SAGMB 9:39 on the + 1.
    """
    values = np.abs(np.asarray(differences, dtype=np.float64))
    if not np.isfinite(values).all():
        raise InvalidOption("a difference is not finite: there is nothing to test.")
    seen = abs(float(np.sum(np.asarray(differences, dtype=np.float64))))
    values = values[values > 0]
    if not len(values):
        return FlipTest(1.0, "exact", 0.0)
    if values.sum() <= _LARGEST_WHOLE_SUM and (values == np.round(values)).all():
        return FlipTest(_share_of_whole_sums(values.astype(np.int64), round(seen)), "exact", 0.0)
    # Floating-point sums that are mathematically equal differ in the last bits.
    threshold = seen * (1 - 1e-12) - 1e-12 * float(values.sum())
    if len(values) <= ENUMERATED_TASKS:
        sums = np.zeros(1)
        for value in values:
            sums = np.concatenate([sums + value, sums - value])
        return FlipTest(float(np.mean(np.abs(sums) >= threshold)), "exact", 0.0)
    rng = np.random.default_rng(seed)
    flips = max(FLIPS // 20, min(FLIPS, 10**9 // len(values)))
    extreme, step = 0, max(1, _CHUNK // len(values))
    for start in range(0, flips, step):
        signs = rng.integers(2, size=(min(step, flips - start), len(values)), dtype=np.int8) * 2.0 - 1.0
        extreme += int(np.count_nonzero(np.abs(signs @ values) >= threshold))
    p = (extreme + 1) / (flips + 1)
    return FlipTest(p, "monte-carlo", math.sqrt(p * (1 - p) / flips))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's correction: p-values adjusted for the number of tests, in the order given.

    Rejecting where an adjusted value is at most 0.05 keeps the probability of any false rejection at 0.05 or below,
    however the tests depend on each other.

    Source: Holm (1979), Scandinavian Journal of Statistics 6:65-70.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def _task_sums(values: ArrayLike, tasks: ArrayLike) -> NDArray[np.float64]:
    """Return (T, M + 1): each task's sum of each of M columns, and its number of rows."""
    columns = np.asarray(values, dtype=np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    names, members = np.unique(np.asarray(tasks), return_inverse=True)
    if len(columns) == 0 or len(members) != len(columns):
        raise InvalidOption(f"{len(columns)} values of {len(members)} tasks; wanted as many of both, at least one.")
    sums = np.zeros((len(names), columns.shape[1] + 1))
    np.add.at(sums, members, np.column_stack([columns, np.ones(len(columns))]))
    return sums


def _share_of_whole_sums(values: NDArray[np.int64], seen: int) -> float:
    """Return the probability that a sum of integers with random signs is at least `seen` away from 0."""
    total = int(values.sum())
    # chances[i]: probability of the sum i - total; each number moves half of it up and half of it down.
    chances = np.zeros(2 * total + 1)
    chances[total] = 1.0
    reach = 0
    for value in values:
        inner = chances[total - reach : total + reach + 1] / 2
        reach += int(value)
        chances[total - reach : total + reach + 1] = 0
        chances[total - reach : total - reach + len(inner)] += inner
        chances[total + reach + 1 - len(inner) : total + reach + 1] += inner
    away = np.abs(np.arange(-total, total + 1)) >= seen
    return min(1.0, float(chances[away].sum()))
