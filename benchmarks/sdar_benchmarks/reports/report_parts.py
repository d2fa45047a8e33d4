"""Tables and charts of reports: success by turn, histograms, summaries by task type, training curves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from markupsafe import Markup

from sdar_benchmarks.analysis.statistics import success_interval
from sdar_benchmarks.analysis.summary import PanelSummary, Summary, summarize, summarize_panel
from sdar_benchmarks.analysis.turns import EpisodeTurns, action_kinds, losses, shares_by_turn
from sdar_benchmarks.records.metrics import Point, smoothed, thinned
from sdar_benchmarks.records.runs import Episode
from sdar_benchmarks.reports.markup import Cell, Table
from sdar_benchmarks.reports.plot import Series, curves, histogram, interval_bar, number

__all__ = [
    "PanelPart",
    "ends_table",
    "group_tables",
    "panel_charts",
    "summary_table",
    "training_charts",
    "turn_charts",
    "turn_tables",
    "won_by_group",
]

Metrics = Mapping[str, Sequence[Point]]

# Points of the chart of success by turn.
_MOST_TURNS = 400
# Span of the moving average of training curves, as a share of the steps.
_SMOOTHED = 1 / 30


@dataclass(frozen=True, slots=True)
class PanelPart:
    """What a report shows of one panel.

    Attributes:
        title: environment and split.
        tables: above the charts.
        charts: of `panel_charts`.
        notes: warnings.
        means: sentences with means over groups.
        tables_below: below the charts.
    """

    title: str
    tables: Sequence[Table]
    charts: Sequence[Markup]
    notes: Sequence[str] = ()
    means: Sequence[str] = ()
    tables_below: Sequence[Table] = ()


# -- tables -----------------------------------------------------------------------------------

_COLUMNS = (
    "episodes",
    "won",
    "95 % interval",
    "",
    "score",
    "95 % interval",
    "steps",
    "if won",
    "malformed",
    "cut",
    "invalid",
)


def summary_table(groups: Sequence[tuple[str, Sequence[Episode]]], what: str) -> Table:
    """Return a table with a row for each group of episodes; `what` names the groups."""
    has_cost = False
    rows = []
    for name, episodes in groups:
        numbers = summarize(episodes)
        has_cost |= numbers.cost is not None
        tokens = [count for episode in episodes if (count := _tokens(episode)) is not None]
        rows.append(
            (
                name,
                *_cells(numbers),
                f"{fmean(tokens):,.0f}" if tokens else "–",
                f"{numbers.mean_seconds:,.2f}",
                str(numbers.errors),
                "–" if numbers.cost is None else number(numbers.cost),
            )
        )
    head = (what, *_COLUMNS, "tokens", "seconds", "errors", "cost")
    caption = "Means per episode" + (", cost of all episodes" if has_cost else "")
    return Table(head, rows, caption) if has_cost else Table(head[:-1], [row[:-1] for row in rows], caption)


def _cells(numbers: Summary) -> tuple[Cell, ...]:
    """Return the cells of `_COLUMNS`."""
    shares = (numbers.malformed_share, numbers.truncated_share, numbers.invalid_share)
    low, high = numbers.success_interval
    return (
        f"{numbers.episodes:,}",
        f"{numbers.success_rate:.1%}",
        f"{100 * low:.1f}–{100 * high:.1f}",
        interval_bar(numbers.success_rate, low, high),
        f"{numbers.mean_score:.3f}",
        "{:.3f}–{:.3f}".format(*numbers.score_interval),
        f"{numbers.mean_steps:.1f}",
        "–" if numbers.mean_steps_won is None else f"{numbers.mean_steps_won:.1f}",
        *("–" if share is None else f"{share:.1%}" for share in shares),
    )


def _tokens(episode: Episode) -> int | None:
    counts = [n for n in (episode.prompt_tokens, episode.completion_tokens) if n is not None]
    return sum(counts) if counts else None


def group_tables(summary: PanelSummary) -> list[Table]:
    """Return a table by task type and, if there are several, one by data set."""
    groups = [("task type", summary.task_types)]
    if len(summary.data_sets) > 1:
        groups.append(("data set", summary.data_sets))
    return [
        Table(
            (what, *_COLUMNS),
            [(name, *_cells(numbers)) for name, numbers in {**parts, "all": summary.total}.items()],
            caption=f"By {what}",
            last_is_total=True,
        )
        for what, parts in groups
    ]


def ends_table(episodes: Sequence[Episode]) -> Table:
    """Return a table of how episodes ended, errors with their types."""
    groups: dict[tuple[str, str], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault((episode.stop_reason, str((episode.error or {}).get("type", ""))), []).append(episode)
    rows = [
        (reason, kind, f"{len(group):,}", f"{len(group) / len(episodes):.1%}", f"{sum(e.is_success for e in group):,}")
        for (reason, kind), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return Table(("end", "error", "episodes", "share", "won"), rows, words=2, caption="How episodes ended")


def won_by_group(groups: Sequence[tuple[str, Sequence[Episode]]], what: str) -> list[Table]:
    """Return a table of the success of several runs by `task type` or `data set`; none if there are not two of them."""
    of_runs = []
    for name, episodes in groups:
        summary = summarize_panel(name, "", episodes)
        of_runs.append(summary.task_types if what == "task type" else summary.data_sets)
    names = sorted({name for parts in of_runs for name in parts})
    if len(names) < 2:
        return []
    rows = [
        (name, *("{1}  ({2})".format(*_cells(parts[name])) if name in parts else "–" for parts in of_runs))
        for name in names
    ]
    return [Table((what, *(name for name, _ in groups)), rows, caption=f"Won by {what}, with 95 % intervals")]


def turn_tables(episodes: Sequence[EpisodeTurns]) -> list[Table]:
    """Return a table of where lost episodes end, by task type, and one of the actions by kind."""
    tables = []
    lost = losses(episodes)
    if lost:
        head = (
            "task type",
            "end",
            "lost",
            "of",
            "a quarter by turn",
            "half by",
            "three quarters by",
            "failed",
            "first at",
        )
        rows = [
            (
                row.task_type,
                ", ".join(f"{reason} {count}" for reason, count in row.ends.items()),
                f"{row.lost:,}",
                f"{row.episodes:,}",
                *(number(turn) for turn in row.quartiles),
                f"{row.failing:.0%}",
                _median(row.first_failing),
                _median(row.progress),
                f"{row.reached:.3f}",
                f"{row.repeated:.0%}",
            )
            for row in lost
        ]
        tables.append(
            Table(
                (*head, "last progress at", "score", "repeating"),
                rows,
                caption="Where lost episodes end: turns by which they had ended, share of them with a failing turn and "
                "with one action repeated at the end, medians of turns",
                words=2,
                last_is_total=len(lost) > 1,
            )
        )
    if any(episode.turns for episode in episodes):
        rows_of_kinds = [
            (
                row.kind,
                f"{row.number:,}",
                f"{row.share:.1%}",
                "–" if row.invalid is None else f"{row.invalid:.1%}",
                *("–" if mean is None else f"{mean:.1f}" for mean in (row.won, row.lost)),
            )
            for row in action_kinds(episodes)
        ]
        columns = ("action", "number", "share", "invalid", "in a won episode", "in a lost one")
        tables.append(Table(columns, rows_of_kinds, caption="Actions by kind; means per episode"))
    return tables


def _median(turn: float | None) -> str:
    return "–" if turn is None else number(turn)


# -- charts -----------------------------------------------------------------------------------


def panel_charts(groups: Sequence[tuple[str, Sequence[Episode]]]) -> list[Markup]:
    """Return the charts of one panel, of one run or several: success by turn, and histograms."""

    def samples(value: Callable[[Episode], float | None]) -> dict[str, list[float]]:
        return {name: [v for e in episodes if (v := value(e)) is not None] for name, episodes in groups}

    charts = [_success_by_turn(groups)]
    for title, label, is_whole, value in (
        ("Steps", "steps in an episode", True, lambda e: e.steps),
        ("Tokens", "tokens in an episode, read and written", True, _tokens),
        ("Time", "seconds for an episode", False, lambda e: e.seconds),
    ):
        found = samples(value)
        if any(found.values()):
            charts.append(histogram(title, found, x_label=label, is_whole=is_whole))
    return charts


def turn_charts(episodes: Sequence[EpisodeTurns]) -> list[Markup]:
    """Return charts of the failing turns; none if no turn failed."""
    first = [turn for episode in episodes if (turn := episode.first_failing)]
    if not first:
        return []
    turns = shares_by_turn(episodes)
    step = -(-len(turns) // _MOST_TURNS)
    series, columns = [], []
    for name, label in (("malformed", "malformed"), ("invalid", "invalid"), ("truncated", "cut")):
        points = [(float(row.turn), share) for row in turns if (share := getattr(row, name)) is not None]
        if points:
            columns.append(name)
            series.append(Series(label, points[::step]))
    shown = turns[:: max(1, len(turns) // 25)]
    rows = [
        (
            str(row.turn),
            f"{row.episodes:,}",
            *("–" if (share := getattr(row, name)) is None else f"{share:.1%}" for name in columns),
        )
        for row in shown
    ]
    return [
        curves(
            "Failing turns, as a share of the episodes that came to them",
            series,
            x_label="turn",
            y_label="share",
            is_share=True,
            numbers=Table(("turn", "episodes", *(line.label for line in series)), rows),
        ),
        histogram(
            f"First failing turn of the {len(first):,} of {len(episodes):,} episodes that have one",
            {"": first},
            x_label="turn",
            is_whole=True,
        ),
    ]


def _success_by_turn(groups: Sequence[tuple[str, Sequence[Episode]]]) -> Markup:
    series, table_rows = [], []
    last = max(episode.steps for _, episodes in groups for episode in episodes)
    turns = _turns(last)
    for name, episodes in groups:
        if not episodes:
            series.append(Series(name, (), note="none"))
            table_rows.append(["–"] * len(turns))
            continue
        # (N, turns): whether the episode was won within so many turns.
        won = np.array([[e.is_success and e.steps <= turn for turn in turns] for e in episodes], dtype=np.float64)
        rates = won.mean(axis=0)
        tasks = [episode.task_id for episode in episodes]
        ends = [success_interval(column, tasks) for column in won.T]
        band = [(turn, low, high) for turn, (low, high) in zip(turns, ends, strict=True)]
        points = [(turn, float(rate)) for turn, rate in zip(turns, rates, strict=True)]
        note = f"{rates[-1]:.1%} in the end"
        series.append(Series(name if len(groups) > 1 else "won", points, band=band, note=note))
        table_rows.append([f"{rate:.1%}" for rate in rates])
    shown = sorted({*range(0, len(turns), max(1, (len(turns) - 1) // 25)), len(turns) - 1})
    rows = [(str(turns[i]), *(rates[i] for rates in table_rows)) for i in shown]
    return curves(
        "Share won within so many turns, with 95 % intervals",
        series,
        x_label="turns",
        y_label="won",
        is_share=True,
        from_zero=True,
        numbers=Table(("turns", *(line.label for line in series)), rows),
    )


def _turns(last: int) -> Sequence[int]:
    """Return the turns of the chart: all, or so many of long episodes that its size does not grow with them."""
    if last <= _MOST_TURNS:
        return range(last + 1)
    return [last * i // _MOST_TURNS for i in range(_MOST_TURNS + 1)]


def training_charts(runs: Sequence[tuple[str, Metrics]]) -> list[tuple[str, list[Markup]]]:
    """Return charts of all metrics of runs by name: success first, then by the first part of the metrics' paths."""
    groups: dict[str, list[str]] = {"success": []}
    for name in sorted({name for _, metrics in runs for name in metrics}):
        groups.setdefault("success" if name.endswith("/success") else name.partition("/")[0], []).append(name)
    charts = [(group, [_curve(runs, name) for name in names]) for group, names in groups.items() if names]
    by_tokens = [chart for name in groups["success"] if (chart := _curve_by_tokens(runs, name)) is not None]
    return [*charts[:1], ("success by tokens", by_tokens), *charts[1:]] if by_tokens else charts


