"""Reports as one HTML file that needs nothing else: of a run, or of several side by side.

    write_report(Path("runs/first"))                                # runs/first/report.html
    write_comparison([Path("runs/first"), Path("runs/second")], Path("comparison.html"))

A report follows from the files of the runs alone: equal files give an equal report. It loads nothing, runs nothing, and
shows whatever the episodes hold as text. The numbers are those of `summary.json`; episodes that ended in an error of
the agent, the endpoint or the environment count as not won, and are counted beside.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

import numpy as np

from sdar_benchmarks.analysis.statistics import success_interval
from sdar_benchmarks.analysis.summary import Summary, summarize, summarize_panel
from sdar_benchmarks.analysis.tables import panel_means
from sdar_benchmarks.records.metrics import METRICS, Point, read_metrics, smoothed, thinned
from sdar_benchmarks.records.runs import CONFIG, Episode, final_episodes, read_config, read_episodes
from sdar_benchmarks.records.trajectories import EpisodeEntry, EpisodeId, RunIndex
from sdar_benchmarks.reports.episode_html import TOKEN_LEGEND, episode_address, outcome_tag, turns_html
from sdar_benchmarks.reports.markup import Html, details, element, page, short, table
from sdar_benchmarks.reports.plot import Series, curves, histogram, interval_bar, number
from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.storage import write_atomic

__all__ = ["REPORT_HTML", "VIEWER", "write_comparison", "write_report"]

REPORT_HTML = "report.html"

VIEWER = "http://127.0.0.1:3030"
"""Where `sdar view` shows a run unless it is told otherwise."""

_LISTED = 1_000
_LONGEST_TEXT = 2_000
_SMOOTHED = 1 / 30


@dataclass(frozen=True, slots=True)
class _Run:
    """What the files of a run say, and what it is called beside others."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    attempts: Sequence[Episode]
    episodes: Sequence[Episode]
    metrics: Mapping[str, Sequence[Point]]

    @property
    def panels(self) -> list[tuple[str, str]]:
        """Environment and split, in the order of the run."""
        return list(dict.fromkeys((episode.env_id, episode.split) for episode in self.episodes))

    def of(self, panel: tuple[str, str]) -> list[Episode]:
        """Return the episodes of a panel."""
        return [episode for episode in self.episodes if (episode.env_id, episode.split) == panel]


def write_report(folder: Path) -> Path:
    """Write `report.html` into a run folder; one that is there is replaced.

    Args:
        folder: of a run, finished or not.

    Returns:
        The path of the report.

    Raises:
        MissingData: the folder is no run.
        CorruptData: its episodes or metrics are damaged.
        InvalidOption: it is of another format.
        OSError: the report cannot be written.
    """
    run = _read(folder, "this run")
    path = folder / REPORT_HTML
    write_atomic(path, _report(run))
    return path


def write_comparison(folders: Sequence[Path], path: Path) -> None:
    """Write a report of several runs side by side; a file that is there is replaced.

    Args:
        folders: at least two runs.
        path: where the report goes.

    Raises:
        InvalidOption: there are fewer than two runs, one is named twice, or one is of another format.
        MissingData: a folder is no run.
        CorruptData: the episodes or metrics of one are damaged.
        OSError: the report cannot be written.
    """
    whole = [folder.resolve() for folder in folders]
    if len(set(whole)) < max(2, len(whole)):
        raise InvalidOption(f"got {len(whole)} runs, {len(set(whole))} of them different; wanted at least two.")
    names = [folder.name for folder in whole]
    if len(set(names)) < len(names):
        names = ["/".join(folder.parts[-2:]) for folder in whole]
    if len(set(names)) < len(names):
        names = [str(folder) for folder in whole]
    runs = [_read(folder, name) for folder, name in zip(folders, names, strict=True)]
    write_atomic(path, _comparison(runs, path.parent))


def _read(folder: Path, name: str) -> _Run:
    metrics = read_metrics(folder)
    # A training run may have no evaluation.
    config = {} if metrics and not (folder / CONFIG).exists() else read_config(folder)
    attempts = read_episodes(folder)
    return _Run(name, folder, config, attempts, final_episodes(attempts), metrics)


# -- one run --------------------------------------------------------------------------------


