"""Statistics: equal to a plain recomputation, independent of refreshes, bitwise equal after a resume."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_envs.errors import InvalidOption
from sdar_skills.evidence import ledger as ledger_module
from sdar_skills.evidence.ledger import NO_SKILL, Ledger, Position, Showing
from sdar_skills.evidence.statistics import Aggregate, Statistics
from sdar_skills.library.skill import Arm

ARMS = (NO_SKILL, Arm("toy/a", "1.0.0", "a"), Arm("toy/a", "1.0.1", "b"), Arm("toy/b", "1.0.0", "c"))
PICK = ("alfworld", "pick")


def row(
    step: int, reward: float, baseline: float = 0.0, *, arm: Arm = ARMS[1], gap: float | None = None, **changes: str
) -> Showing:
    fields = {"suite": "alfworld", "task_type": "pick", "task": "alfworld/train/0", "run": "run-1", **changes}
    return Showing(arm, step=step, strategy="ucb", reward=reward, baseline=baseline, gap=gap, time=0.0, **fields)


def test_plain_means_by_hand() -> None:
    with Ledger(None) as ledger:
        ledger.append([row(0, 1.0, 0.25, gap=0.5), row(0, 0.0, 0.25), row(4, 1.0, 0.5, gap=0.25)])
        statistics = Statistics(ledger)
        # Advantages 0.75, -0.25, 0.5: mean 1/3, squared differences 25/144 + 49/144 + 4/144 = 78/144, over 2.
        assert statistics.context(*PICK)[ARMS[1]] == pytest.approx(
            Aggregate(3, 3.0, 3.0, 2 / 3, 1 / 3, 39 / 144, 0.375, 4)
        )
        assert statistics.now == 4
        assert statistics.contexts() == (PICK,)
        assert statistics.context("alfworld", "other") == {}


def test_discount_by_hand() -> None:
    with Ledger(None) as ledger:
        ledger.append([row(0, 1.0), row(2, 0.0), row(3, 0.5, arm=ARMS[3])])
        found = Statistics(ledger, gamma=0.5).context(*PICK)[ARMS[1]]
        # At step 3 the weights are 1/8 and 1/2; relative to each other 1 and 4.
        assert found.n == 0.625
        assert found.effective_n == pytest.approx(25 / 17)
        assert found.mean_advantage == pytest.approx(0.2)
        # sum w (x - 0.2)^2 = 0.64 + 4 * 0.04 = 0.8; over 5 - 17 / 5 = 1.6.
        assert found.variance == pytest.approx(0.5)
        assert (found.showings, found.last_step) == (2, 2)


def test_one_showing_has_no_variance() -> None:
    with Ledger(None) as ledger:
        ledger.append([row(0, 1.0)])
        assert Statistics(ledger).context(*PICK)[ARMS[1]].variance is None
        # The first showing weighs nothing any more.
        ledger.append([row(5000, 0.0)])
        found = Statistics(ledger, gamma=0.5).context(*PICK)[ARMS[1]]
        assert (found.showings, found.n, found.mean_reward, found.variance) == (2, 1.0, 0.0, None)
        ledger.append([row(10000, 0.0, arm=ARMS[3])])
        assert Statistics(ledger, gamma=0.5).context(*PICK)[ARMS[1]].n == 0.0


def test_only_what_was_shown_counts() -> None:
    with Ledger(None) as ledger:
        ledger.append([row(0, 1.0), row(0, 0.0, arm=NO_SKILL), row(0, 1.0, arm=ARMS[2], task_type="heat")])
        statistics = Statistics(ledger)
        assert set(statistics.context(*PICK)) == {ARMS[1], NO_SKILL}
        assert set(statistics.context("alfworld", "heat")) == {ARMS[2]}


@pytest.mark.parametrize("gamma", [0.0, -1.0, 1.01, math.nan])
def test_gamma_out_of_range(gamma: float) -> None:
    with Ledger(None) as ledger, pytest.raises(InvalidOption, match="wanted a number above 0 and at most 1"):
        Statistics(ledger, gamma=gamma)


ROWS = st.lists(
    st.builds(
        row,
        step=st.integers(0, 40),
        reward=st.sampled_from([0.0, 0.25, 1.0, 10.0]),
        baseline=st.floats(0, 1, width=16),
        arm=st.sampled_from(ARMS),
        gap=st.none() | st.floats(-2, 2, width=16),
        task_type=st.sampled_from(["pick", "heat"]),
        run=st.sampled_from(["run-1", "run-2"]),
    ),
    min_size=1,
    max_size=40,
)


def recomputed(rows: list[Showing], arm: Arm, task_type: str, gamma: Fraction) -> Aggregate | None:
    """All in fractions, from the definitions."""
    mine = [r for r in rows if r.arm == arm and r.task_type == task_type]
    if not mine:
        return None
    now = max(r.step for r in rows)
    weights = [gamma ** (now - r.step) for r in mine]
    total, squares = sum(weights), sum(w * w for w in weights)

    def mean(values: list[float]) -> Fraction:
        return sum(w * Fraction(v) for w, v in zip(weights, values, strict=True)) / total

    advantage = mean([r.reward - r.baseline for r in mine])
    spread = sum(w * (Fraction(r.reward - r.baseline) - advantage) ** 2 for w, r in zip(weights, mine, strict=True))
    gaps = [(w, Fraction(r.gap)) for w, r in zip(weights, mine, strict=True) if r.gap is not None]
    return Aggregate(
        len(mine),
        float(total),
        float(total**2 / squares),
        float(mean([r.reward for r in mine])),
        float(advantage),
        float(spread / (total - squares / total)) if len(mine) > 1 else None,
        float(sum(w * g for w, g in gaps) / sum(w for w, _ in gaps)) if gaps else None,
        max(r.step for r in mine),
    )


@settings(max_examples=150)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 40), max_size=4), gamma=st.sampled_from([1.0, 0.9, 0.5]))
def test_aggregates_equal_a_recomputation(rows: list[Showing], cuts: list[int], gamma: float) -> None:
    with Ledger(None) as ledger:
        followed = Statistics(ledger, gamma=gamma)
        bounds = [0, *sorted(cut for cut in cuts if cut < len(rows)), len(rows)]
        for start, end in pairwise(bounds):
            ledger.append(rows[start:end])
            followed.refresh()
            followed.context(*PICK)
        at_once = Statistics(ledger, gamma=gamma)
        assert followed.position == at_once.position == ledger.position()
        for task_type in ("pick", "heat"):
            found = at_once.context("alfworld", task_type)
            # To the bit: how often somebody refreshed does not matter.
            assert followed.context("alfworld", task_type) == found
            for arm in ARMS:
                wanted = recomputed(rows, arm, task_type, Fraction(gamma))
                assert (wanted is None) == (arm not in found)
                if wanted is not None:
                    for number, exact in zip(found[arm], wanted, strict=True):
                        assert number == (None if exact is None else pytest.approx(exact, rel=1e-9, abs=1e-9))


@settings(max_examples=60)
@given(rows=ROWS, cut=st.integers(0, 40), lost=ROWS, gamma=st.sampled_from([1.0, 0.9]))
def test_a_resumed_run_equals_an_uninterrupted_one(
    rows: list[Showing], cut: int, lost: list[Showing], gamma: float
) -> None:
    rows = [r._replace(run="run-1") for r in rows]
    before, after = rows[:cut], rows[cut:]
    with Ledger(None) as straight, Ledger(None) as broken:
        straight.append(before)
        statistics = Statistics(straight, gamma=gamma)
        broken.append(before)
        checkpoint = Position(*list(broken.position()))
        # The run goes on and dies; of what it wrote after the checkpoint nothing may count.
        following = Statistics(broken, gamma=gamma)
        broken.append([r._replace(run="run-1") for r in lost])
        following.refresh()
        # It resumes with the statistics that it had.
        broken.rewind("run-1", checkpoint)
        resumed = Statistics(broken, gamma=gamma, upto=checkpoint)
        assert_same(resumed, statistics)
        straight.append(after)
        statistics.refresh()
        broken.append(after)
        for other in (resumed, following):
            other.refresh()
            assert_same(other, statistics)
        assert_same(Statistics(broken, gamma=gamma), statistics)


def assert_same(found: Statistics, wanted: Statistics) -> None:
    assert found.now == wanted.now
    assert found.contexts() == wanted.contexts()
    for context in wanted.contexts():
        assert found.context(*context) == wanted.context(*context)


def test_one_run_or_all() -> None:
    with Ledger(None) as ledger:
        ledger.append([row(3, 1.0), row(100, 0.0, run="run-2")])
        only = Statistics(ledger, gamma=0.9, run="run-1")
        assert (only.now, only.context(*PICK)[ARMS[1]].n) == (3, 1.0)
        assert Statistics(ledger, gamma=0.9).context(*PICK)[ARMS[1]].n == pytest.approx(1 + 0.9**97)


def test_a_ledger_longer_than_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "_ROWS_AT_ONCE", 7)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.append([row(step, step % 2, run=f"run-{step % 3}") for step in range(21)])
        middle = ledger.position()
        statistics = Statistics(ledger)
        assert statistics.context(*PICK)[ARMS[1]].showings == 21
        ledger.append([row(step, 0.0) for step in range(10)])
        statistics.refresh()
        assert statistics.context(*PICK)[ARMS[1]].showings == 31
        # Back to a moment that was passed.
        statistics.refresh(upto=middle)
        assert statistics.context(*PICK)[ARMS[1]].showings == 21
        assert statistics.position == middle
        assert Statistics(ledger, run="run-2", upto=middle).context(*PICK)[ARMS[1]].showings == 7
