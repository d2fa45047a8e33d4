"""`sdar skills`: the actions on skill libraries and ledgers."""

from __future__ import annotations

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.skills import browse, check, exchange, stats

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar skills` and its actions."""
    command = commands.add_parser(
        "skills", help="skill libraries and ledgers: list, show, search, check, import, export, stats"
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    for module in (browse, check, exchange, stats):
        module.add(actions)
