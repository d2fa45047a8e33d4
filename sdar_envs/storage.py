"""Paths and atomic file writes: the cache folder, user paths, `write_atomic`."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from sdar_envs.errors import InvalidOption, MissingData

__all__ = ["cache_dir", "given_path", "write_atomic"]


def given_path(path: object) -> Path:
    """Return a user's path, absolute and with `~` expanded: the working directory may change later.

    Raises:
        InvalidOption: it is not a str.
        MissingData: it is in the home of a user who does not exist.
    """
    if not isinstance(path, str):
        raise InvalidOption(f"the path is {path!r}; wanted str, so that the environment's spec stays JSON.")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise MissingData(f"there is no folder {path!r} ({error})") from error


def cache_dir() -> Path:
    """Return the folder for derived data: `$SDAR_CACHE_DIR`, else the user's cache folder."""
    return Path(os.environ.get("SDAR_CACHE_DIR") or platformdirs.user_cache_dir("sdar-envs"))


def write_atomic(path: Path, content: str | Iterable[str]) -> None:
    """Write a text file atomically: a reader sees the old content or the new, never a part.

    Args:
        path: the file.
        content: the text, or its pieces; if their iterator raises, an old file stays as it was.

    Raises:
        OSError: the folder cannot be made or written; an old file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files can be read by their owner alone, and a data folder is often shared.
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.writelines([content] if isinstance(content, str) else content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
