"""Files of JSON lines that are appended to and survive a kill: a torn last line counts as missing.

One process writes at a time; readers need no lock. It refuses nothing that an agent may put into a row: what is no JSON
is written as its `repr`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from sdar_envs.errors import CorruptData

__all__ = ["append_row", "cut_back", "drop_torn_line", "line_start", "parse_row", "read_rows"]


def append_row(file: BinaryIO, row: Mapping[str, Any], *, sync: bool = True) -> int:
    """Write a line; return where the file ended before.

    Args:
        file: opened for appending, without a buffer.
        row: the line.
        sync: have it on the disk before going on. False: a kill loses nothing, a power cut may.

    Raises:
        OSError: it cannot be written, on a full disk for example; no part of a line is left if that is possible.
    """
    try:
        # An agent of the user's may put anything into its messages.
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
    """Take back what was written in part; if not even that can be done, `drop_torn_line` does it later."""
    with suppress(OSError):
        file.truncate(end)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Read the complete lines one by one; none if there is no file.

    Raises:
        CorruptData: a line other than a torn last one cannot be read.
    """
    with suppress(FileNotFoundError), open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn by a kill, or being written just now
            yield parse_row(line, f"{path}, line {number},")


def parse_row(line: bytes, where: str) -> dict[str, Any]:
    """Read a line.

    Raises:
        CorruptData: it is no JSON object; the message begins with `where`.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise CorruptData(f"{where} is no JSON ({error}): remove the line.") from error
    if not isinstance(row, dict):
        raise CorruptData(f"{where} holds {row!r:.50}; wanted an object: remove the line.")
    return row


def drop_torn_line(path: Path) -> None:
    """Remove what stands behind the last newline, if there is such a file."""
    with suppress(FileNotFoundError), open(path, "r+b") as file:
        file.truncate(line_start(file, file.seek(0, os.SEEK_END)))


def line_start(file: BinaryIO, end: int) -> int:
    """Return the offset behind the last newline before `end`; 0 if there is none."""
    block = 1 << 16
    while end > 0:
        begin = max(0, end - block)
        file.seek(begin)
        found = file.read(end - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
