"""`sdar data`: what official data is on this machine."""

from __future__ import annotations

import argparse

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

__all__ = ["add"]

_MARKS = {"there": "ok", "missing": "missing", "note": ""}


def add(commands: Commands) -> None:
    """Add `sdar data` and its actions."""
    command = commands.add_parser("data", help="official data: what is there, what is missing, where it comes from")
    actions = command.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    check = actions.add_parser("check", help="look at a suite's data; the status is 1 if something is missing")
    check.add_argument("suite", metavar="SUITE", help="alfworld, webshop or search_qa")
    check.add_argument("data_dir", nargs="?", metavar="DIR", help="where the data is (default: as for the environment)")
    check.set_defaults(run=_check)


def _check(args: argparse.Namespace) -> int:
    from sdar_envs.data_check import check_data

    is_complete = True
    for finding in check_data(args.suite, args.data_dir):
        is_complete &= finding.state != "missing"
        # A path may have bytes that are no text.
        text = finding.text.encode("utf-8", "backslashreplace").decode()
        say(f"{_MARKS[finding.state]:<8}{text}")
    return 0 if is_complete else 1
