"""Reports as one self-contained HTML file: of a run, or of several side by side.

    write_report(Path("runs/first"))                                # runs/first/report.html
    write_comparison([Path("runs/first"), Path("runs/second")], Path("comparison.html"))

A report depends on the files of the runs alone: equal files give an equal report. It loads nothing and runs no script;
what the episodes hold is shown as text. The numbers of an evaluation are those of `summary.json`: episodes that ended
in an error of the agent, the endpoint or the environment count as not won, and are counted separately.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from sdar_benchmarks.analysis.faults import adaptation_lines, fault_lines
from sdar_benchmarks.analysis.summary import summarize_panel
from sdar_benchmarks.analysis.tables import panel_means
from sdar_benchmarks.analysis.training import TrainingSettings, read_training_settings, spent_costs, unlike_settings
from sdar_benchmarks.analysis.turns import EpisodeTurns, turn_facts
from sdar_benchmarks.records.metrics import METRICS, Point, read_metrics
from sdar_benchmarks.records.runs import (
    CONFIG,
    EPISODES,
    TRAJECTORIES,
    Episode,
    final_episodes,
    read_config,
    read_episodes,
)
from sdar_benchmarks.records.schema import LeftOut
from sdar_benchmarks.records.trajectories import EpisodeEntry, EpisodeId, RunIndex
from sdar_benchmarks.reports.episode_html import Section, episode_address, has_tokens, outcome_tag, sections_of
from sdar_benchmarks.reports.markup import Cell, Link, Table, Tag, render, short
from sdar_benchmarks.reports.report_parts import (
    PanelPart,
    ends_table,
    group_tables,
    panel_charts,
    summary_table,
    training_charts,
    turn_charts,
    turn_tables,
    won_by_group,
)
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.files.foreign import read_foreign
from sdar_envs.files.json_text import read_json_object
from sdar_envs.storage import write_atomic

__all__ = ["REPORT_HTML", "VIEWER", "write_comparison", "write_report"]

REPORT_HTML = "report.html"

VIEWER = "http://127.0.0.1:3030"
"""Default address of `sdar view`, which the links of a report lead to."""

_FACTS, _TRAINING_CONFIG = "run.json", "config.yaml"
_LISTED = 1_000
_LONGEST_TEXT = 2_000


@dataclass(frozen=True, slots=True)
class _Run:
    """Content of a run folder, and the name of the run in a report."""

    name: str
    folder: Path
    config: Mapping[str, Any]
    attempts: Sequence[Episode]
    episodes: Sequence[Episode]
    metrics: Mapping[str, Sequence[Point]]
    left_out: Sequence[str]

    @property
    def panels(self) -> list[tuple[str, str]]:
        """Environment and split, in the order of the run."""
        return list(dict.fromkeys((episode.env_id, episode.split) for episode in self.episodes))

    def of(self, panel: tuple[str, str]) -> list[Episode]:
        """Return the episodes of a panel."""
        return [episode for episode in self.episodes if (episode.env_id, episode.split) == panel]


def write_report(folder: Path, warn: Callable[[str], object] = lambda sentence: None) -> Path:
    """Write `report.html` into a run folder; one that is there is replaced.

    Rows that cannot be read or do not fit are left out; the report says how many, and why the first.

    Args:
        folder: of a run, finished or not.
        warn: called with each sentence about what is left out.

    Returns:
        The path of the report.

    Raises:
        MissingData: the folder is no run.
        CorruptData: its configuration is damaged, or something else is in the place of a file.
        InvalidOption: it is of another format.
        OSError: the report cannot be written.
    """
    run = _read(folder, "this run")
    index = RunIndex(folder)
    entries = index.refresh()
    left_out = list(dict.fromkeys([*run.left_out, *index.notes]))
    for sentence in left_out:
        warn(sentence)
    path = folder / REPORT_HTML
    write_atomic(path, _report(run, index, entries, left_out))
    return path


def write_comparison(
    folders: Sequence[Path], path: Path, warn: Callable[[str], object] = lambda sentence: None
) -> None:
    """Write a report of several runs side by side; a file that is there is replaced.

    Args:
        folders: at least two runs.
        path: where the report goes.
        warn: called with each sentence about rows that are left out.

    Raises:
        InvalidOption: there are fewer than two runs, one is named twice, or one is of another format.
        MissingData: a folder is no run.
        CorruptData: the configuration of one is damaged, or something else is in the place of a file.
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
    for run in runs:
        for sentence in run.left_out:
            warn(f"{run.name}: {sentence}")
    write_atomic(path, _comparison(runs, path.parent))


def _read(folder: Path, name: str) -> _Run:
    of_metrics, of_episodes = LeftOut(METRICS), LeftOut(EPISODES)
    metrics = read_metrics(folder, of_metrics)
    is_training = bool(metrics) or (folder / TRAJECTORIES).exists()
    config = {} if is_training and not (folder / CONFIG).exists() else read_config(folder)
    attempts = read_episodes(folder, of_episodes)
    left_out = [sentence for rows in (of_episodes, of_metrics) if (sentence := rows.sentence())]
    return _Run(name, folder, config, attempts, final_episodes(attempts), metrics, left_out)


