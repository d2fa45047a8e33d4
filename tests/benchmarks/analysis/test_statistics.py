"""Numbers against published ones, closed forms and SciPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_agents.training.intervals import score_interval
from sdar_benchmarks.analysis import statistics
from sdar_benchmarks.analysis.statistics import (
    FlipTest,
    bootstrap_intervals,
    bounded_interval,
    mean_intervals,
    pass_at_k,
    sign_flip_test,
    success_interval,
    wilson_interval,
)
from sdar_envs.errors import InvalidOption

# -- success ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson_interval(trials - successes, trials)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (3, 7), (50, 134), (134, 134), (99_000, 10**6)])
def test_wilson_interval_is_scipys(successes: int, trials: int) -> None:
    wanted = scipy.stats.binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx((wanted.low, wanted.high), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("trials", [1, 7, 134, 10**6])
def test_wilson_interval_ends_are_exact(trials: int) -> None:
    assert wilson_interval(0, trials)[0] == 0.0
    assert wilson_interval(trials, trials)[1] == 1.0


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (2, 1), (-1, 3)])
def test_wilson_interval_refuses_impossible_counts(successes: int, trials: int) -> None:
    with pytest.raises(InvalidOption, match=f"{successes} successes in {trials} trials"):
        wilson_interval(successes, trials)


def test_each_task_once_is_wilsons() -> None:
    successes = [True] * 3 + [False] * 5
    assert success_interval(successes, [f"t{i}" for i in range(8)]) == wilson_interval(3, 8)


def test_seeds_that_say_all_the_same_count_once() -> None:
    # Between 8 tasks, all variance is there: 8/7 of p(1-p)/8, so 7 trials, but never below the number of tasks.
    tasks = np.repeat(np.arange(8), 5)
    assert success_interval(np.repeat([1, 1, 1, 0, 0, 0, 0, 0], 5), tasks) == wilson_interval(3, 8)
    assert success_interval(np.ones(40), tasks) == wilson_interval(8, 8)
    assert success_interval(np.zeros(40), tasks) == wilson_interval(0, 8)
    assert success_interval([1, 1, 0], ["x"] * 3) == pytest.approx(score_interval(2 / 3, 1))


def test_seeds_that_differ_within_tasks_count_as_trials() -> None:
    # Every task is won every second time: no variance between tasks at all, and none that seeds share.
    tasks = np.repeat(np.arange(10), 2)
    low, high = success_interval(np.tile([1, 0], 10), tasks)
    assert (low, high) == wilson_interval(5, 10)  # no variance: the least is assumed
    won = np.tile([1, 0], 10)
    won[:3] = [1, 1, 1]
    low, high = success_interval(won, tasks)
    assert (low, high) == pytest.approx(wilson_interval(int(won.sum()), 20))  # almost none: as many as episodes


def test_effective_trials_by_hand() -> None:
    # Tasks of 2 seeds: 2, 2, 0, 1 won. p = 5/8; (s - 2p)² sums to 2·(3/4)² + (5/4)² + (1/4)² = 2.75;
    # v = 2.75 · 4/3 / 64 = 0.057292; p(1-p)/v = 4.0909 trials.
    low, high = success_interval([1, 1, 1, 1, 0, 0, 1, 0], [0, 0, 1, 1, 2, 2, 3, 3])
    assert (low, high) == pytest.approx(score_interval(5 / 8, 4.090909090909091), rel=1e-12)


def test_the_interval_covers_what_it_says() -> None:
    """30 tasks of beta-distributed difficulty, 4 seeds: 95 % of 2,000 intervals should hold the true rate."""
    rng = np.random.default_rng(0)
    tasks = np.repeat(np.arange(30), 4)
    covered = pooled = 0
    for _ in range(2000):
        difficulty = rng.beta(0.6, 0.9, size=30)
        won = rng.random((30, 4)) < difficulty[:, None]
        low, high = success_interval(won.ravel(), tasks)
        covered += low <= 0.4 <= high
        low, high = wilson_interval(int(won.sum()), 120)
        pooled += low <= 0.4 <= high
    assert 0.93 <= covered / 2000 <= 0.97
    # The naive interval, for which seeds are trials, is far too narrow.
    assert pooled / 2000 < 0.85


# -- bootstrap --------------------------------------------------------------------------------


def test_bootstrap_is_scipys() -> None:
    values = np.random.default_rng(3).gamma(2.0, size=60)
    [(low, high)] = bootstrap_intervals(values, np.arange(60))
    wanted = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(4)
    ).confidence_interval
    width = wanted.high - wanted.low
    assert low == pytest.approx(wanted.low, abs=0.03 * width)
    assert high == pytest.approx(wanted.high, abs=0.03 * width)


def test_bootstrap_of_tasks_is_scipys_of_task_means() -> None:
    # With as many seeds for each task, the mean of all is the mean of the tasks' means.
    rng = np.random.default_rng(5)
    values = rng.normal(size=(40, 1)) + 0.1 * rng.normal(size=(40, 6))
    [(low, high)] = bootstrap_intervals(values.ravel(), np.repeat(np.arange(40), 6))
    wanted = scipy.stats.bootstrap(
        (values.mean(axis=1),), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(6)
    ).confidence_interval
    assert (low, high) == pytest.approx((wanted.low, wanted.high), abs=0.03 * (wanted.high - wanted.low))
    [(naive_low, naive_high)] = bootstrap_intervals(values.ravel(), np.arange(240))
    assert (high - low) / (naive_high - naive_low) > 2


def test_bootstrap_of_few_tasks_in_closed_form() -> None:
    # Three tasks with sums 0, 1, 5 and 1, 1, 2 rows: 27 equally likely resamples, all counted here.
    sums, rows = np.array([0.0, 1.0, 5.0]), np.array([1, 1, 2])
    means = [sums[list(drawn)].sum() / rows[list(drawn)].sum() for drawn in itertools.product(range(3), repeat=3)]
    [(low, high)] = bootstrap_intervals([0.0, 1.0, 2.0, 3.0], ["a", "b", "c", "c"], resamples=200_000)
    assert low == np.quantile(means, 0.025, method="inverted_cdf") == 0.0
    assert high == np.quantile(means, 0.975, method="inverted_cdf") == 2.5


def test_bootstrap_columns_and_seeds() -> None:
    values = np.random.default_rng(1).normal(size=(30, 2))
    both = bootstrap_intervals(values, np.arange(30), seed=7)
    assert both.shape == (2, 2)
    assert both[0] == pytest.approx(bootstrap_intervals(values[:, 0], np.arange(30), seed=7)[0], abs=1e-12)
    assert (both == bootstrap_intervals(values, np.arange(30), seed=7)).all()
    assert (both != bootstrap_intervals(values, np.arange(30), seed=8)).any()


def test_bootstrap_in_pieces_is_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    values, tasks = np.random.default_rng(1).normal(size=50), np.repeat(np.arange(25), 2)
    whole = bootstrap_intervals(values, tasks, resamples=999)
    monkeypatch.setattr(statistics, "_CHUNK", 1000)
    assert bootstrap_intervals(values, tasks, resamples=999) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(("values", "tasks"), [([], []), ([1.0, 2.0], ["a"])])
def test_bootstrap_refuses(values: list[float], tasks: list[str]) -> None:
    with pytest.raises(InvalidOption, match="wanted as many of both, at least one"):
        bootstrap_intervals(values, tasks)


# -- bounded means ----------------------------------------------------------------------------


@pytest.mark.parametrize("support", [(0.0, 0.5, 1.0), (0.0, 0.1, 0.9), (0.2, 0.25, 1.0)])
@pytest.mark.parametrize("count", [2, 7, 12])
def test_bounded_interval_covers_the_mean_of_any_distribution(support: Sequence[float], count: int) -> None:
    # Every sample of so many draws from three values, with its exact probability.
    samples = [(i, j, count - i - j) for i in range(count + 1) for j in range(count + 1 - i)]
    ends = np.array([bounded_interval(np.repeat(support, sample), range(count)) for sample in samples])
    shares = [0.02, 0.1, 0.3, 0.5, 0.8, 0.96]
    for share in itertools.product(shares, shares):
        chances = [share[0], share[1], 1 - sum(share)]
        if chances[2] <= 0:
            continue
        mean = float(np.dot(support, chances))
        covers = (ends[:, 0] <= mean) & (mean <= ends[:, 1])
        probability = scipy.stats.multinomial(count, chances).pmf(samples)
        assert probability.sum() == pytest.approx(1)
        # Each end is wrong in at most 2.5 % of all samples.
        assert probability @ covers >= 0.95
        assert probability @ (ends[:, 0] > mean) <= 0.025
        assert probability @ (ends[:, 1] < mean) <= 0.025


def test_bounded_interval_narrows() -> None:
    widths = []
    for count in (5, 20, 80, 320, 1280):
        low, high = bounded_interval(np.tile([0.2, 0.4, 0.3, 0.3, 0.3], count // 5), range(count))
        assert low < 0.3 < high
        widths.append(high - low)
    assert all(wide > 1.6 * narrow for wide, narrow in itertools.pairwise(widths[1:]))
    # Wider than the interval of a normal distribution, but not by much.
    assert 1 < widths[-1] / (2 * 1.96 * math.sqrt(0.004 / 1280)) < 2


def test_bounded_interval_of_tasks_and_bounds() -> None:
    values = [0.1, 0.6, 0.4, 0.9, 1.0]
    alone = bounded_interval(values, range(5))
    # Seeds that all say the same say nothing more.
    assert bounded_interval(np.repeat(values, 3), np.repeat(range(5), 3)) == pytest.approx(alone)
    assert bounded_interval(values[::-1], range(5)) == pytest.approx(alone)
    scaled = bounded_interval([2 * value - 1 for value in values], range(5), low=-1, high=1)
    assert scaled == pytest.approx([2 * end - 1 for end in alone])
    # A task with fewer seeds weighs less, and the mean over all rows is inside.
    low, high = bounded_interval([0.0, 1.0, 1.0, 1.0], ["a", "b", "b", "b"])
    assert low < 0.75 < high
    with pytest.raises(InvalidOption, match="wanted values from 0 to 1"):
        bounded_interval([0.5, 1.5], range(2))


def test_mean_intervals_choose_by_the_values() -> None:
    shares = [0.0] * 24
    assert tuple(mean_intervals(shares, range(24))[0]) == success_interval(shares, range(24))
    few = np.random.default_rng(2).random(30)
    assert tuple(mean_intervals(few, range(30))[0]) == bounded_interval(few, range(30))
    many = np.random.default_rng(2).random(31)
    assert (mean_intervals(many, range(31)) == bootstrap_intervals(many, range(31))).all()
    same = [0.5] * 200
    [(low, high)] = mean_intervals(same, range(200))
    assert 0.4 < low < 0.5 < high < 0.6
    # Values without bounds, such as returns of one's own environment.
    beyond = [1.0, 2.0, 4.0]
    assert (mean_intervals(beyond, range(3)) == bootstrap_intervals(beyond, range(3))).all()
    both = mean_intervals(np.column_stack([few, np.ones(30)]), range(30))
    assert both[0] == pytest.approx(bounded_interval(few, range(30)))
    assert both[1] == pytest.approx(wilson_interval(30, 30))
    assert mean_intervals([0.0] * 30, range(30), low=-1)[0] == pytest.approx([-0.153, 0.153], abs=0.01)


# -- pass@k -----------------------------------------------------------------------------------


@given(st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_all_draws(case: tuple[int, int, int]) -> None:
    n, c, k = case
    draws = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k([n], [c], k)[0] == pytest.approx(sum(map(any, draws)) / len(draws), abs=1e-12)


def test_pass_at_k_in_closed_form() -> None:
    assert pass_at_k([10, 10, 200], [0, 10, 1], 1) == pytest.approx([0.0, 1.0, 1 / 200])
    assert pass_at_k([200], [100], 100)[0] == pytest.approx(1 - 1 / math.comb(200, 100), abs=1e-15)
    assert pass_at_k([10_000], [3], 5000)[0] == pytest.approx(
        1 - math.comb(9997, 5000) / math.comb(10_000, 5000), rel=1e-12
    )


@pytest.mark.parametrize(("n", "c", "k"), [([3], [1], 4), ([3], [1], 0), ([3], [4], 1), ([3], [-1], 1)])
def test_pass_at_k_refuses(n: list[int], c: list[int], k: int) -> None:
    with pytest.raises(InvalidOption):
        pass_at_k(n, c, k)


# -- sign flips -------------------------------------------------------------------------------


@pytest.mark.parametrize(("plus", "minus"), [(9, 1), (1, 9), (5, 5), (0, 7), (400, 330), (1, 0)])
def test_success_differences_are_the_exact_binomial_test(plus: int, minus: int) -> None:
    # With one seed, a task differs by 1 or not at all: McNemar's exact test.
    test = sign_flip_test([1.0] * plus + [-1.0] * minus + [0.0] * 50)
    wanted = scipy.stats.binomtest(plus, plus + minus).pvalue
    assert test == FlipTest(pytest.approx(wanted, rel=1e-9), "exact", 0.0)


def scipys_p(differences: list[float]) -> float:
    return scipy.stats.permutation_test(
        (np.array(differences),), np.sum, permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    ).pvalue


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(st.integers(-4, 4), st.integers(-1024, 1024).map(lambda n: n / 1024)), max_size=10))
def test_small_cases_are_all_sign_patterns(differences: list[float]) -> None:
    # Multiples of 1/1024 add up without rounding.
    values = np.array(differences, dtype=float)
    signs = np.array(list(itertools.product([1, -1], repeat=len(values))))
    share = np.mean(np.abs(signs @ values) >= abs(values.sum()))
    assert sign_flip_test(values).p == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_exact_is_scipys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for values in (rng.normal(0.3, 1, size=12), rng.integers(-3, 5, size=14).astype(float)):
        # SciPy doubles the smaller tail; both are the same, because the distribution is symmetric.
        assert sign_flip_test(values).p == pytest.approx(scipys_p(values), rel=1e-9)


def test_monte_carlo_says_how_sure_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(2).normal(0.4, 1, size=20)
    exact = sign_flip_test(values)
    monkeypatch.setattr(statistics, "ENUMERATED_TASKS", 19)
    drawn = sign_flip_test(values)
    assert (exact.method, drawn.method) == ("exact", "monte-carlo")
    assert drawn.standard_error == pytest.approx(math.sqrt(drawn.p * (1 - drawn.p) / statistics.FLIPS))
    assert abs(drawn.p - exact.p) < 4 * drawn.standard_error
    assert sign_flip_test(values, seed=1).p != drawn.p == sign_flip_test(values).p


def test_many_whole_differences_are_still_exact() -> None:
    # 3,000 tasks of three seeds; the normal approximation is good to three digits here.
    values = np.random.default_rng(0).integers(-3, 4, size=3000).astype(float)
    values[:60] = 3
    test = sign_flip_test(values)
    wanted = 2 * scipy.stats.norm.sf((abs(values.sum()) - 0.5) / math.sqrt((values**2).sum()))
    assert test.method == "exact"
    assert test.p == pytest.approx(wanted, rel=0.02)


def test_p_is_uniform_if_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    ps = [sign_flip_test(rng.normal(size=12)).p for _ in range(400)]
    assert scipy.stats.kstest(ps, "uniform").pvalue > 0.01


def test_no_difference_and_no_number() -> None:
    assert sign_flip_test([0.0, 0.0]) == FlipTest(1.0, "exact", 0.0)
    # The distribution of their sum would take a terabyte.
    assert sign_flip_test([1e11, 1.0, 1.0]) == FlipTest(0.25, "exact", 0.0)
    assert sign_flip_test([]) == FlipTest(1.0, "exact", 0.0)
    assert sign_flip_test([0.1, -0.1, 0.3, -0.3]).p == 1.0
    with pytest.raises(InvalidOption, match="not finite"):
        sign_flip_test([1.0, math.nan])
