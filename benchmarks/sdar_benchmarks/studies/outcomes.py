"""Outcomes of a study: paired differences to the baseline by seed, exact tests with Holm's correction, power.

The unit is the seed: an arm and the baseline share its start, its tasks and its random numbers. Each metric is a family
of tests of its own, of the methods that are compared; controls are tested without correction, beside them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from sdar_agents.training.config import TrainConfig
from sdar_benchmarks.analysis.statistics import holm, sign_flip_test
from sdar_benchmarks.analysis.tables import TextTable
from sdar_benchmarks.studies.design import Design
from sdar_benchmarks.studies.records import CellRecord, normalised_area

__all__ = [
    "METRICS",
    "PRIMARY",
    "Comparison",
    "Plan",
    "compare_arms",
    "compare_with_control",
    "cost_table",
    "metric_values",
    "outcome_table",
    "plan",
    "power",
    "start_table",
]

METRICS: Mapping[str, str] = {
    "area": "area under the success of the training rollouts",
    "probe": "habit probe",
    "end": "success at the end, greedy",
    "end_with_skills": "success at the end with skills",
    "end_cool": "success at the end, sampled",
}
"""What arms are compared by, and what it is; the first two are primary."""

PRIMARY = ("area", "probe")
"""The metrics that findings are about."""

# Curve of a metric, and how many of its last points count; None for as many as the design says.
_ENDS = {
    "probe": ("probe", None),
    "end": ("greedy", None),
    "end_with_skills": ("with_skills", 1),
    "end_cool": ("cool", 1),
}
_SIMULATIONS = 2_000
_MOST_PATTERNS = 1 << 12
_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """An arm compared with the baseline by one metric.

    Attributes:
        arm: its name.
        metric: one of `METRICS`.
        by_seed: differences, arm minus baseline.
        p: of the exact sign-flip test.
        adjusted: p corrected for the number of methods (Holm); None for a control.
    """

    arm: str
    metric: str
    by_seed: tuple[float, ...]
    p: float
    adjusted: float | None

    @property
    def mean(self) -> float:
        """The mean difference."""
        return fmean(self.by_seed)


def metric_values(design: Design, records: Sequence[CellRecord], metric: str) -> dict[str, dict[int, float]]:
    """Return the value of a metric by arm and seed, where it was measured and means the same for the arm.

    Args:
        design: of the study.
        records: of finished cells.
        metric: one of `METRICS`.
    """
    last = design.measures.last
    values: dict[str, dict[int, float]] = {arm: {} for arm in design.arms}
    for record in records:
        if metric == "area":
            found = normalised_area(record.points("success"))
        else:
            curve, count = _ENDS[metric]
            found = record.mean_of_last(curve, count or last)
        # Where the student reads skills in training, its success there is that of another task.
        if found is not None and not (metric == "area" and _reads_skills(design, record.arm)):
            values[record.arm][record.seed] = found
    return {arm: by_seed for arm, by_seed in values.items() if by_seed}


def _reads_skills(design: Design, arm: str) -> bool:
    return bool(design.config(arm, 0, ".").make_algorithm().student_sees_skills)


def compare_arms(design: Design, records: Sequence[CellRecord], metric: str) -> list[Comparison]:
    """Compare all arms with the baseline by one metric, on the seeds that both have.

    Args:
        design: of the study.
        records: of finished cells.
        metric: one of `METRICS`.
    """
    values = metric_values(design, records, metric)
    pairs = {
        arm: tuple(_differences(values, arm, design.baseline).values()) for arm in values if arm != design.baseline
    }
    pairs = {arm: differences for arm, differences in pairs.items() if differences}
    tests = {arm: sign_flip_test(differences).p for arm, differences in pairs.items()}
    family = [arm for arm in design.compared if arm in tests]
    adjusted = dict(zip(family, holm([tests[arm] for arm in family]).tolist(), strict=True)) if family else {}
    return [Comparison(arm, metric, pairs[arm], tests[arm], adjusted.get(arm)) for arm in design.arms if arm in pairs]


def compare_with_control(
    design: Design, records: Sequence[CellRecord], metric: str, arm: str, control: str
) -> Comparison | None:
    """Compare a method with one of its controls by one metric, on the seeds that both have; None if there are none.

    p is not corrected.

    Args:
        design: of the study.
        records: of finished cells.
        metric: one of `METRICS`.
        arm: the method.
        control: the control.
    """
    by_seed = tuple(_differences(metric_values(design, records, metric), arm, control).values())
    return Comparison(arm, metric, by_seed, sign_flip_test(by_seed).p, None) if by_seed else None


def _differences(values: Mapping[str, Mapping[int, float]], arm: str, base: str) -> dict[int, float]:
    """Return the differences of two arms by seed, where both have one."""
    ours, theirs = values.get(arm, {}), values.get(base, {})
    return {seed: ours[seed] - theirs[seed] for seed in sorted(ours) if seed in theirs}


def outcome_table(design: Design, records: Sequence[CellRecord], metric: str) -> TextTable:
    """Return a table of one metric: mean and range of each arm, and its differences to the baseline, in per cent."""
    values = metric_values(design, records, metric)
    compared = {found.arm: found for found in compare_arms(design, records, metric)}
    rows = []
    for arm, by_seed in values.items():
        rates = list(by_seed.values())
        row = [f"{100 * fmean(rates):.1f} ({100 * min(rates):.1f} to {100 * max(rates):.1f})"]
        found = compared.get(arm)
        if found is None:
            row += ["–"] * 4
        else:
            row += [
                f"{100 * found.mean:+.1f}",
                ", ".join(f"{100 * value:+.1f}" for value in found.by_seed),
                f"{found.p:.3f}",
                "control" if found.adjusted is None else f"{found.adjusted:.3f}",
            ]
        rows.append((arm, str(len(rates)), *row))
    head = ("arm", "seeds", "mean (range), %", f"minus {design.baseline}", "by seed", "p", "p, Holm")
    return TextTable(head, tuple(rows))


def start_table(design: Design, records: Sequence[CellRecord]) -> TextTable:
    """Return a table of the mean differences to the baseline by start, in points: `a / b` of each arm and metric."""
    starts = {record.seed: record.start for record in records}
    numbers = sorted(set(starts.values()))
    columns = {}
    for metric in METRICS:
        values = metric_values(design, records, metric)
        columns[metric] = {arm: _differences(values, arm, design.baseline) for arm in values}
    rows = []
    for arm in design.arms:
        cells = []
        for by_arm in columns.values():
            found = by_arm.get(arm, {})
            parts = [[value for seed, value in found.items() if starts[seed] == number] for number in numbers]
            cells.append(" / ".join(f"{100 * fmean(part):+.1f}" if part else "–" for part in parts))
        if arm != design.baseline and any(by_arm.get(arm) for by_arm in columns.values()):
            rows.append((arm, *cells))
    return TextTable(("arm", *(METRICS[metric] for metric in columns)), tuple(rows))


def cost_table(design: Design, records: Sequence[CellRecord]) -> TextTable:
    """Return a table of what a run of each arm cost on average, and of the sizes of its gradients."""
    rows = []
    for arm in design.arms:
        found = [record for record in records if record.arm == arm]
        if not found:
            continue
        ratios = [value for record in found for _, value in record.points("gradient_ratio")]
        rows.append(
            (
                arm,
                *(f"{fmean(r.costs.get(name, 0.0) for r in found):,.0f}" for name in ("tokens", "teacher_tokens")),
                f"{fmean(r.costs['cpu_seconds'] for r in found):,.0f}",
                f"{fmean(ratios):.2f}" if ratios else "–",
            )
        )
    head = ("arm", "tokens", "tokens of the teacher", "processor seconds", "gradient of distillation / policy")
    return TextTable(head, tuple(rows))


# -- before it runs -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study can show, and what it costs.

    Attributes:
        table: power by metric and number of seeds.
        notes: sentences on it.
    """

    table: TextTable
    notes: tuple[str, ...]


