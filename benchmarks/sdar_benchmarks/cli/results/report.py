"""`sdar report`: one HTML file with the numbers and figures of one run, or of several side by side."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar report`."""
    command = commands.add_parser("report", help="write report.html of a run, or one of several side by side")
    command.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    command.add_argument("--out", metavar="FILE", help="of several runs (default: comparison.html)")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.reports.report import write_comparison, write_report
    from sdar_envs.errors import InvalidOption

    def warn(sentence: str) -> None:
        say(f"warning: {sentence}", error=True)

    folders = [Path(run) for run in args.runs]
    if len(folders) == 1:
        if args.out is not None:
            raise InvalidOption("--out is for several runs: the report of one goes into its folder.")
        say(write_report(folders[0], warn))
        return
    out = Path("comparison.html" if args.out is None else args.out)
    if out.suffix not in (".html", ".htm") or out.is_dir():
        # A report replaces the file that is there, which should not be anything else.
        raise InvalidOption(f"--out is {str(out)!r}; wanted the name of a .html file.")
    write_comparison(folders, out, warn)
    say(out)
