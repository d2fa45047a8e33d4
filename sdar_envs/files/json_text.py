"""JSON from outside: a parser with one kind of error, and a reader of files that cannot hang or fill the memory.

`parse_json` raises `ValueError` for whatever is no JSON, and for what is nested too deeply: then Python's parser, or
the code that works on the values, would raise RecursionError. `open_file` opens regular files alone: a named pipe
would be waited for without an end.
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from sdar_envs.errors import CorruptData
from sdar_envs.files.foreign import read_foreign

__all__ = ["DEEPEST", "LONGEST_LINE", "check_nesting", "open_file", "parse_json", "read_json_object"]

DEEPEST = 100
"""Levels of lists and objects in a document."""

LONGEST_LINE = 1 << 26
"""Bytes of a line of a file of rows that is read as a whole."""


def parse_json(text: str | bytes, **hooks: Any) -> Any:
    """Return the value of a JSON document.

    Args:
        text: the document.
        **hooks: of `json.loads`.

    Raises:
        ValueError: it is no JSON, not UTF-8, holds a number of thousands of digits, or is nested too deeply.
    """
    try:
        value = json.loads(text, **hooks)  # noqa: TID251
    except RecursionError:
        raise ValueError(f"it is nested more than {DEEPEST} levels deep") from None
    opened = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opened > DEEPEST:
        check_nesting(value)
    return value


def check_nesting(value: Any, *, most_parts: float = math.inf) -> None:
    """Check that lists and objects are not nested too deeply, without recursion.

    Args:
        value: of a document.
        most_parts: limit of the lists and objects on one level. Where a document can name a part twice, as in YAML, a
            few lines can stand for more than any memory holds.

    Raises:
        ValueError: they are, or there are too many.
    """
    level = [value]
    for _ in range(DEEPEST):
        level = [
            part
            for whole in level
            if isinstance(whole, (list, dict))
            for part in (whole.values() if isinstance(whole, dict) else whole)
            if isinstance(part, (list, dict))
        ]
        if not level:
            return
        if len(level) > most_parts:
            raise ValueError(f"it has more than {most_parts:,} parts")
    raise ValueError(f"it is nested more than {DEEPEST} levels deep")


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises:
        FileNotFoundError: there is none.
        CorruptData: it is a folder, a named pipe, a socket or a device, or it may not be read.
    """
    try:
        # Without O_NONBLOCK, a named pipe would be waited for until someone writes to it.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise CorruptData(f"{path} cannot be read ({error.strerror}): wanted a regular file.") from error
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise CorruptData(f"{path} is no regular file: remove it, or restore the file.")
    return os.fdopen(number, "rb")


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        MissingData: there is no such file.
        CorruptData: it holds something else.
    """
    try:
        content = parse_json(read_foreign(path))
    except CorruptData:
        raise
    except ValueError as error:
        raise CorruptData(f"{path} is no JSON ({error}): restore the file.") from error
    if not isinstance(content, dict):
        raise CorruptData(f"{path} holds {content!r:.50}; wanted a JSON object.")
    return content