def _curve_by_tokens(runs: Sequence[tuple[str, Metrics]], name: str) -> Markup | None:
    """Return a chart of a metric over the tokens that a run has read, generated and scored; None without counts."""
    shifted = []
    for run, metrics in runs:
        used = {0.0: 0.0, **dict(metrics.get("cost_total/tokens", ()))}
        points = [(used[step], value) for step, value in metrics.get(name, ()) if step in used]
        shifted.append((run, {name: points}))
    if not all("cost_total/tokens" in metrics for _, metrics in runs) or not any(points[name] for _, points in shifted):
        return None
    return _curve(shifted, name, x_label="tokens read, generated and scored in training")


def _curve(runs: Sequence[tuple[str, Metrics]], name: str, x_label: str = "step") -> Markup:
    series = []
    for run, metrics in runs:
        points = metrics.get(name, ())
        if points:
            smooth = smoothed(points, _SMOOTHED * (points[-1][0] - points[0][0]))
            note = f"last {number(smooth[-1][1])}"
            series.append(Series(run if len(runs) > 1 else "", thinned(smooth), thinned(points), note=note))
        else:
            series.append(Series(run, (), note="none"))
    values = [y for line in series for _, y in line.raw]
    is_share = "success" in name and min(values) >= 0 and max(values) <= 1
    return curves(name, series, x_label=x_label, y_label="", is_share=is_share)
