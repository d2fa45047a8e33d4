"""Options that choose a skill library."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdar_skills import Library

__all__ = ["add_library", "read_library"]


def add_library(action: argparse._ActionsContainer) -> None:
    """Add `--library` and `--no-builtin`."""
    action.add_argument(
        "--library", action="append", default=[], metavar="DIR", help="additional folder of skills; may be repeated"
    )
    action.add_argument("--no-builtin", action="store_true", help="without the skills of this package")


def read_library(args: argparse.Namespace) -> Library:
    """Return the library that the options of `add_library` describe."""
    from sdar_skills import Library

    return Library.load(*args.library, builtin=not args.no_builtin)
