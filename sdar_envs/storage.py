"""Files that survive a crash, and where caches live."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import platformdirs

__all__ = ["cache_dir", "write_atomic"]


def cache_dir() -> Path:
    """Return the folder for derived data: `$SDAR_CACHE_DIR`, else the user's cache folder."""
    return Path(os.environ.get("SDAR_CACHE_DIR") or platformdirs.user_cache_dir("sdar-envs"))


def write_atomic(path: Path, content: str) -> None:
    """Write a text file so that a reader sees the old content or the new, never a part.

    Raises:
        OSError: the folder cannot be made or written; an old file stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files can be read by their owner alone, and a data folder is often shared.
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with open(temporary, "x", encoding="utf-8") as file:
            file.write(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
