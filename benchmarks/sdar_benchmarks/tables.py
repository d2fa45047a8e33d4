"""What tables of the command line look like."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

__all__ = ["WIDTH", "plain_table", "stdout"]

WIDTH = 100
"""Characters in a line, unless the terminal is narrower."""


def stdout() -> Console:
    """Return a console on standard output."""
    console = Console(highlight=False, markup=False, emoji=False)
    # A pipe has no width of its own.
    console.width = min(console.width, WIDTH) if console.is_terminal else WIDTH
    return console


def plain_table(*columns: str) -> Table:
    """Make a table without lines: it reads as well from a pipe, and fits into 80 columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column == columns[0])
    return table
