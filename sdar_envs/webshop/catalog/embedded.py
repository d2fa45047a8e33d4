"""Embedded catalogue: generated once from a pinned seed, then read from the cache folder in packed form."""

from __future__ import annotations

from functools import lru_cache

from sdar_envs.files.arrays import open_or_make
from sdar_envs.webshop.catalog.generator import generate_catalog, nouns_of
from sdar_envs.webshop.catalog.loading import build_catalog
from sdar_envs.webshop.catalog.products import Catalog

__all__ = ["FINGERPRINT", "EmbeddedNouns", "embedded_catalog"]

FINGERPRINT = "590bed9a4c0073495dec179e07b52a5e613fe3e0b2089920f1c4ad1eb9665a26"
"""SHA-256 of `generate_catalog()` as JSON: products, attributes, human instructions, nouns of titles, without spaces.

Published numbers refer to it: a change is a new release of the catalogue, not a repair. A test compares it.
"""


class EmbeddedNouns:
    """Nouns of the embedded catalogue's titles, by the generator's own rule. Exact."""

    is_exact = True

    def __init__(self) -> None:
        self.of = lru_cache(maxsize=1 << 12)(self._of)

    def _of(self, title: str) -> tuple[str, ...]:
        return tuple(nouns_of(title))


def embedded_catalog(num_products: int | None = None) -> Catalog:
    """Return the embedded catalogue.

    Args:
        num_products: only the products among the first so many records; None for all.
    """

    def make() -> Catalog:
        made = generate_catalog()
        return build_catalog(
            made.products,
            made.attributes,
            made.human_instructions,
            num_products=num_products,
            origin="the embedded catalogue",
        )

    key = f"catalog-{FINGERPRINT[:32]}-{'all' if num_products is None else num_products}"
    return open_or_make("webshop", key, Catalog.open, make, Catalog.save, what="catalogue")
