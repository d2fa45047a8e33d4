"""`sdar leaderboard`: results as records in a folder, and the tables that are made of them."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands, add_pairs
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar leaderboard` and its actions."""
    command = commands.add_parser("leaderboard", help="keep results as records, and make tables of them")
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")

    action = actions.add_parser("commands", help="print the commands that make the rows of the scripted agents")
    action.set_defaults(run=_commands)

    action = actions.add_parser("add", help="make records of finished runs, with the actions of their episodes")
    action.add_argument("runs", nargs="+", metavar="RUN", help="a run folder")
    action.add_argument("--replace", action="store_true", help="replace records of the same agent and panel")
    _add_root(action)
    action.set_defaults(run=_add)

    action = actions.add_parser(
        "verify",
        help="play the actions of records again, and check scores and totals",
        description="Play the actions of each record again in the environment, without the agent, and check each "
        "episode and the totals. The exit status is 1 if a record differs, 2 if one cannot be checked: it has no "
        "actions, or the data are not here. What asks a server, such as a search engine over HTTP, may answer "
        "otherwise than it did.",
    )
    action.add_argument("paths", nargs="+", metavar="RECORD|DIR", help="a record, or a folder of records")
    add_pairs(
        action,
        "--set",
        "settings",
        "where the data are on this machine: data_dir, retriever or token_env of the environment; may be repeated",
    )
    action.set_defaults(run=_verify)

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


def _verify(args: argparse.Namespace) -> int:
    from sdar_benchmarks.leaderboard.records import find_records
    from sdar_benchmarks.leaderboard.verifying import verify
    from sdar_envs.errors import SdarError
    from sdar_envs.secrets import redact

    differ = unchecked = False
    for path in [record for named in args.paths for record in find_records(Path(named))]:
        try:
            found = verify(path, dict(args.settings))
        except SdarError as error:
            unchecked = True
            say(f"{path}: cannot be verified:", " ".join(redact(str(error)).split()), error=True)
            continue
        played = f"{found.episodes:,} episodes played again in {found.seconds:.1f} s"
        if found.difference:
            differ = True
            say(f"{path}: differs: {found.difference} ({played})", error=True)
        else:
            say(f"{path}: {played}, all as recorded")
    return 1 if differ else 2 if unchecked else 0


def _render(args: argparse.Namespace) -> None:
    from sdar_benchmarks.leaderboard.tables import render

    changed = render(Path(args.root), check=args.check)
    for path in changed:
        say(path)
    if not changed:
        say("the tables are current", error=True)
