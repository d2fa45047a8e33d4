"""Progress on standard error: bars in a terminal, elsewhere a line in ten seconds."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta
from threading import Event, RLock, Thread
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
    """Progress that prints a line for each task in ten seconds: done, further fields, rate and time left.

    A thread prints them, so that they go on where one item takes longer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._tasks_lines: dict[TaskID, _TaskLines] = {}
        self._printing = RLock()
        self._is_over = Event()

    def start(self) -> None:
        Thread(target=self._tick, daemon=True).start()

    def stop(self) -> None:
        self._is_over.set()

    def add_task(self, description: str, *args: Any, **kwargs: Any) -> TaskID:
        task = super().add_task(description, *args, **kwargs)
        self._tasks_lines[task] = _TaskLines(description)
        return task

    def update(self, task_id: TaskID, **kwargs: Any) -> None:
        super().update(task_id, **kwargs)
        self._print(task_id)

    def _tick(self) -> None:
        while not self._is_over.wait(1):
            for task_id in list(self._tasks_lines):
                self._print(task_id)

    def _print(self, task_id: TaskID) -> None:
        task = self._tasks[task_id]
        with self._printing:
            if not self._is_over.is_set():
                self._tasks_lines[task_id].update(task.completed, task.total, filter(None, task.fields.values()))


class _TaskLines:
    def __init__(self, title: str) -> None:
        self._lines = ProgressLines(title, at_once=False)
        self._start: tuple[float, float] | None = None

    def update(self, done: float, total: float | None, fields: Iterable[Any]) -> None:
        now = time.monotonic()
        # A run that is resumed begins with what was done before.
        self._start = self._start or (now, done)
        seconds, new = now - self._start[0], done - self._start[1]
        notes = list(map(str, fields))
        if new > 0 and seconds > 0:
            rate = new / seconds
            notes.append(f"{rate:.1f} a second" if rate >= 1 else f"{60 * rate:.1f} a minute")
            if total is not None and done < total:
                notes.append(f"{timedelta(seconds=round((total - done) / rate))} left")
        self._lines.update(done, total, ", ".join(notes))