def _report(run: _Run) -> str:
    agent = _agent(run)
    environments = ", ".join(dict.fromkeys(env_id for env_id, _ in run.panels))
    title = f"{agent} on {environments}" if environments else agent
    errors = sum(episode.status == "error" for episode in run.episodes)
    notes = []
    if run.config.get("finished") is None and run.episodes:
        notes.append("This run is not finished: the numbers are of the episodes so far.")
    if errors:
        notes.append(
            f"Of {_count(len(run.episodes), 'episode')}, {errors:,} ended in an error. Errors count as not won."
        )
    if run.config.get("migrated_from"):
        notes.append(
            "This run was begun in format 1, which counted malformed answers and invalid actions as one: where they "
            "cannot be told apart, the table shows –."
        )
    index = RunIndex(run.folder)
    entries = {(entry.id.env_id, entry.id.task_id, entry.id.seed, entry.id.attempt): entry for entry in index.refresh()}
    notes += index.notes
    body: list[str] = [
        element("h1", title),
        element("p", _amount(run), class_="quiet"),
        *(element("p", note, class_="note") for note in notes),
    ]
    if run.episodes:
        body += [
            element("h2", "Summary"),
            _summary_table([(", ".join(panel), run.of(panel)) for panel in run.panels], "panel"),
        ]
    for panel in run.panels:
        body += [element("h2", f"{panel[0]}, {panel[1]}"), *_panel(run, panel)]
    if run.metrics:
        body += [element("h2", "Training"), *_training([run])]
    if run.episodes:
        body += [element("h2", "Examples"), *_examples(run, index, entries)]
        body += [element("h2", "Episodes"), *_episode_list(run)]
    body += [element("h2", "How to repeat it"), _settings(run)]
    return page(title, *body)


def _panel(run: _Run, panel: tuple[str, str]) -> list[Html]:
    episodes = run.of(panel)
    summary = summarize_panel(*panel, episodes)
    groups = [("task type", summary.task_types)]
    if len(summary.data_sets) > 1:
        groups.append(("data set", summary.data_sets))
    tables = [
        table(
            (what, *_COLUMNS),
            [(name, *_cells(numbers)) for name, numbers in {**parts, "all": summary.total}.items()],
            caption=f"By {what}",
            last_is_total=True,
        )
        for what, parts in groups
    ]
    means = element("ul", *(element("li", line) for line in panel_means(summary)), class_="quiet")
    return [*tables, means, _charts([(run, episodes)]), _ends(episodes)]


def _charts(groups: Sequence[tuple[_Run, Sequence[Episode]]]) -> Html:
    """Return the curve and the histograms of one panel, of one run or several."""

    def samples(value: Callable[[Episode], float | None]) -> dict[str, list[float]]:
        return {run.name: [v for e in episodes if (v := value(e)) is not None] for run, episodes in groups}

    charts = [_success_by_turn(groups)]
    for title, label, is_whole, value in (
        ("Steps", "steps in an episode", True, lambda e: e.steps),
        ("Tokens", "tokens in an episode, read and written", True, _tokens),
        ("Time", "seconds for an episode", False, lambda e: e.seconds),
    ):
        found = samples(value)
        if any(found.values()):
            charts.append(histogram(title, found, x_label=label, is_whole=is_whole))
    return element("div", *charts, class_="charts")


