"""Names of skills that are made by machine: words of a title, and a hash where words alone could be another skill's."""

from __future__ import annotations

import hashlib
import re

__all__ = ["LONGEST_DESCRIPTION", "LONGEST_NAME", "digits", "words_of"]

LONGEST_NAME = 64
"""Characters that the convention allows a name."""

LONGEST_DESCRIPTION = 1024
"""Characters that the convention allows a description."""

_DIGITS = 8


def words_of(title: str) -> str:
    """Return the words of a title as a name that leaves room for a hyphen and `digits`."""
    words = "-".join(re.findall("[a-z0-9]+", title.lower()))
    return words[: LONGEST_NAME - _DIGITS - 1].rstrip("-") or "skill"


def digits(*content: str) -> str:
    """Return the beginning of a hash of texts: the same for the same texts only."""
    return hashlib.sha256("\0".join(content).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
