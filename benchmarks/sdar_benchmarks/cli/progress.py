"""Progress on standard error: bars in a terminal, elsewhere a line in ten seconds."""

from __future__ import annotations

from typing import Any

from rich.progress import Progress, ProgressColumn, TaskID

from sdar_envs.printing import console
from sdar_envs.storage import ProgressLines

__all__ = ["progress_bar"]


def progress_bar(*columns: ProgressColumn, keep: bool = False) -> Progress:
    """Return a progress display; if standard error is no terminal, it prints lines.

    Args:
        *columns: what a bar consists of.
        keep: leave the bars on the screen when they are done.
    """
    stderr = console(stderr=True)
    if stderr.is_terminal:
        return Progress(*columns, console=stderr, transient=not keep)
    return _Lines(console=stderr, disable=True)


class _Lines(Progress):
    """Progress that prints a line for each task in ten seconds, with its further fields after the numbers."""

    def add_task(self, description: str, *args: Any, **kwargs: Any) -> TaskID:
        task = super().add_task(description, *args, **kwargs)
        self._lines = {**getattr(self, "_lines", {}), task: ProgressLines(description, at_once=False)}
        return task

    def update(self, task_id: TaskID, **kwargs: Any) -> None:
        super().update(task_id, **kwargs)
        task = self._tasks[task_id]
        self._lines[task_id].update(task.completed, task.total, "  ".join(map(str, filter(None, task.fields.values()))))
