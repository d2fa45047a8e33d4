"""`sdar leaderboard`: results as records in a folder, and the tables that are made of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar leaderboard` and its actions."""
    command = commands.add_parser("leaderboard", help="keep results as records, and make tables of them")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")

    action = actions.add_parser("commands", help="print the commands that make the rows of the scripted agents")
    action.set_defaults(run=_commands)

    action = actions.add_parser("add", help="make records of finished runs")
    action.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    action.add_argument("--replace", action="store_true", help="replace records of the same agent and panel")
    _add_root(action)
    action.set_defaults(run=_add)

    action = actions.add_parser("render", help="make LEADERBOARD.md, and the table in README.md if it has the markers")
    action.add_argument(
        "--check", action="store_true", help="write nothing; exit with status 1 if the tables are not up to date"
    )
    _add_root(action)
    action.set_defaults(run=_render)


def _add_root(action: argparse.ArgumentParser) -> None:
    action.add_argument(
        "--root",
        default=".",
        metavar="DIR",
        help="folder with LEADERBOARD.md and the records, in benchmarks/results if it has that, else in results "
        "(default: the working directory)",
    )


def _commands(args: argparse.Namespace) -> None:
    from sdar_benchmarks.leaderboard.tables import commands

    say(commands())


def _add(args: argparse.Namespace) -> None:
    from sdar_benchmarks.leaderboard.adding import add_run

    for run in args.runs:
        for path in add_run(Path(run), Path(args.root), replace=args.replace):
            say(path)


def _render(args: argparse.Namespace) -> None:
    from sdar_benchmarks.leaderboard.tables import render

    changed = render(Path(args.root), check=args.check)
    for path in changed:
        say(path)
    if not changed:
        say("the tables are current", error=True)
