"""Progress bars on standard error, for a terminal only."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress, ProgressColumn

__all__ = ["progress_bar"]


def progress_bar(*columns: ProgressColumn, keep: bool = False) -> Progress:
    """Return a progress display; it shows nothing if standard error is no terminal.

    Args:
        *columns: what a bar consists of.
        keep: leave the bars on the screen when they are done.
    """
    stderr = Console(stderr=True)
    return Progress(*columns, console=stderr, transient=not keep, disable=not stderr.is_terminal)
