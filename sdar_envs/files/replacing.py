"""Files and folders that appear whole: written under a hidden name, then renamed.

The hidden name of `NAME` is `.NAME=` with 16 hexadecimal digits, and `-old` behind them while a folder waits for its
successor. A process that is killed leaves it behind; `sweep` deletes such remains when the next writer starts. Remains
of a living writer stay: a folder's writer holds a lock (`sdar_envs.files.locks`), which whoever sweeps holds instead,
and a file is locked itself while it is written.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sdar_envs.errors import InvalidOption
from sdar_envs.files.locks import Contended, lock_file, lock_path, writing_path

__all__ = ["delete_folder", "hidden_name", "new_folder", "replace_folder", "sweep", "sweep_behind", "write_file"]

_HIDDEN = re.compile(r"\.(.+)=[0-9a-f]{16}(-old)?", re.DOTALL)
_OLD = "-old"


def hidden_name(path: Path) -> Path:
    """Return a new hidden name beside a file or folder."""
    return path.with_name(f".{path.name}={secrets.token_hex(8)}")


def write_file(path: Path, pieces: Iterable[str] | bytes) -> None:
    """Write bytes, or text in UTF-8, under a hidden name, then rename the file; remains of it are swept away.

    Raises:
        OSError: the folder cannot be made or written; an old file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep_files(_remains(path.parent, path.name))
    # Not tempfile: its files can be read by their owner alone, and a data folder is often shared.
    temporary, locked = _open_hidden(path)
    try:
        if isinstance(pieces, bytes):
            temporary.write_bytes(pieces)
        else:
            with open(temporary, "w", encoding="utf-8") as file:
                file.writelines(pieces)
        if os.name == "nt":
            locked.close()  # an open file cannot be renamed there
        os.replace(temporary, path)
    except BaseException:
        locked.close()
        temporary.unlink(missing_ok=True)
        raise
    finally:
        locked.close()


def _open_hidden(path: Path) -> tuple[Path, BinaryIO]:
    """Make an empty file of a hidden name, locked while the second value is open."""
    while True:
        temporary = hidden_name(path)
        file = open(temporary, "xb", buffering=0)  # noqa: SIM115
        if os.name == "nt":
            return temporary, file  # an open file cannot be deleted there
        try:
            with suppress(OSError):  # of a file system without locks, where nothing is swept
                lock_file(file)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(temporary)):
                return temporary, file
        except (Contended, FileNotFoundError):
            pass  # swept away before it was locked
        file.close()


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a hidden name for a new folder, which the block makes; at its end the folder is renamed to `path`.

    The caller holds the lock that guards `path`. If the block raises, the folder is deleted.

    Raises:
        OSError: there is a folder `path` already that is not empty.
    """
    temporary = hidden_name(path)
    try:
        yield temporary
        os.rename(temporary, path)
    finally:
        _remove(temporary)


def replace_folder(folder: Path, path: Path) -> None:
    """Rename a finished folder to `path`, in the place of what is there; the caller holds the lock that guards it.

    A kill in the middle leaves nothing at `path`; `sweep` brings the old folder back.
    """
    old = folder.with_name(f"{hidden_name(path).name}{_OLD}")
    if os.path.lexists(path):
        os.rename(path, old)
    os.rename(folder, path)
    if os.path.lexists(old):
        # `sweep` must not bring back a folder that is half deleted.
        delete_folder(old.rename(hidden_name(path)))


def delete_folder(path: Path) -> None:
    """Delete a folder, or what else has that name, under a hidden name: half deleted it must not look whole."""
    hidden = path if _HIDDEN.fullmatch(path.name) else hidden_name(path)
    if hidden != path:
        os.rename(path, hidden)
    _remove(hidden)


def sweep(folder: Path, name: str | None = None) -> None:
    """Delete what killed writers left in a folder, or put it back; the caller holds the lock that guards it.

    An old folder whose successor did not come gets its name again.

    Args:
        folder: may be missing.
        name: of a file or folder in it, whose remains alone are meant; None for those of all.
    """
    remains = list(_remains(folder, name))
    _sweep_files(remains)
    for entry in remains:
        match = _HIDDEN.fullmatch(entry.name)
        if match and match[2] and not os.path.lexists(path := entry.with_name(match[1])):
            os.rename(entry, path)
        elif entry.is_dir() or entry.is_symlink():
            _remove(entry)


def sweep_behind(path: Path) -> None:
    """Sweep up behind a killed writer of `path`, for its readers: its lock file is still there, and nobody holds it."""
    path = path.absolute()
    if lock_path(path).exists():
        with suppress(InvalidOption, OSError), writing_path(path) as is_locked:
            if is_locked:
                sweep(path.parent, path.name)


def _remains(folder: Path, name: str | None) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            match = _HIDDEN.fullmatch(entry.name)
            if match and name in (None, match[1]):
                yield Path(entry.path)


def _sweep_files(remains: Iterable[Path]) -> None:
    for path in remains:
        if path.is_symlink() or not path.is_file():
            continue
        with suppress(Contended, OSError), open(path, "r+b", buffering=0) as file:
            lock_file(file)
            if os.name != "nt":
                path.unlink()
                continue
        if os.name == "nt":
            with suppress(OSError):
                path.unlink()  # fails while its writer has it open


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