def plan(design: Design, records: Sequence[CellRecord] = ()) -> Plan:
    """Return the power of a design by the spread of its pilot, and its cost; nothing is run.

    Args:
        design: of the study.
        records: of finished cells; their spread is shown beside the pilot's, and is not used to choose the seeds.
    """
    comparisons = len(design.compared)
    rows = []
    notes = []
    counts = sorted({max(2, design.seeds - 4), max(2, design.seeds - 2), design.seeds, design.seeds + 2})
    for metric, pilot in design.pilot.items():
        low, high = _sd_interval(pilot.sd, pilot.pairs)
        notes.append(
            f"{METRICS.get(metric, metric)}: a pilot of {pilot.pairs} pairs had a standard deviation of "
            f"{100 * pilot.sd:.1f} points (95 % interval {100 * low:.1f} to {100 * high:.1f})."
        )
        for sd in (pilot.sd, 2 * pilot.sd):
            cells = [power(seeds, pilot.effect / sd, comparisons) for seeds in counts]
            rows.append(
                (
                    f"{metric}, {100 * pilot.effect:g} points, sd {100 * sd:.1f}",
                    *(f"{alone:.2f} / {corrected:.2f}" for alone, corrected in cells),
                )
            )
    for metric in METRICS:
        seen = [found for found in compare_arms(design, records, metric) if len(found.by_seed) > 2]
        if seen:
            spreads = ", ".join(f"{found.arm} {100 * stdev(found.by_seed):.1f}" for found in seen)
            notes.append(f"Standard deviations seen so far, {metric}: {spreads}.")
    notes.append(
        f"With {design.seeds} seeds the smallest possible p is {2.0 ** (1 - design.seeds):.2g}, and Holm's correction "
        f"for {comparisons} methods wants {_LEVEL / max(1, comparisons):.2g} of the first."
    )
    notes.append(_cost(design))
    head = ("power alone / by Holm", *(f"{seeds} seeds" for seeds in counts))
    return Plan(TextTable(head, tuple(rows)), tuple(notes))


