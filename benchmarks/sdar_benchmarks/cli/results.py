"""What `sdar view`, `sdar report`, `sdar leaderboard` and `sdar bench` do."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from sdar_benchmarks.leaderboard.leaderboard import add_run, commands, render
from sdar_benchmarks.reports.report import write_comparison, write_report
from sdar_benchmarks.reports.viewer import serve_viewer
from sdar_benchmarks.throughput.bench import PARTS, bench
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean

__all__ = ["bench_command", "leaderboard_command", "report_command", "view_command"]


def view_command(args: argparse.Namespace, _: Mapping[str, Any]) -> None:
    """Show the episodes of a run in the browser until the process is interrupted."""
    stderr = Console(stderr=True)
    columns = (TextColumn("reading"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as progress:
        bar = progress.add_task("reading")

        def say(address: str) -> None:
            progress.stop()
            print(f"{args.run} at {address} (Ctrl-C stops it)", flush=True)

        try:
            serve_viewer(
                Path(args.run),
                host=args.host,
                port=args.port,
                ready=say,
                progress=lambda done, size: progress.update(bar, completed=done, total=size),
            )
        except KeyboardInterrupt:
            # The only way to stop it is no failure.
            print("stopped", file=sys.stderr)


def report_command(args: argparse.Namespace, _: Mapping[str, Any]) -> None:
    """Write the report of a run into its folder, or of several into one file."""
    folders = [Path(run) for run in args.runs]
    if len(folders) == 1:
        if args.out is not None:
            raise InvalidOption("--out is for several runs: the report of one goes into its folder.")
        print(write_report(folders[0]))
        return
    out = Path("comparison.html" if args.out is None else args.out)
    if out.suffix not in (".html", ".htm") or out.is_dir():
        # A report replaces what is there, which should not be anything else.
        raise InvalidOption(f"--out is {str(out)!r}; wanted the name of a .html file.")
    write_comparison(folders, out)
    print(out)


def leaderboard_command(args: argparse.Namespace, _: Mapping[str, Any]) -> None:
    """Say how the leaderboard is made, add runs to it, or make its tables."""
    if args.action == "commands":
        print(commands())
        return
    root = Path(args.root)
    if args.action == "add":
        for run in args.runs:
            for path in add_run(Path(run), root, replace=args.replace):
                print(path)
        return
    changed = render(root, check=args.check)
    for path in changed:
        print(path)
    if not changed:
        print("the tables are current", file=sys.stderr)


def bench_command(args: argparse.Namespace, _: Mapping[str, Any]) -> None:
    """Measure how fast and how large environments are."""
    for env_id in args.envs:
        if env_id not in PARTS:
            raise UnknownName(f"no {env_id!r} to measure; there are {', '.join(PARTS)}.{did_you_mean(env_id, PARTS)}")
    bench(
        args.envs or PARTS,
        Console(highlight=False),
        output=None if args.output is None else Path(args.output),
        baseline=None if args.baseline is None else Path(args.baseline),
        command=shlex.join(["sdar", *args.argv]),
    )
