"""Files and caches: the cache folder, user paths, atomic writes, progress of what takes long."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from sdar_envs.errors import InvalidOption, MissingData, did_you_mean
from sdar_envs.files.replacing import write_file
from sdar_envs.printing import console, say

__all__ = [
    "ProgressLines",
    "absolute_arguments",
    "absolute_path",
    "cache_dir",
    "check_run",
    "given_path",
    "with_progress",
    "write_atomic",
]

ItemT = TypeVar("ItemT")

_SECONDS_BETWEEN_LINES = 10.0


def given_path(path: object) -> Path:
    """Return a user's path, absolute, with `~` and `$VARIABLES` expanded: the working directory may change later.

    Raises:
        InvalidOption: it is neither a str nor a `Path`.
        MissingData: it is in the home of a user who does not exist, or below a variable that is not set.
    """
    if not isinstance(path, (str, os.PathLike)) or not isinstance(name := os.fspath(path), str):
        raise InvalidOption(f"the path is {path!r}; wanted str or Path.")
    expanded = os.path.expandvars(name)
    variable = re.search(r"\$(\w+|\{\w+\})", expanded)
    if variable and not os.path.lexists(expanded):
        raise MissingData(f"there is no folder {name!r}: the environment variable {variable.group()} is not set.")
    try:
        return Path(expanded).expanduser().absolute()
    except RuntimeError as error:
        raise MissingData(f"there is no folder {path!r} ({error})") from error


def absolute_path(value: Any, names: Collection[str] = ()) -> Any:
    """Return a value that names an existing file or folder as an absolute path; any other value as it is.

    A configuration that is written down is read again from other folders, where a relative path leads elsewhere. The
    name of a model on a hub, an address or `module:name` is no file, and stays.

    Args:
        value: a str or `Path`, or a list of them.
        names: texts that mean something else than a file of that name, such as `embedded`.
    """
    if isinstance(value, (list, tuple)):
        return type(value)(absolute_path(part, names) for part in value)
    if isinstance(value, Path):
        return str(value.expanduser().absolute())
    if not isinstance(value, str) or not value or value in names:
        return value
    expanded = os.path.expanduser(os.path.expandvars(value))
    return os.path.abspath(expanded) if os.path.exists(expanded) else value


def absolute_arguments(owner: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return keyword arguments with their paths absolute, for a record of how something was made.

    Args:
        owner: the class or function that gets them. Its attribute `path_arguments` maps each argument that is a path
            to the texts that mean something else there: `{"data_dir": (), "retriever": ("embedded",)}`.
        given: the arguments, by name.
    """
    paths: Mapping[str, Collection[str]] = getattr(owner, "path_arguments", {})
    return {name: absolute_path(value, paths[name]) if name in paths else value for name, value in given.items()}


def check_run(folder: Path, config: str) -> None:
    """Check that a folder holds a run which can be resumed.

    Args:
        folder: as given by the user.
        config: name of the file that each run has.

    Raises:
        MissingData: it does not; the message names the closest folder that does.
    """
    if (folder / config).is_file():
        return
    absolute = folder.absolute()
    if not absolute.parent.is_dir():
        around, suggestion = f"and there is no folder {absolute.parent}", ""
    else:
        runs = sorted(path.name for path in absolute.parent.iterdir() if (path / config).is_file())
        around, suggestion = f"runs beside it: {', '.join(runs[:5]) or 'none'}", did_you_mean(absolute.name, runs)
    raise MissingData(
        f"{folder} holds no run to resume (it has no {config}); {around}. Name the run's folder, or leave out --resume "
        f"to begin a new one.{suggestion}"
    )


def cache_dir() -> Path:
    """Return the folder for derived data: `$SDAR_CACHE_DIR`, else the user's cache folder."""
    return Path(os.environ.get("SDAR_CACHE_DIR") or platformdirs.user_cache_dir("sdar-envs"))


def write_atomic(path: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file atomically: a reader sees the old content or the new, never a part.

    Args:
        path: the file.
        content: the bytes, the text, or its pieces; if their iterator raises, an old file stays as it was.

    Raises:
        OSError: the folder cannot be made or written; an old file stays as it was.
    """
    write_file(path, [content] if isinstance(content, str) else content)


class ProgressLines:
    """Progress in lines on standard error, for where it is no terminal: one in ten seconds.

    Args:
        title: stands before the numbers.
        at_once: print the first update; otherwise work of less than ten seconds is silent.
    """

    def __init__(self, title: str, *, at_once: bool = True) -> None:
        self._title = title
        self._told = -math.inf if at_once else time.monotonic()
        self._is_silent = True
        self._has_ended = False

    def update(self, done: float, total: float | None, note: str = "") -> None:
        """Print a line, unless the last one is not long ago and there is more to come, or the last one said the end.

        Args:
            done: items done.
            total: all items; None if unknown.
            note: said after the numbers.
        """
        now = time.monotonic()
        is_done = total is not None and done >= total
        is_end = is_done and not self._is_silent
        if (self._has_ended and is_done) or (now - self._told < _SECONDS_BETWEEN_LINES and not is_end):
            return
        self._has_ended = is_done
        self._told, self._is_silent = now, False
        of = "" if total is None else f" of {total:,.0f}"
        say(f"{self._title}: {done:,.0f}{of}{f', {note}' if note else ''}", error=True)


def with_progress(
    items: Iterable[ItemT], title: str, *, total: int | None, show_from: int, is_long: bool = False
) -> Iterable[ItemT]:
    """Return the items, with progress on standard error if there are many: a bar, or lines where it is no terminal.

    Args:
        items: what is worked through.
        title: shown before the progress.
        total: number of items; None if it is unknown.
        show_from: number of items from which progress is shown.
        is_long: show progress whatever the number of items, known or not, and at once where it is in lines.
    """
    if not is_long and (total is None or total < show_from):
        return items
    if not sys.stderr.isatty():
        return _in_lines(items, ProgressLines(title, at_once=is_long), total)
    # Importing a terminal library takes longer than working through a few items.
    from rich.markup import escape  # noqa: PLC0415
    from rich.progress import track  # noqa: PLC0415

    return track(items, escape(title), total=total, console=console(stderr=True), transient=True)


def _in_lines(items: Iterable[ItemT], lines: ProgressLines, total: int | None) -> Iterator[ItemT]:
    lines.update(0, total)
    for done, item in enumerate(items, 1):
        yield item
        lines.update(done, total)
