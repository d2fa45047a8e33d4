"""Report of a study, as a page and as Markdown: findings in words, tables, curves with bands, costs.

It depends on the records of the study alone, finished or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from markupsafe import Markup

from sdar_benchmarks.analysis.tables import TextTable
from sdar_benchmarks.reports.markup import Table, render
from sdar_benchmarks.reports.plot import Series, curves
from sdar_benchmarks.studies.design import Design
from sdar_benchmarks.studies.outcomes import (
    METRICS,
    PRIMARY,
    compare_arms,
    compare_with_control,
    cost_table,
    outcome_table,
    start_table,
)
from sdar_benchmarks.studies.records import CellRecord, StudyFolder
from sdar_envs.storage import write_atomic

__all__ = ["write_study_report"]

_CURVES = {
    "success": "Success of the training rollouts",
    "probe": "Habit probe: probability of the right furniture",
    "probe_with_skills": "The same with the skill in the prompt: whether it is read",
}
_LINES = 5
_LEVEL = 0.05


def write_study_report(folder: StudyFolder) -> tuple[Path, ...]:
    """Write `report.html` and `report.md` beside the records; nothing if no cell is finished.

    Returns:
        The paths of the files.

    Raises:
        InvalidOption: records do not compare, see `StudyFolder.read_cell`.
        OSError: the report cannot be written.
    """
    design, records = folder.design, folder.cells()
    if not records:
        return ()
    tables = _tables(design, records)
    findings, limits = _findings(design, records), _limits(design, records)
    notes = _notes(folder, records)
    starts = _starts(folder)
    title = f"Study {design.name}: {len(design.arms)} arms, {len(folder.complete_seeds())} complete seeds"
    page = render(
        "study.html",
        title=title,
        notes=notes,
        findings=findings,
        limits=limits,
        tables=[(name, _page_table(table)) for name, table in tables],
        charts=_charts(design, records),
        starts=_page_table(starts),
    )
    lines = [f"# {title}", "", *notes, "", "## What it shows", "", *(f"- {line}" for line in findings), ""]
    lines += ["## What it does not show", "", *(f"- {line}" for line in limits), ""]
    for name, table in [*tables, ("Starts", starts)]:
        lines += [f"## {name}", "", table.markdown(), ""]
    paths = folder.path / "report.html", folder.path / "report.md"
    write_atomic(paths[0], page)
    write_atomic(paths[1], "\n".join(lines))
    return paths


def _page_table(table: TextTable) -> Table:
    return Table(table.columns, table.rows)


def _tables(design: Design, records: Sequence[CellRecord]) -> list[tuple[str, TextTable]]:
    found = [(METRICS[metric].capitalize(), outcome_table(design, records, metric)) for metric in METRICS]
    found = [(name, table) for name, table in found if table.rows]
    starts = sorted({record.start for record in records})
    if len(starts) > 1:
        named = " / ".join(str(number) for number in starts)
        found.append(
            (f"Mean differences to {design.baseline} by start ({named}), points", start_table(design, records))
        )
    return [*found, ("Cost of a run", cost_table(design, records))]


def _starts(folder: StudyFolder) -> TextTable:
    rows = []
    names: tuple[str, ...] = ()
    for number in range(folder.design.start.seeds):
        record = folder.read_start(number)
        if record is not None:
            names = tuple(record.measured)
            rows.append((str(number), *(f"{100 * value:.1f}" for value in record.measured.values())))
    return TextTable(("start, %", *names), tuple(rows))


def _notes(folder: StudyFolder, records: Sequence[CellRecord]) -> list[str]:
    cells = folder.design.cells()
    notes = [
        f"{len(records)} of {len(cells)} cells are finished. An arm is compared on the seeds that it shares with "
        f"{folder.design.baseline}."
    ]
    if len(records) < len(cells):
        notes.append(
            "The study is unfinished. Whoever stops it where a difference looks good makes p-values too small: the "
            "number of seeds was set before."
        )
    platforms = [record.facts.get("platform", {}) for record in records]
    processors = sorted({f"{platform.get('cpu')} ({platform.get('vectors')})" for platform in platforms})
    notes.append(f"Computed on {', '.join(processors)}; on another processor the last bits differ, and so do the runs.")
    return notes


def _findings(design: Design, records: Sequence[CellRecord]) -> list[str]:
    """Return sentences on what differs from the baseline and what does not, for the primary metrics."""
    found = []
    for metric in PRIMARY:
        comparisons = compare_arms(design, records, metric)
        name = METRICS[metric]
        for comparison in comparisons:
            seeds = len(comparison.by_seed)
            told = f"{comparison.arm} {100 * comparison.mean:+.1f} points against {design.baseline}, {seeds} seeds"
            if comparison.adjusted is None:
                found.append(f"{name}, control: {told}, p {comparison.p:.3f} without correction.")
            elif comparison.adjusted <= _LEVEL:
                found.append(f"{name}: {told}, p {comparison.adjusted:.3f} by Holm: they differ.")
            else:
                found.append(f"{name}: {told}, p {comparison.adjusted:.3f} by Holm: no difference is shown.")
        found += _against_controls(design, records, metric)
    return found or [f"Nothing yet: no seed has both {design.baseline} and another arm."]


def _against_controls(design: Design, records: Sequence[CellRecord], metric: str) -> list[str]:
    """Return sentences that compare a method with its own controls."""
    told = []
    for arm in design.compared:
        for control in design.controls:
            if design.arms[control].method != design.arms[arm].method:
                continue
            found = compare_with_control(design, records, metric, arm, control)
            if found is not None:
                told.append(
                    f"{METRICS[metric]}: {arm} {100 * found.mean:+.1f} points against its control {control}, "
                    f"{len(found.by_seed)} seeds, p {found.p:.3f} without correction."
                )
    return told


def _limits(design: Design, records: Sequence[CellRecord]) -> list[str]:
    seeds = len({record.seed for record in records})
    starts = len({record.start for record in records})
    steps = max(int(record.config.get("steps", 0)) for record in records)
    limits = [
        f"Models of other sizes, other tasks, or more than {steps} steps: one tiny model learnt one kind of task.",
        f"Other starts: of them there are {starts}, and {seeds} seeds nested in them. The tests treat seeds as "
        "exchangeable; what all seeds of a start share does not average out.",
        "That methods without a difference are equal: see the power of the design, `sdar study --plan`.",
        "Which coefficients are best: those of the design are near an equal norm of gradients, and were not searched.",
    ]
    if any(record.points("probe") for record in records):
        limits.append(
            "By the habit probe alone, that a method plays better: it measures what the student has learnt of the home."
        )
    smallest = 2.0 ** (1 - seeds)
    if smallest * max(1, len(design.compared)) > _LEVEL:
        limits.append(
            f"Anything at the level of {_LEVEL}: with {seeds} seeds p is {smallest:.2g} or more, whatever the "
            "differences, and Holm's correction wants less."
        )
    return limits


def _charts(design: Design, records: Sequence[CellRecord]) -> list[tuple[str, list[Markup]]]:
    """Return charts of each curve: the methods, some at a time, then the controls, each with the baseline."""
    groups = [
        *(("methods", design.compared[i : i + _LINES]) for i in range(0, len(design.compared), _LINES)),
        *(("controls", design.controls[i : i + _LINES]) for i in range(0, len(design.controls), _LINES)),
    ]
    found = []
    for curve, title in _CURVES.items():
        figures = []
        for what, arms in groups or [("methods", ())]:
            series = [line for arm in (design.baseline, *arms) if (line := _series(records, arm, curve))]
            if series:
                figures.append(
                    curves(f"{title}, {what}", series, x_label="step", y_label="share", is_share=True, from_zero=True)
                )
        if figures:
            found.append((title, figures))
    return found


def _series(records: Sequence[CellRecord], arm: str, curve: str) -> Series | None:
    """Return the mean over seeds with its band, at the steps that all of them have."""
    lines = [dict(points) for record in records if record.arm == arm and (points := record.points(curve))]
    if not lines:
        return None
    steps = sorted(set.intersection(*(set(line) for line in lines)))
    points = [(step, fmean(line[step] for line in lines)) for step in steps]
    band = [(step, min(line[step] for line in lines), max(line[step] for line in lines)) for step in steps]
    return Series(arm, points, band=band if len(lines) > 1 else (), note=f"{len(lines)} seeds")
