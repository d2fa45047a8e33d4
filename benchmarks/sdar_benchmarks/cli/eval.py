"""What `sdar eval` and `sdar compare` do."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdar_agents import default_agent, open_agent
from sdar_agents.players.registry import MODELS
from sdar_benchmarks.analysis.compare import Comparison, compare_runs
from sdar_benchmarks.analysis.statistics import wilson_interval
from sdar_benchmarks.analysis.tables import TextTable, overview, panel_tables, panel_title
from sdar_benchmarks.analysis.terminal import print_table, stdout
from sdar_benchmarks.evaluation.arguments import env_defaults
from sdar_benchmarks.evaluation.episodes import Limits
from sdar_benchmarks.evaluation.evaluate import Evaluation, Plan, Tally, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_benchmarks.evaluation.presets import PRESETS, PresetRun
from sdar_benchmarks.reports.report import REPORT_HTML, write_comparison, write_report
from sdar_envs import ENV_IDS
from sdar_envs.errors import InvalidOption, RunStopped, UnknownName, did_you_mean

__all__ = ["compare_command", "eval_command"]


def eval_command(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    """Let an agent play, print the numbers, and keep them if that is asked for.

    Args:
        args: the parsed arguments.
        env_kwargs: arguments of the environments that were given.

    Raises:
        SdarError: something that was asked for cannot be done.
        RunStopped: episodes ended in errors; the numbers were printed nevertheless.
    """
    if args.resume and args.out is None:
        raise InvalidOption("--resume goes on with the run in a folder: name the folder with --out.")
    runs = _runs(args, env_kwargs)
    out = None if args.out is None else Path(args.out)
    if out is None and args.preset:
        out = Path("runs") / f"{args.preset}-{datetime.now():%Y%m%d-%H%M%S}"
    evaluations = [(run, _evaluate(run, args, out)) for run in runs]
    if len(runs) > 1:
        # Their reports hold the rest.
        print_table(overview((run.name, evaluation.summary) for run, evaluation in evaluations))
    else:
        _print_run(evaluations[0][1])
    folders = [evaluation.folder for _, evaluation in evaluations if evaluation.folder]
    reports = [write_report(folder) for folder in folders]
    if out and len(folders) > 1:
        reports = [out / REPORT_HTML]
        write_comparison(folders, reports[0])
    for report in reports:
        print(f"report: {report}")
    errors = sum(evaluation.summary.total.errors for _, evaluation in evaluations if evaluation.summary.total)
    if errors:
        raise RunStopped(
            f"{errors} episodes ended in an error and count as failures"
            f"{'; --resume tries them again' if out else ': with --out, they can be tried again later'}."
        )


def compare_command(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    """Print how two runs differ."""
    folder_a, folder_b = Path(args.run_a), Path(args.run_b)
    comparison = compare_runs(folder_a, folder_b)
    for warning in comparison.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    stdout().print(f"A: {folder_a}\nB: {folder_b}")
    print_table(_differences(comparison))


def _runs(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> list[PresetRun]:
    """Return what the preset, or else the command line, asks for."""
    env_ids: Sequence[str] = args.env_ids or ENV_IDS
    arguments = _arguments(env_ids, env_kwargs)
    settings = dict(args.agent_settings)
    settings |= {name: getattr(args, name) for name in args.agent_options if getattr(args, name) is not None}
    runs = [PresetRun("", tuple(PanelSpec(env_id) for env_id in env_ids))]
    if args.preset:
        runs = PRESETS[args.preset](env_ids)
    if args.agent and any(run.agent for run in runs):
        runs = [replace(runs[0], agent=args.agent, name=args.agent)]
    result = []
    for run in runs:
        agent = run.agent or args.agent or _default(run.panels)
        # What a preset says about sampling is for models.
        chosen = {**run.settings, **settings} if agent in MODELS else settings
        panels = tuple(_asked_for(panel, args.limit, arguments[panel.env_id]) for panel in run.panels)
        result.append(PresetRun(run.name, panels, agent, chosen))
    return result


def _asked_for(panel: PanelSpec, limit: int | None, arguments: Mapping[str, Any]) -> PanelSpec:
    """Return a panel with the options of the command line."""
    env_kwargs = dict(arguments)
    split = env_kwargs.pop("split", panel.split)
    return replace(panel, split=split, limit=panel.limit if limit is None else limit, env_kwargs=env_kwargs)


def _default(panels: Sequence[PanelSpec]) -> str:
    return default_agent(panels[0].env_id) if len(panels) == 1 else "default"


def _evaluate(run: PresetRun, args: argparse.Namespace, out: Path | None) -> Evaluation:
    plan = Plan(
        run.panels,
        seeds=range(args.seed, args.seed + args.seeds),
        limits=Limits(args.max_turn_seconds, args.episode_seconds, args.episode_tokens, args.attempts),
        concurrency=args.concurrency,
        command=shlex.join(["sdar", *args.argv]),
    )
    assert run.agent is not None
    agents = open_agent(run.agent, run.settings, [panel.env_id for panel in run.panels])
    stderr = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[success]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task(run.agent, total=None, success="")
        return evaluate(
            plan,
            agents,
            out=out / run.name if out else None,
            resume=args.resume,
            progress=lambda tally: progress.update(
                bar, completed=tally.done, total=tally.total, success=_running(tally)
            ),
        )


def _arguments(env_ids: Sequence[str], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Give each environment its arguments: of several, each gets those that it has.

    Raises:
        UnknownName: there is no such environment, or none has an argument.
    """
    if len(env_ids) == 1:
        return {env_ids[0]: dict(given)}
    known = {env_id: env_defaults(env_id) for env_id in env_ids}
    names = sorted({name for defaults in known.values() for name in defaults})
    for name in given:
        if name not in names:
            raise UnknownName(
                f"none of {', '.join(known)} has an argument {name!r}; `sdar info` tells what they have."
                f"{did_you_mean(name, names)}"
            )
    return {
        env_id: {name: value for name, value in given.items() if name in defaults} for env_id, defaults in known.items()
    }