# -- one run --------------------------------------------------------------------------------


class _Example(NamedTuple):
    """An episode of the report; `fault` says why it cannot be read."""

    outcome: Tag
    title: str
    sections: Sequence[Section]
    fault: str = ""


def _report(run: _Run, index: RunIndex, entries: Sequence[EpisodeEntry], left_out: Sequence[str]) -> str:
    agent = _agent(run)
    environments = ", ".join(dict.fromkeys(env_id for env_id, _ in run.panels))
    known = _by_attempt(entries)
    examples, with_tokens = _examples(_chosen(run, entries), index)
    return render(
        "report.html",
        title=f"{agent} on {environments}" if environments else agent,
        amount=_amount(run),
        notes=[*_notes(run), *left_out],
        summary=summary_table([(", ".join(panel), run.of(panel)) for panel in run.panels], "panel")
        if run.episodes
        else None,
        panels=[_panel(run, panel, _turns(run.of(panel), known, index)) for panel in run.panels],
        training=training_charts([(run.name, run.metrics)]) if run.metrics else [],
        examples=examples if run.episodes or entries else None,
        has_tokens=with_tokens,
        episodes=_episode_table(run) if run.episodes else None,
        listed=_listed(run),
        settings=_settings(run),
    )


def _notes(run: _Run) -> list[str]:
    notes = []
    errors = sum(episode.status == "error" for episode in run.episodes)
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
    if run.config:
        notes += fault_lines(run.config, run.attempts, run.episodes)
        notes += adaptation_lines(run.config.get("adaptations", ()))
    return notes


def _by_attempt(entries: Sequence[EpisodeEntry]) -> dict[tuple[str, str, int, int], EpisodeEntry]:
    return {(entry.id.env_id, entry.id.task_id, entry.id.seed, entry.id.attempt): entry for entry in entries}


def _turns(
    episodes: Sequence[Episode], known: Mapping[tuple[str, str, int, int], EpisodeEntry], index: RunIndex
) -> list[EpisodeTurns]:
    """Return the turns of the episodes that have a trajectory which can be read."""
    result = []
    for episode in episodes:
        entry = known.get((*episode.key, episode.attempt))
        if entry is None:
            continue
        with suppress(CorruptData, MissingData):
            turns = turn_facts(index.trajectory(entry)["turns"])
            result.append(EpisodeTurns(episode.task_type, entry.outcome, episode.stop_reason, turns))
    return result


def _panel(run: _Run, panel: tuple[str, str], turns: Sequence[EpisodeTurns]) -> PanelPart:
    episodes = run.of(panel)
    summary = summarize_panel(*panel, episodes)
    return PanelPart(
        title=", ".join(panel),
        tables=group_tables(summary),
        charts=[*panel_charts([(run.name, episodes)]), *turn_charts(turns)],
        means=panel_means(summary),
        tables_below=[ends_table(episodes), *turn_tables(turns)],
    )


def _chosen(run: _Run, entries: Sequence[EpisodeEntry]) -> list[EpisodeEntry]:
    """Return the first won and the first lost episode of each panel, or of a training run's last recorded step."""
    chosen: list[EpisodeEntry | None] = []
    if run.episodes:
        known = _by_attempt(entries)
        for panel in run.panels:
            for is_success in (True, False):
                first = next((e for e in sorted(run.of(panel), key=_place) if e.is_success is is_success), None)
                chosen.append(None if first is None else known.get((*first.key, first.attempt)))
    elif entries:
        last = [entry for entry in entries if entry.step == entries[-1].step]
        chosen = [next((e for e in last if e.is_success is is_success), None) for is_success in (True, False)]
    return [entry for entry in chosen if entry is not None and entry.offset is not None]


def _examples(entries: Sequence[EpisodeEntry], index: RunIndex) -> tuple[list[_Example], bool]:
    """Return the episodes turn by turn, and whether one has the gap and gate of tokens."""
    examples, with_tokens = [], False
    for entry in entries:
        outcome, title = outcome_tag(entry.outcome), f"{entry.id.task_id}: {short(entry.instruction)}"
        try:
            trajectory = index.trajectory(entry)
        except CorruptData as error:
            examples.append(_Example(outcome, title, (), str(error)))
            continue
        with_tokens |= has_tokens(trajectory)
        examples.append(_Example(outcome, title, sections_of(trajectory, longest=_LONGEST_TEXT)))
    return examples, with_tokens


