"""`sdar compare`: the paired differences of two runs on the same tasks, evaluations or training runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar compare`."""
    command = commands.add_parser("compare", help="paired comparison of two runs: differences, intervals, p-values")
    command.add_argument("run_a", metavar="RUN_A", help="folder of a run")
    command.add_argument("run_b", metavar="RUN_B", help="folder of another run on the same tasks")
    command.add_argument(
        "--allow-different",
        action="store_true",
        help="compare training runs that differ in step limit, history, split, panel, prompt style or model",
    )
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.analysis.compare import compare_runs, difference_table
    from sdar_benchmarks.analysis.terminal import print_table, stdout
    from sdar_benchmarks.analysis.training import is_training_run
    from sdar_envs.errors import InvalidOption

    folder_a, folder_b = Path(args.run_a), Path(args.run_b)
    trained = [is_training_run(folder) for folder in (folder_a, folder_b)]
    if all(trained):
        _compare_training(folder_a, folder_b, allow_different=args.allow_different)
        return
    if any(trained):
        raise InvalidOption(
            f"{folder_a if trained[0] else folder_b} is a training run and the other is not: compare two of a "
            "kind, such as evaluations of both models by sdar eval."
        )
    if args.allow_different:
        raise InvalidOption("--allow-different is for training runs; what differs between evaluations is warned of.")
    comparison = compare_runs(folder_a, folder_b)
    for warning in comparison.warnings:
        say(f"warning: {warning}", error=True)
    stdout().print(f"A: {folder_a}\nB: {folder_b}")
    print_table(difference_table(comparison))


def _compare_training(folder_a: Path, folder_b: Path, *, allow_different: bool) -> None:
    from sdar_benchmarks.analysis.compare import Comparison, difference_table
    from sdar_benchmarks.analysis.terminal import print_table, stdout
    from sdar_benchmarks.analysis.training import compare_training

    comparison = compare_training(folder_a, folder_b, allow_different=allow_different)
    for warning in comparison.warnings:
        say(f"warning: {warning}", error=True)
    stdout().print(f"A: {folder_a}\nB: {folder_b}")
    for change in comparison.changed:
        say(change)
    print_table(difference_table(Comparison(comparison.differences, comparison.warnings)))
    print_table(comparison.costs)