def _cost(design: Design) -> str:
    cells = design.cells()
    told = f"{len(cells)} cells: {len(design.arms)} arms, {design.seeds} seeds, {design.start.seeds} starts"
    if design.cost is None:
        return f"{told}."
    cost = design.cost
    seconds = {}
    for arm in design.arms:
        config: TrainConfig = design.config(arm, 0, ".")
        step = cost.teacher_step if config.make_algorithm().needs_teacher else cost.step
        seconds[arm] = config.all_steps * step + (design.measures.last + 2) * cost.evaluation
    starts = design.start.seeds * (cost.start + 4 * cost.evaluation)
    hours = (sum(seconds[cell.arm] for cell in cells) + starts) / 3600
    return f"{told}; about {hours:.1f} hours of one processor, {sum(seconds.values()) / 3600:.1f} for each seed."


def power(seeds: int, effect: float, comparisons: int) -> tuple[float, float]:
    """Return the power of the exact sign-flip test: of one comparison alone, and of the only real one by Holm.

    Simulated with normal differences, the same draws each time; the standard error is at most 0.011.

    Args:
        seeds: number of pairs.
        effect: mean of the differences over their standard deviation.
        comparisons: size of the family.
    """
    real = np.random.default_rng(0).normal(size=(_SIMULATIONS, seeds)) + effect
    p = np.stack([_flip_p(real), *_null_p(seeds, max(0, comparisons - 1))])
    alone = float((p[0] <= _LEVEL).mean())
    # The real one is rejected if it is at a place in the order whose bound, and all bounds before it, are kept.
    order = np.argsort(p, axis=0, kind="stable")
    bounds = _LEVEL / (len(p) - np.arange(len(p)))[:, None]
    kept = np.cumprod(np.take_along_axis(p, order, axis=0) <= bounds, axis=0).astype(bool)
    corrected = float((kept & (order == 0)).any(axis=0).mean())
    return alone, corrected


@cache
def _null_p(seeds: int, comparisons: int) -> list[NDArray[np.float64]]:
    """Return the p-values of comparisons without a difference."""
    rng = np.random.default_rng(1)
    return [_flip_p(rng.normal(size=(_SIMULATIONS, seeds))) for _ in range(comparisons)]


def _flip_p(differences: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the two-sided p of each row `(simulations, seeds)`; of random patterns beyond 13 seeds."""
    seeds = differences.shape[1]
    if 1 << (seeds - 1) <= _MOST_PATTERNS:
        # Those in which the first sign stays; the others are as extreme as these.
        bits = np.arange(1 << (seeds - 1))[:, None] >> np.arange(-1, seeds - 1).clip(0)
        bits[:, 0] = 0
    else:
        bits = np.random.default_rng(1).integers(2, size=(_MOST_PATTERNS, seeds))
        bits[0] = 0
    sums = np.abs(differences @ (1.0 - 2.0 * (bits & 1)).T)
    seen = np.abs(differences.sum(axis=1))[:, None]
    p: NDArray[np.float64] = (sums >= seen * (1 - 1e-12)).mean(axis=1)
    return p


def _sd_interval(sd: float, pairs: int) -> tuple[float, float]:
    """Return the 95 % interval of a standard deviation of normal differences, by simulated chi-squares."""
    squares = np.random.default_rng(0).chisquare(pairs - 1, size=200_000)
    low, high = np.quantile(squares, [0.025, 0.975])
    return sd * float(np.sqrt((pairs - 1) / high)), sd * float(np.sqrt((pairs - 1) / low))