def _episode_table(run: _Run) -> Table:
    rows: list[Sequence[Cell]] = []
    for episode in sorted(run.episodes, key=_place)[:_LISTED]:
        outcome = "error" if episode.status == "error" else "won" if episode.is_success else "lost"
        rows.append(
            (
                Link(episode.task_id, VIEWER + episode_address(EpisodeId(*episode.key, episode.attempt))),
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
    return Table(head, rows, words=4, class_="list")


def _listed(run: _Run) -> str:
    count = len(run.episodes)
    return f"{_LISTED:,} of {_count(count, 'episode')}" if count > _LISTED else _count(count, "episode")


def _settings(run: _Run) -> list[tuple[str, str, bool]]:
    """Return name and value of what a run was made with, and whether the value takes lines of its own."""
    config = run.config
    if not config:
        return [*_costs(run), *_training_settings(run.folder)]
    rows = [("Command", str(config.get("command", "")), True)]
    for key in ("revision", "created", "finished", "platform", "versions", "agent", "seeds", "concurrency", "limits"):
        if config.get(key) is not None:
            rows.append((key.capitalize(), _plain(config[key]), False))
    rows += [("Panel", _plain(panel), True) for panel in config.get("panels", [])]
    rows += [("Resumed", _plain(changed), True) for changed in config.get("resumed", [])]
    return rows


def _costs(run: _Run) -> list[tuple[str, str, bool]]:
    """Return what a training run has cost, if it was counted."""
    spent = spent_costs(run.metrics)
    return [("Cost", ", ".join(f"{name} {amount}" for name, amount in spent), False)] if spent else []


def _training_settings(folder: Path) -> list[tuple[str, str, bool]]:
    """Return the other files of a training run: facts about software and machine, and the configuration."""
    rows: list[tuple[str, str, bool]] = []
    with suppress(FileNotFoundError):
        content = read_json_object(folder / _FACTS)
        rows += [(str(name).capitalize(), _plain(value), False) for name, value in content.items()]
    with suppress(FileNotFoundError):
        rows.append(("Configuration", read_foreign(folder / _TRAINING_CONFIG), True))
    return rows or [
        ("Configuration", f"There is no {CONFIG}, {_TRAINING_CONFIG} or {_FACTS} in the folder of {METRICS}.", False)
    ]


# -- several runs ---------------------------------------------------------------------------


def _comparison(runs: Sequence[_Run], there: Path) -> str:
    panels = dict.fromkeys(panel for run in runs for panel in run.panels)
    return render(
        "comparison.html",
        title=f"{_count(len(runs), 'run')} side by side",
        runs=Table(
            ("run", "agent", "episodes"),
            [(_report_link(run, there), _agent(run), _amount(run)) for run in runs],
            words=3,
        ),
        panels=[_compared(panel, runs) for panel in panels],
        training=training_charts([(run.name, run.metrics) for run in runs]) if any(r.metrics for r in runs) else [],
        settings=[(run.name, _settings(run)) for run in runs],
        notes=[*_unlike(runs), *(f"{run.name}: {sentence}" for run in runs for sentence in run.left_out)],
    )


def _unlike(runs: Sequence[_Run]) -> list[str]:
    """Return in what training runs of one seed differ that makes their curves another measure."""
    first: dict[Any, tuple[str, TrainingSettings]] = {}
    notes = []
    for run in runs:
        with suppress(CorruptData, MissingData):
            settings = read_training_settings(run.folder)
            name, other = first.setdefault(settings.config.get("seed"), (run.name, settings))
            unlike = unlike_settings(other, settings)
            if unlike:
                notes.append(f"{name} and {run.name} do not compare, they differ in {'; '.join(unlike)}.")
    return notes


def _compared(panel: tuple[str, str], runs: Sequence[_Run]) -> PanelPart:
    # Runs that did not play it stay in the charts, so that each keeps its colour.
    groups = [(run.name, run.of(panel)) for run in runs]
    played = [(name, episodes) for name, episodes in groups if episodes]
    notes = []
    if len({frozenset((e.task_id, e.seed) for e in episodes) for _, episodes in played}) > 1:
        notes.append(
            "These runs did not play the same tasks with the same seeds, so their rates do not compare. `sdar compare` "
            "pairs the episodes that they share."
        )
    return PanelPart(
        title=", ".join(panel),
        tables=[summary_table(played, "run")],
        charts=panel_charts(groups),
        notes=notes,
        tables_below=[*won_by_group(played, "task type"), *won_by_group(played, "data set")],
    )


def _report_link(run: _Run, there: Path) -> Cell:
    """Return the run's name, as a link to its own report if that exists."""
    report = run.folder / REPORT_HTML
    if not report.exists():
        return run.name
    return Link(run.name, quote(Path(os.path.relpath(report.resolve(), there.resolve())).as_posix()))


# -- words ----------------------------------------------------------------------------------


def _amount(run: _Run) -> str:
    """Return the numbers of episodes, tasks and seeds in words."""
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


def _place(episode: Episode) -> tuple[str, str, str, int]:
    return episode.env_id, episode.split, episode.task_id, episode.seed


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