def _running(tally: Tally) -> str:
    """Return the success so far, with its interval as if each episode were another task."""
    parts = []
    if tally.done:
        low, high = wilson_interval(tally.successes, tally.done)
        parts.append(f"won {tally.successes / tally.done:.1%} ({100 * low:.1f}-{100 * high:.1f})")
    if tally.errors:
        parts.append(f"errors {tally.errors}")
    return ", ".join(parts)


def _print_run(evaluation: Evaluation) -> None:
    summary = evaluation.summary
    for number, panel in enumerate(summary.panels):
        if number:
            print()
        stdout().print(panel_title(evaluation.config, panel))
        for table in panel_tables(panel):
            print_table(table)
        if panel.data_set_macro and len(panel.data_sets) > 1:
            macro = panel.data_set_macro
            stdout().print(f"mean over data sets: won {macro.success_rate:.1%}, score {macro.mean_score:.3f}")
    if summary.total and summary.macro and len(summary.panels) > 1:
        stdout().print(
            f"\nmean over panels: won {summary.macro.success_rate:.1%}, score {summary.macro.mean_score:.3f}; "
            f"over episodes: won {summary.total.success_rate:.1%}, score {summary.total.mean_score:.3f}"
        )


def _differences(comparison: Comparison) -> TextTable:
    rows = []
    for part in comparison.differences:
        # A chance that is too small for a float is not 0 for that.
        p = "< 1e-300" if part.test.p < 1e-300 else f"{part.test.p:.1e}" if part.test.p < 1e-4 else f"{part.test.p:.4f}"
        if part.test.method == "monte-carlo":
            p += f" ± {part.test.standard_error:.1g}"
        low, high = part.interval
        rows.append(
            (
                f"{part.group}, {part.measure}",
                str(part.episodes),
                f"{part.mean_a:.3f}",
                f"{part.mean_b:.3f}",
                f"{part.difference:+.3f}",
                f"{low:+.3f} to {high:+.3f}",
                p,
            )
        )
    return TextTable(("panel, measure", "n", "A", "B", "B - A", "95 % CI", "p"), tuple(rows))
