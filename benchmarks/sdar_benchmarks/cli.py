"""The command line: `sdar list | info | play | eval | serve | skills`.

This module only reads arguments, so that `sdar --help` answers at once; `commands` does the work. Arguments
of environments are passed on by name, whatever they are: the environment says what it accepts.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sdar`.

    Args:
        argv: the arguments after the program's name; None for those of the process.

    Returns:
        The exit status: 0, or 2 if something that was asked for cannot be done.
    """
    args = _parser().parse_args(argv)
    try:
        # Imported here: help, version and misspelt options should not wait for Gymnasium.
        from sdar_benchmarks.commands import run  # noqa: PLC0415
    except KeyboardInterrupt:
        return 130
    return run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sdar", description="Text environments for language agents.")
    parser.add_argument("--version", action="version", version=f"sdar-envs {version('sdar-envs')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    command = commands.add_parser("list", help="environments, their splits, and agents")
    command.set_defaults(env_options=())

    command = commands.add_parser("info", help="what an environment takes and gives, with an example")
    _add_env(command)
    command.add_argument("--task", metavar="ID", help="print this task as JSON")

    command = commands.add_parser("play", help="play in the terminal")
    _add_env(command)
    command.add_argument("--task", metavar="ID", help="play this task")
    command.add_argument("--seed", type=int, metavar="N", help="choose the first task (default: any)")

    command = commands.add_parser("eval", help="let an agent play every task of a split once")
    _add_env(command)
    command.add_argument("--agent", metavar="NAME", help="who plays (default: the environment's own script)")
    command.add_argument("--limit", type=int, metavar="N", help="only the first N tasks (default: all)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the episodes (default: %(default)s)")
    command.add_argument("--output", metavar="FILE", help="write configuration, numbers and episodes as JSON")
    command.add_argument("--overwrite", action="store_true", help="replace the output file if it exists")

    command = commands.add_parser("serve", help="open a web site: the shop in the browser")
    command.add_argument("site", choices=["webshop"], help="webshop: the shop of sdar/WebShop-v0")
    command.add_argument("--host", default="127.0.0.1", metavar="NAME", help="listen there (default: %(default)s)")
    command.add_argument("--port", type=int, default=3000, metavar="N", help="0: any (default: %(default)s)")
    group = command.add_argument_group("environment")
    options = [
        group.add_argument("--data", metavar="NAME", help="embedded or official (default: embedded)"),
        group.add_argument("--data-dir", metavar="DIR", help="folder of the official data"),
        group.add_argument("--goals", metavar="NAME", help="synthetic or human (default: synthetic)"),
        group.add_argument("--quirks", metavar="NAME", help="original or fixed (default: original)"),
        group.add_argument("--num-products", type=int, metavar="N", help="only the first N records (default: all)"),
    ]
    command.set_defaults(env_options=tuple(option.dest for option in options))

    command = commands.add_parser("skills", help="what is known of the skills")
    command.set_defaults(env_options=())
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_skills_stats(actions)
    return parser


def _add_skills_stats(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    action = actions.add_parser("stats", help="how the skills of a ledger did, by task type")
    action.add_argument("ledger", metavar="LEDGER", help="the file that a run has written")
    action.add_argument("--suite", metavar="NAME", help="only this suite, such as alfworld")
    action.add_argument("--task-type", metavar="NAME", help="only this kind of task")
    action.add_argument("--json", action="store_true", help="print JSON instead of a table")


def _setting(text: str) -> tuple[str, Any]:
    """Read `NAME=VALUE`; the value is JSON if it can be read as such, else the text itself."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE, such as goals=human")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _add_env(command: argparse.ArgumentParser) -> None:
    """Add the environment's id and its arguments; not giving one leaves it to the environment."""
    command.add_argument("env_id", metavar="ENV_ID", help="such as sdar/ALFWorld-v0; `sdar list` names them")
    group = command.add_argument_group("environment")
    group.add_argument(
        "--set",
        dest="settings",
        type=_setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any argument of the environment (`sdar info` names them), such as goals=human; may be repeated",
    )
    options = [
        group.add_argument("--split", metavar="NAME", help="part of the tasks (default: the environment's)"),
        group.add_argument("--data", metavar="NAME", help="where tasks come from, such as official"),
        group.add_argument("--data-dir", metavar="DIR", help="folder of the official data"),
        group.add_argument(
            "--wording", metavar="NAME", help="ALFWorld: the release whose commands are spoken, such as put"
        ),
        group.add_argument("--max-steps", type=int, metavar="N", help="steps in an episode"),
    ]
    command.set_defaults(env_options=tuple(option.dest for option in options))


if __name__ == "__main__":
    sys.exit(main())
