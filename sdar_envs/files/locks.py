"""Locks of writers: one process at a time writes a run folder, an index, a cache entry or a leaderboard.

The operating system holds the lock (`flock`; a locked byte on Windows), so it ends with its process, however that ends,
also where a container starts again with the same process numbers. The lock file holds a note on who writes, for the
error line of the next one; the note alone locks nothing, and the file is deleted at the end (not on Windows). Readers
need no lock. On NFS, Linux passes the locks on to the server; a file system without any gives a warning instead.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import sys
import time
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sdar_envs.errors import InvalidOption
from sdar_envs.files.json_text import parse_json

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["Contended", "Taken", "lock_file", "lock_path", "writing_folder", "writing_path"]

_LOCK = ".lock"
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_SECONDS_BETWEEN_TRIES = 0.05
_TRIES_TO_READ = 10
# Far behind the note, because Windows lets nobody read a locked byte.
_LOCKED_BYTE = 1 << 30

_held: weakref.WeakSet[BinaryIO] = weakref.WeakSet()


class Contended(Exception):
    """Another process, or another part of this one, holds the lock."""


class Taken(InvalidOption):
    """A file or folder is being written by another process."""


@contextmanager
def writing_folder(folder: Path) -> Iterator[bool]:
    """Be the one writer of a folder, such as a run's, which is made if it is missing and deleted if it stays empty.

    The lock file is in the folder, because the one around it may not be writable. The value is False if the file system
    has no locks.

    Raises:
        Taken: it is being written by another process.
        InvalidOption: it is no folder.
        OSError: the folder or its lock file cannot be made.
    """
    is_new = not folder.exists()
    if not is_new and not folder.is_dir():
        raise InvalidOption(f"{folder} exists and is no folder: choose another name.")
    try:
        with _held_lock(folder / _LOCK, folder) as is_locked:
            yield is_locked
    finally:
        if is_new:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def writing_path(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Be the one writer of a file or folder that is replaced as a whole; the lock file is beside it.

    The value is False if the file system has no locks.

    Args:
        path: what is written; the folder around it is made if it is missing.
        wait: wait for another writer instead of raising.

    Raises:
        Taken: it is being written by another process.
        OSError: the lock file cannot be made.
    """
    with _held_lock(lock_path(path), path, wait=wait) as is_locked:
        yield is_locked


def lock_path(path: Path) -> Path:
    """Return the lock file of `writing_path`; where there is one, somebody writes or was killed (or it is Windows)."""
    path = path.absolute()  # "." has no name
    return path.parent / f".{path.name}.lock"


@contextmanager
def _held_lock(path: Path, what: Path, *, wait: bool = False) -> Iterator[bool]:
    path = path.absolute()  # the working directory may change before the end
    while True:
        try:
            file, is_locked = _open_locked(path)
            break
        except Contended:
            if not wait:
                raise Taken(_taken(path, what)) from None
            time.sleep(_SECONDS_BETWEEN_TRIES)
    if not is_locked:
        warnings.warn(
            f"the file system of {what} has no locks: see to it that no other process writes there.", stacklevel=5
        )
    process = os.getpid()
    _held.add(file)
    try:
        with suppress(OSError):  # on a full disk the lock does without its note
            file.truncate(0)
            file.write(_note())
        yield is_locked
    finally:
        _held.discard(file)
        if os.getpid() == process:  # a child that was forked meanwhile does not own the lock
            if sys.platform != "win32":
                # Before the lock is given up: whoever waits for this file sees that it no longer has its name.
                with suppress(OSError):
                    if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                        path.unlink()
            file.close()


def _open_locked(path: Path) -> tuple[BinaryIO, bool]:
    """Open a lock file and lock it; the second value is False if the file system has no locks.

    Raises:
        Contended: it is locked.
        OSError: it cannot be made.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = _open(path)
        except FileNotFoundError:
            continue  # the writer before has just deleted the folder, which it left empty
        try:
            lock_file(file)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file, True
        except FileNotFoundError:
            pass  # the writer before has deleted it: this is a file that nobody else will find
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return file, False
            file.close()
            raise
        except Contended:
            file.close()
            raise
        file.close()


def _open(path: Path) -> BinaryIO:
    # Not through a symbolic link, whose target the note would replace.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    return open(os.open(path, flags, 0o666), "r+b", buffering=0)


def lock_file(file: BinaryIO) -> None:
    """Lock an open file until it is closed, without waiting.

    Raises:
        Contended: another process, or another opening of the file, has locked it.
        OSError: the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            file.seek(_LOCKED_BYTE)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise Contended from error
        raise


def _note() -> bytes:
    note = {
        "process": os.getpid(),
        "host": platform.node(),
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": _command(),
    }
    return json.dumps(note).encode() + b"\n"


def _command() -> str:
    """Return the program and its verb. No arguments: there may be a secret among them."""
    program, *arguments = sys.argv or [""]
    name = Path(program).name
    if name in ("sdar", "__main__.py") and arguments and re.fullmatch(r"[a-z]{1,20}", arguments[0]):
        return f"sdar {arguments[0]}"
    return "python" if name in ("", "-c", "-m") else name


def _taken(path: Path, what: Path) -> str:
    """Return the message for what is being written, from the note of its writer."""
    writer = "another process"
    for _ in range(_TRIES_TO_READ):
        if note := _read_note(path):
            writer = note
            break
        time.sleep(_SECONDS_BETWEEN_TRIES / 2)  # it may be about to be written
    return f"{what} is being written by {writer}: wait for it, or choose another name."


def _read_note(path: Path) -> str:
    """Return what a note says; empty if it is not readable. The file may be anybody's."""
    try:
        with open(path, "rb") as file:
            note = parse_json(file.read(2000))
        process, host, since, command = (str(note[key]) for key in ("process", "host", "since", "command"))
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    if not all(re.fullmatch(r"[\w.:+ -]{1,100}", part) for part in (process, host, since, command)):
        return ""
    return f"process {process} on {host} since {since} ({command})"


def _leave_to_parent() -> None:
    """Close the lock files in a forked child, which would otherwise hold the locks of a parent that was killed."""
    for file in list(_held):
        with suppress(OSError):
            file.close()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
