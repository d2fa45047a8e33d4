"""Files of others: only regular files inside their folder are read, and nothing is written outside the folder.

A folder that came from somebody else may hold symbolic links that lead anywhere, named pipes that never end, devices,
and files without an end. Each of them is refused in words; links to files inside the folder are followed.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from sdar_envs.errors import CorruptData, InvalidOption, MissingData

__all__ = ["LARGEST", "check_target", "files_below", "read_foreign"]

LARGEST = 1 << 24
"""Bytes of the largest text file that is read."""

_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISLNK, "a symbolic link without an end"),
)


def read_foreign(path: Path, *, inside: Path | None = None) -> str:
    """Return the text of a UTF-8 file that somebody else may have made.

    Args:
        path: the file.
        inside: the folder that it belongs to; it is not read if symbolic links lead out of there. None for a file that
            the user named.

    Raises:
        MissingData: there is no such file.
        CorruptData: it lies outside, is no regular file, is larger than `LARGEST`, cannot be read, or is not UTF-8.
    """
    real = os.path.realpath(path)
    _check_inside(path, real, inside)
    try:
        _check_regular(path, os.lstat(real).st_mode)
        # What is there may have become another thing since: a pipe must not be waited for, a link not be followed.
        descriptor = os.open(real, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "rb") as file:
            _check_regular(path, os.fstat(descriptor).st_mode)
            content = file.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingData(f"there is no file {path}.") from error
    except OSError as error:
        raise CorruptData(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > LARGEST:
        raise CorruptData(f"{path} is larger than {LARGEST >> 20} MiB; wanted a text file.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise CorruptData(f"{path}: the file is not UTF-8 ({error}).") from error


def files_below(folder: Path, *, inside: Path | None = None) -> list[Path]:
    """Return the paths of everything below a folder that is no folder, sorted; regular files or not.

    A linked folder is not entered: what it leads to is found at its own place.

    Args:
        folder: where to look.
        inside: as for `read_foreign`.

    Raises:
        CorruptData: a linked folder leads out of there.
    """
    found = []
    for parent, names, files in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path.is_symlink():
                _check_inside(path, os.path.realpath(path), inside)
        found += [Path(parent, name) for name in files]
    return sorted(found)


def check_target(path: Path, folder: Path) -> None:
    """Check that what is written to a path lands inside a folder, and nothing that is there is a link.

    Raises:
        InvalidOption: symbolic links lead out of the folder, or the file is a link.
    """
    if path.is_symlink():
        raise InvalidOption(f"{path} is a symbolic link, and nothing is written through one: remove it.")
    real, root = os.path.realpath(path.parent), os.path.realpath(folder)
    if not Path(real).is_relative_to(root):
        raise InvalidOption(
            f"{path.parent} leads to {real}, out of {folder}, and nothing is written through a symbolic link: remove "
            "it, or name another folder."
        )


def _check_inside(path: Path, real: str, folder: Path | None) -> None:
    if folder is not None and not Path(real).is_relative_to(os.path.realpath(folder)):
        raise CorruptData(
            f"{path} is a link to {real}, outside of {folder}; wanted files inside: put the file there itself."
        )


def _check_regular(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kind = next((words for is_kind, words in _KINDS if is_kind(mode)), "no file")
        raise CorruptData(f"{path} is {kind}; wanted a regular file.")
