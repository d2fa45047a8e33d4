"""`sdar view`: a web page with every turn of a run's episodes."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands, add_address
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar view`."""
    command = commands.add_parser("view", help="browse the episodes of a run")
    command.add_argument("folder", metavar="RUN", help="a run folder; the run may still be going on")
    command.add_argument(
        "other", metavar="OTHER", nargs="?", help="a second run, whose episodes stand beside those of the same tasks"
    )
    add_address(command, port=3030)
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from rich.progress import BarColumn, DownloadColumn, TextColumn

    from sdar_benchmarks.cli.progress import progress_bar
    from sdar_benchmarks.reports.viewer import serve_viewer

    with progress_bar(TextColumn("reading"), BarColumn(), DownloadColumn()) as progress:
        bar = progress.add_task("reading")

        def tell(address: str) -> None:
            progress.stop()
            say(f"{args.folder} at {address} (Ctrl-C stops it)")

        try:
            serve_viewer(
                Path(args.folder),
                None if args.other is None else Path(args.other),
                host=args.host,
                port=args.port,
                ready=tell,
                warn=lambda sentence: say(f"warning: {sentence}", error=True),
                progress=lambda done, size: progress.update(bar, completed=done, total=size),
            )
        except KeyboardInterrupt:
            # The only way to stop the server is no failure.
            say("stopped", error=True)
