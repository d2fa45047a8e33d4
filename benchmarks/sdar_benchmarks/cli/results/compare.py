"""`sdar compare`: the paired differences of two runs on the same tasks."""

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
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.analysis.compare import compare_runs, difference_table
    from sdar_benchmarks.analysis.terminal import print_table, stdout

    folder_a, folder_b = Path(args.run_a), Path(args.run_b)
    comparison = compare_runs(folder_a, folder_b)
    for warning in comparison.warnings:
        say(f"warning: {warning}", error=True)
    stdout().print(f"A: {folder_a}\nB: {folder_b}")
    print_table(difference_table(comparison))
