"""Parts of docstrings in Google's style: the text before the first section, and the entries of a section."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

__all__ = ["attribute_texts", "entries", "introduction", "summary"]

_SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Source):", re.MULTILINE)
_ENTRY = re.compile(r"^ {4}(\*{0,2}\w+): (.*(?:\n(?: {8}.*|$))*)", re.MULTILINE)


def summary(owner: object) -> str:
    """Return the first paragraph of a docstring, on one line."""
    return " ".join((inspect.getdoc(owner) or "").split("\n\n")[0].split())


def introduction(owner: object) -> str:
    """Return the text of a docstring before its first section."""
    text = inspect.getdoc(owner) or ""
    section = _SECTION.search(text)
    return (text[: section.start()] if section else text).strip()


def entries(owner: object, section: str) -> dict[str, str]:
    """Return the entries of a section, such as `Args`, by name, each on one line."""
    text = inspect.getdoc(owner) or ""
    found = re.search(rf"^{section}:\n((?: {{4}}.*\n?|\n)+)", text, re.MULTILINE)
    if not found:
        return {}
    return {name.lstrip("*"): " ".join(words.split()) for name, words in _ENTRY.findall(found[1])}


def attribute_texts(owner: type) -> dict[str, str]:
    """Return the texts of a class's attributes, inherited ones included."""
    return dict(_attributes(owner))


def _attributes(owner: type) -> Iterator[tuple[str, str]]:
    for base in reversed(owner.__mro__):
        if base.__doc__ and base is not object:
            yield from entries(base, "Attributes").items()
