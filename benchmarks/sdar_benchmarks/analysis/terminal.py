"""Tables on standard output: no lines between cells, the same text in a terminal and in a pipe."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from sdar_benchmarks.analysis.tables import TextTable
from sdar_envs.printing import console, printable

__all__ = ["WIDTH", "plain_table", "print_table", "stdout"]

_SHORTEST_NAME = 12

WIDTH = 100
"""Maximum width of the output, in columns; in a pipe, tables that need more take more."""


def stdout() -> Console:
    """Return a console for standard output, without markup, highlighting and control characters."""
    made = console()
    # A pipe has no width: rich would assume 80 columns.
    made.width = min(made.width, WIDTH) if made.is_terminal else WIDTH
    return made


def plain_table(*columns: str) -> Table:
    """Return an empty table without lines between cells."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=column == columns[0])
    return table


def print_table(text: TextTable) -> None:
    """Print a table of numbers."""
    table = plain_table(*text.columns)
    for row in text.rows:
        table.add_row(*row, style="bold" if row[0] == "all" else None)
    console = stdout()
    numbers = 2
    for column in table.columns[1:]:
        column.justify = "right"
        column.min_width = max(len(printable(str(cell))) for cell in (column.header, *column.cells))
        numbers += column.min_width + 2
    names = table.columns[0]
    longest = max(len(printable(str(cell))) for cell in (names.header, *names.cells))
    if not console.is_terminal:
        # A pipe takes lines of any length.
        console.width = max(console.width, numbers + longest)
    # In a narrow terminal the names give way, not the numbers and what they are.
    names.max_width = max(console.width - numbers, _SHORTEST_NAME)
    console.print(table)
