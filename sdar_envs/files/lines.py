"""Append-only JSON Lines files that survive a kill: an incomplete last line counts as missing.

One process writes at a time; readers need no lock. Values that are not JSON are written as their `repr`, because agents
may put anything into a row.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sdar_envs.errors import CorruptData
from sdar_envs.files.json_text import LONGEST_LINE, open_file, parse_json

__all__ = [
    "Line",
    "append_row",
    "cut_back",
    "drop_torn_line",
    "line_start",
    "numbered_rows",
    "parse_row",
    "read_lines",
    "read_rows",
]


class Line(NamedTuple):
    """A line of a file.

    Attributes:
        offset: where it begins.
        size: its bytes.
        content: its bytes, with the newline; of a line longer than `LONGEST_LINE`, the beginning.
        is_whole: whether it ends in a newline; a last line that does not is torn by a kill, or being written just now.
    """

    offset: int
    size: int
    content: bytes
    is_whole: bool


def append_row(file: BinaryIO, row: Mapping[str, Any], *, sync: bool = True) -> int:
    """Append a row as one line; return the size of the file before.

    Args:
        file: opened for appending, without a buffer.
        row: the fields.
        sync: wait until the line is on disk. False: a kill loses nothing, a power cut may.

    Raises:
        OSError: it cannot be written, on a full disk for example; no part of a line is left if that is possible.
    """
    try:
        line = json.dumps(row, ensure_ascii=False, default=repr).encode() + b"\n"
    except UnicodeEncodeError:
        # A lone surrogate, which models do write; as an escape it survives.
        line = json.dumps(row, default=repr).encode() + b"\n"
    end = os.fstat(file.fileno()).st_size
    try:
        rest = memoryview(line)
        while rest:
            rest = rest[file.write(rest) :]
        if sync:
            os.fsync(file.fileno())
    except OSError:
        cut_back(file, end)
        raise
    return end


def cut_back(file: BinaryIO, end: int) -> None:
    """Truncate a file to `end` after a failed write; if that fails too, `drop_torn_line` does it later."""
    with suppress(OSError):
        file.truncate(end)


def read_lines(file: BinaryIO) -> Iterator[Line]:
    """Yield the lines of a file from where it stands; memory does not grow with the length of a line."""
    offset = file.tell()
    while part := file.readline(LONGEST_LINE + 1):
        content, size = part, len(part)
        while len(part) > LONGEST_LINE and not part.endswith(b"\n"):
            part = file.readline(LONGEST_LINE + 1)
            size += len(part)
        yield Line(offset, size, content, part.endswith(b"\n"))
        offset += size


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Return an iterator over the rows of the complete lines; empty if there is no file.

    Raises:
        CorruptData: a line other than an incomplete last one cannot be read, or the path is no regular file.
    """
    return (row for _, row in numbered_rows(path))


def numbered_rows(
    path: Path, unread: Callable[[int, CorruptData], object] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number, from 1, and the row of each complete line; nothing if there is no file.

    Args:
        path: the file.
        unread: called with the number of each line that cannot be read, and why; None raises the error instead.

    Raises:
        CorruptData: a line other than an incomplete last one cannot be read, or the path is no regular file.
    """
    with suppress(FileNotFoundError, NotADirectoryError), open_file(path) as file:
        for number, line in enumerate(read_lines(file), 1):
            if not line.is_whole:
                return
            try:
                row = parse_row(line.content, "the line" if unread else f"{path}, line {number},")
            except CorruptData as error:
                if unread is None:
                    raise
                unread(number, error)
            else:
                yield number, row


def parse_row(line: bytes, where: str) -> dict[str, Any]:
    """Return the row of a line.

    Raises:
        CorruptData: it is no JSON object, or longer than `LONGEST_LINE`; the message begins with `where`.
    """
    if len(line) > LONGEST_LINE:
        raise CorruptData(f"{where} is longer than {LONGEST_LINE:,} bytes: remove the line.")
    try:
        row = parse_json(line)
    except ValueError as error:
        raise CorruptData(f"{where} is no JSON ({error}): remove the line.") from error
    if not isinstance(row, dict):
        raise CorruptData(f"{where} holds {row!r:.50}; wanted an object: remove the line.")
    return row


def drop_torn_line(path: Path) -> None:
    """Truncate a file to its last newline, if the file exists."""
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        file.truncate(line_start(file, file.seek(0, os.SEEK_END)))


def line_start(file: BinaryIO, end: int) -> int:
    """Return the offset after the last newline before `end`; 0 if there is none."""
    block = 1 << 16
    while end > 0:
        begin = max(0, end - block)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
