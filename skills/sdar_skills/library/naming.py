"""Generated skill names: a slug of the title, and a content hash where slugs may collide."""

from __future__ import annotations

import hashlib
import re

__all__ = ["LONGEST_DESCRIPTION", "LONGEST_NAME", "content_hash", "slug"]

LONGEST_NAME = 64
"""Maximum length of a name in characters (agentskills.io)."""

LONGEST_DESCRIPTION = 1024
"""Maximum length of a description in characters (agentskills.io)."""

_DIGITS = 8


def slug(title: str) -> str:
    """Return a title as lower-case words joined by hyphens, short enough for a hyphen and `content_hash` to follow."""
    words = "-".join(re.findall("[a-z0-9]+", title.lower()))
    return words[: LONGEST_NAME - _DIGITS - 1].rstrip("-") or "skill"


def content_hash(*content: str) -> str:
    """Return the first 8 hexadecimal digits of the SHA-256 of texts."""
    return hashlib.sha256("\0".join(content).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
