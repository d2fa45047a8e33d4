"""The catalogue that comes with the package: generated once, then read from the cache folder.

Refused: nothing. A cache that is missing or not exactly the content that it should be is made anew, and one that
cannot be written costs the next process half a second. Shops keep a packed form of it besides and rarely come here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sdar_envs.storage import cache_dir, write_atomic
from sdar_envs.webshop.catalog.generator import GeneratedCatalog, generate_catalog, nouns_of

__all__ = ["FINGERPRINT", "EmbeddedCatalog", "EmbeddedNouns", "digest", "embedded_catalog", "to_json"]


@dataclass(frozen=True, slots=True)
class EmbeddedCatalog:
    """The embedded catalogue, in the official file format.

    Attributes:
        products: the records of `items_shuffle.json`.
        attributes: `items_ins_v2.json`, by ASIN.
        human_instructions: `items_human_ins.json`, by ASIN.
        title_nouns: by title, its nouns in lower case, in order, with repetitions.
        fingerprint: tells the content from any other.
    """

    products: tuple[Mapping[str, Any], ...]
    attributes: Mapping[str, Mapping[str, Any]]
    human_instructions: Mapping[str, list[Mapping[str, Any]]]
    title_nouns: Mapping[str, list[str]]
    fingerprint: str


FINGERPRINT = "590bed9a4c0073495dec179e07b52a5e613fe3e0b2089920f1c4ad1eb9665a26"
"""SHA-256 of the content. Published numbers refer to it: a change is a new release of the catalogue, not a repair."""


class EmbeddedNouns:
    """The nouns of the embedded catalogue's titles: a rule gives them, so nothing has to be kept."""

    is_exact = True

    def __init__(self) -> None:
        self.of = lru_cache(maxsize=1 << 12)(self._of)

    def _of(self, title: str) -> tuple[str, ...]:
        return tuple(nouns_of(title))


def embedded_catalog() -> EmbeddedCatalog:
    """Return the embedded catalogue, read anew at each call: several megabytes."""
    path = cache_dir() / "webshop" / f"embedded-{FINGERPRINT[:16]}.json"
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        content = ""
    if digest(content) != FINGERPRINT:
        content = to_json(generate_catalog())
        # A cache is a convenience: a full or read-only disk must not keep anyone from playing.
        with contextlib.suppress(OSError):
            write_atomic(path, content)
    products, attributes, human, nouns = json.loads(content)
    return EmbeddedCatalog(tuple(products), attributes, human, nouns, digest(content))


def to_json(catalog: GeneratedCatalog) -> str:
    """Return the content of the cache: products, attributes, human instructions, nouns."""
    parts = [catalog.products, catalog.attributes, catalog.human_instructions, catalog.title_nouns]
    return json.dumps(parts, separators=(",", ":"))


def digest(content: str) -> str:
    """Return what `FINGERPRINT` is of the embedded catalogue."""
    return hashlib.sha256(content.encode()).hexdigest()
