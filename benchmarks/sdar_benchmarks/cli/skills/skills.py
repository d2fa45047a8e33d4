"""`sdar skills`: the actions on skill libraries and ledgers."""

from __future__ import annotations

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.skills import browse, check, exchange, prompt, propose, stats, trial

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar skills` and its actions."""
    command = commands.add_parser(
        "skills",
        help="skills: list, show, search, check, prompt, import, export, stats, propose, trial, promote, retire",
    )
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    for module in (browse, check, prompt, exchange, stats, propose, trial):
        module.add(actions)