def _success_by_turn(groups: Sequence[tuple[_Run, Sequence[Episode]]]) -> Html:
    series, table_rows = [], []
    last = max(episode.steps for _, episodes in groups for episode in episodes)
    turns = range(last + 1)
    for run, episodes in groups:
        if not episodes:
            series.append(Series(run.name, (), note="none"))
            table_rows.append(["–"] * len(turns))
            continue
        # (N, turns): whether the episode was won within so many turns.
        won = np.array([[e.is_success and e.steps <= turn for turn in turns] for e in episodes], dtype=np.float64)
        rates = won.mean(axis=0)
        tasks = [episode.task_id for episode in episodes]
        ends = [success_interval(won[:, turn], tasks) for turn in turns]
        band = [(turn, low, high) for turn, (low, high) in zip(turns, ends, strict=True)]
        points = [(turn, float(rate)) for turn, rate in zip(turns, rates, strict=True)]
        note = f"{rates[-1]:.1%} in the end"
        series.append(Series(run.name if len(groups) > 1 else "won", points, band=band, note=note))
        table_rows.append([f"{rate:.1%}" for rate in rates])
    figure = curves(
        "Share won within so many turns, with 95 % intervals",
        series,
        x_label="turns",
        y_label="won",
        is_share=True,
        from_zero=True,
    )
    shown = sorted({*range(0, last + 1, max(1, last // 25)), last})
    rows = [(str(turn), *(rates[turn] for rates in table_rows)) for turn in shown]
    return Html(
        figure.removesuffix("</figure>")
        + details("Numbers", table(("turns", *(s.label for s in series)), rows), class_="fold")
        + "</figure>"
    )


def _ends(episodes: Sequence[Episode]) -> Html:
    """Return a table of how episodes ended, errors with their kinds."""
    groups: dict[tuple[str, str], list[Episode]] = {}
    for episode in episodes:
        groups.setdefault((episode.stop_reason, _error_type(episode)), []).append(episode)
    rows = [
        (reason, kind, f"{len(group):,}", f"{len(group) / len(episodes):.1%}", f"{sum(e.is_success for e in group):,}")
        for (reason, kind), group in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    ]
    return table(("end", "error", "episodes", "share", "won"), rows, words=2, caption="How episodes ended")


def _examples(run: _Run, index: RunIndex, entries: Mapping[tuple[str, str, int, int], EpisodeEntry]) -> list[Html]:
    """Return the first won and the first lost episode of each panel, turn by turn."""
    parts, has_tokens = [], False
    for panel in run.panels:
        for is_success in (True, False):
            chosen = next((e for e in sorted(run.of(panel), key=_place) if e.is_success is is_success), None)
            entry = None if chosen is None else entries.get((*chosen.key, chosen.attempt))
            if entry is None or entry.offset is None:
                continue
            try:
                trajectory = index.trajectory(entry)
            except CorruptData as error:
                parts.append(element("p", str(error), class_="note"))
                continue
            has_tokens |= any(isinstance(turn, dict) and bool(turn.get("tokens")) for turn in trajectory["turns"])
            turns = turns_html(trajectory, longest=_LONGEST_TEXT)
            summary = Html(
                outcome_tag(entry.outcome) + element("span", f" {entry.id.task_id}: {short(entry.instruction)}")
            )
            parts.append(details(summary, turns, class_="episode"))
    if not parts:
        return [element("p", "There are no trajectories.")]
    return [TOKEN_LEGEND, *parts] if has_tokens else parts


def _episode_list(run: _Run) -> list[Html]:
    episodes = sorted(run.episodes, key=_place)
    rows = []
    for episode in episodes[:_LISTED]:
        outcome = "error" if episode.status == "error" else "won" if episode.is_success else "lost"
        there = VIEWER + episode_address(EpisodeId(*episode.key, episode.attempt))
        rows.append(
            (
                element("a", episode.task_id, href=there),
                outcome_tag(outcome),
                episode.task_type,
                episode.stop_reason,
                f"{episode.score:.3f}",
                f"{episode.steps:,}",
                f"{episode.seconds:,.2f}",
                str(episode.seed),
            )
        )
    head = ("task", "outcome", "type", "end", "score", "steps", "seconds", "seed")
    listed = (
        f"{len(rows):,} of {_count(len(episodes), 'episode')}"
        if len(episodes) > _LISTED
        else _count(len(rows), "episode")
    )
    return [
        element("p", "The links work while ", element("code", "sdar view RUN"), " shows this run.", class_="quiet"),
        details(listed, table(head, rows, words=4, class_="list")),
    ]


def _settings(run: _Run) -> Html:
    config = run.config
    if not config:
        return element("p", f"There is no {CONFIG} beside {METRICS}.")
    rows = [("Command", element("pre", str(config.get("command", ""))))]
    for key in ("revision", "created", "finished", "platform", "versions", "agent", "seeds", "concurrency", "limits"):
        if config.get(key) is not None:
            rows.append((key.capitalize(), element("code", _plain(config[key]))))
    rows += [("Panel", element("pre", _plain(panel))) for panel in config.get("panels", [])]
    rows += [("Resumed", element("pre", _plain(changed))) for changed in config.get("resumed", [])]
    return element("dl", *(part for name, value in rows for part in (element("dt", name), element("dd", value))))


# -- several runs ---------------------------------------------------------------------------


def _comparison(runs: Sequence[_Run], there: Path) -> str:
    title = f"{_count(len(runs), 'run')} side by side"
    rows = [(_report_link(run, there), _agent(run), _amount(run)) for run in runs]
    body: list[str] = [element("h1", title), table(("run", "agent", "episodes"), rows, words=3)]
    for panel in dict.fromkeys(panel for run in runs for panel in run.panels):
        body.append(element("h2", f"{panel[0]}, {panel[1]}"))
        # Runs that did not play it stay in the charts, so that each keeps its colour.
        groups = [(run, run.of(panel)) for run in runs]
        played = [(run, episodes) for run, episodes in groups if episodes]
        if len({frozenset((e.task_id, e.seed) for e in episodes) for _, episodes in played}) > 1:
            body.append(
                element(
                    "p",
                    "These runs did not play the same tasks with the same seeds, so their rates do not compare. ",
                    element("code", "sdar compare"),
                    " pairs what they share.",
                    class_="note",
                )
            )
        body.append(_summary_table([(run.name, episodes) for run, episodes in played], "run"))
        body += [_charts(groups), *_won_by(played, "task type"), *_won_by(played, "data set")]
    if any(run.metrics for run in runs):
        body += [element("h2", "Training"), *_training(runs)]
    body.append(element("h2", "How to repeat it"))
    body += [details(run.name, _settings(run)) for run in runs]
    return page(title, *body)


def _report_link(run: _Run, there: Path) -> str:
    """Return the run's name, as a link to its own report if that is written."""
    report = run.folder / REPORT_HTML
    if not report.exists():
        return run.name
    return element("a", run.name, href=quote(Path(os.path.relpath(report.resolve(), there.resolve())).as_posix()))


def _won_by(groups: Sequence[tuple[_Run, Sequence[Episode]]], what: str) -> list[Html]:
    """Return a table of success by task type or data set; none where there are no two of these."""
    of_runs = []
    for run, episodes in groups:
        summary = summarize_panel(run.name, "", episodes)
        of_runs.append(summary.task_types if what == "task type" else summary.data_sets)
    names = sorted({name for parts in of_runs for name in parts})
    if len(names) < 2:
        return []
    rows = [
        (name, *("{1}  ({2})".format(*_cells(parts[name])) if name in parts else "–" for parts in of_runs))
        for name in names
    ]
    head = (what, *(run.name for run, _ in groups))
    return [table(head, rows, caption=f"Won by {what}, with 95 % intervals")]


def _training(runs: Sequence[_Run]) -> list[Html]:
    """Return the curves of all metrics: success first, then by the first part of their paths."""
    groups: dict[str, list[str]] = {"success": []}
    for name in sorted({name for run in runs for name in run.metrics}):
        groups.setdefault("success" if name.endswith("/success") else name.partition("/")[0], []).append(name)
    parts = [
        element(
            "p",
            "Lines are exponential moving averages over a thirtieth of the steps, faint lines the values themselves.",
            class_="quiet",
        )
    ]
    for group, names in groups.items():
        if names:
            parts.append(element("h3", group))
            parts.append(element("div", *(_curve(runs, name) for name in names), class_="charts"))
    return parts


def _curve(runs: Sequence[_Run], name: str) -> Html:
    series = []
    for run in runs:
        points = run.metrics.get(name, ())
        if points:
            smooth = smoothed(points, _SMOOTHED * (points[-1][0] - points[0][0]))
            note = f"last {number(smooth[-1][1])}"
            series.append(Series(run.name if len(runs) > 1 else "", thinned(smooth), thinned(points), note=note))
        else:
            series.append(Series(run.name, (), note="none"))
    values = [y for line in series for _, y in line.raw]
    is_share = "success" in name and min(values) >= 0 and max(values) <= 1
    return curves(name, series, x_label="step", y_label="", is_share=is_share)


# -- numbers --------------------------------------------------------------------------------

_COLUMNS = ("episodes", "won", "95 % interval", "", "score", "95 % interval", "steps", "if won", "malformed", "invalid")


def _summary_table(groups: Sequence[tuple[str, Sequence[Episode]]], what: str) -> Html:
    """Return a row for each group of episodes; `what` says what the groups are."""
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
    caption = (
        "Steps, tokens and seconds are means per episode. Malformed: answers of a model that did not keep the format. "
        "Invalid: actions that the environment did not accept. Errors count as not won."
    )
    if has_cost:
        return table(head, rows, caption=f"{caption} The cost is of all episodes.")
    return table(head[:-1], [row[:-1] for row in rows], caption=caption)


def _cells(numbers: Summary) -> tuple[str, ...]:
    """Return the cells of `_COLUMNS`."""
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
        *("–" if share is None else f"{share:.1%}" for share in (numbers.malformed_share, numbers.invalid_share)),
    )


def _tokens(episode: Episode) -> int | None:
    counts = [n for n in (episode.prompt_tokens, episode.completion_tokens) if n is not None]
    return sum(counts) if counts else None


def _amount(run: _Run) -> str:
    """Return how much was played, in words."""
    if not run.episodes:
        return "no episodes"
    tasks = len({(episode.env_id, episode.task_id) for episode in run.episodes})
    seeds = len({episode.seed for episode in run.episodes})
    words = [_count(len(run.episodes), "episode"), _count(tasks, "task"), _count(seeds, "seed")]
    repeated = len(run.attempts) - len(run.episodes)
    return ", ".join([*words, *([f"{_count(repeated, 'attempt')} repeated after an error"] if repeated else [])])


def _agent(run: _Run) -> str:
    """Return the agent's name, with its model if it has one."""
    agent = run.config.get("agent", {})
    model = agent.get("settings", {}).get("model")
    name = str(agent.get("name", "training run"))
    return f"{name} ({model})" if model else name


def _error_type(episode: Episode) -> str:
    return str((episode.error or {}).get("type", ""))


def _place(episode: Episode) -> tuple[str, str, str, int]:
    return episode.env_id, episode.split, episode.task_id, episode.seed


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
