"""The shop: catalogue, search and title nouns, loaded once and shared by all environments of a process.

A shop is immutable and has no session, goal or price limit. Any text is a search, except those on which the original's
text environment stops with an exception: see `UnansweredSearch`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Protocol

from sdar_envs.bm25.index import open_or_build
from sdar_envs.errors import InvalidOption
from sdar_envs.webshop.catalog.embedded import EmbeddedNouns, embedded_catalog
from sdar_envs.webshop.catalog.loading import CatalogFiles, open_catalog
from sdar_envs.webshop.catalog.products import Catalog, Product
from sdar_envs.webshop.nouns import TitleNouns, best_nouns

__all__ = ["RESULTS", "Ranking", "Shop", "UnansweredSearch", "open_shop"]

RESULTS = 50
"""Largest number of products that a search returns."""

_LONGEST_KEPT_QUERY = 1000


class UnansweredSearch(Exception):
    """A search that makes the original's text environment raise `original`."""

    def __init__(self, original: Exception) -> None:
        super().__init__(str(original))
        self.original = original


class Ranking(Protocol):
    """Protocol of the shop's search engine."""

    def search(self, query: str, k: int = RESULTS) -> Sequence[int]:
        """Return the numbers of the best documents, best first."""
        ...


class Shop:
    """Products, search over them, and the nouns of their titles.

    Args:
        catalog: the products.
        ranking: ranks the documents of `catalog.indexed`, numbered in that order.
        nouns: gives the nouns of titles.
    """

    def __init__(self, catalog: Catalog, ranking: Ranking, nouns: TitleNouns) -> None:
        self.catalog = catalog
        self.products: Sequence[Product] = catalog.products
        self.nouns = nouns
        self._ranking = ranking
        # 4096 result lists of 50 numbers take about 3 MB.
        self._recent = lru_cache(maxsize=4096)(self._rank)
        self._in_category = lru_cache(maxsize=64)(catalog.in_category)
        self._with_query = lru_cache(maxsize=256)(catalog.with_query)

    def search(self, keywords: Sequence[str], draw: Callable[[int], Sequence[int]]) -> Sequence[int]:
        """Return the numbers of the products that a search finds, best first.

        Three first keywords are magic, as in the original: `<r>` finds random products, `<c>` all of the category
        named next, `<q>` all that were collected with the query named next.

        Args:
            keywords: the query, split at each space.
            draw: called with the number of products, returns the numbers that `<r>` finds.

        Raises:
            UnansweredSearch: the original's text environment cannot do it: `<a>`, and `<c>` alone.
        """
        if keywords[0] == "<r>":
            return draw(len(self.products))
        if keywords[0] == "<a>":
            raise UnansweredSearch(TypeError("the text environment has no table of attributes"))
        if keywords[0] == "<c>":
            if len(keywords) == 1:
                raise UnansweredSearch(IndexError("no category follows <c>"))
            return self._in_category(keywords[1].strip())
        if keywords[0] == "<q>":
            return self._with_query(" ".join(keywords[1:]).strip())
        query = " ".join(keywords)
        return self._recent(query) if len(query) <= _LONGEST_KEPT_QUERY else self._rank(query)

    def _rank(self, query: str) -> tuple[int, ...]:
        sold = len(self.products)
        # Hits that the catalogue lacks are dropped, as the original does: see `Catalog.indexed`.
        return tuple(int(number) for number in self._ranking.search(query, RESULTS) if number < sold)


def open_shop(data: str, *, data_dir: str | None = None, human: bool = False, num_products: int | None = None) -> Shop:
    """Return the shop of a catalogue; equal arguments give the same object within a process.

    Args:
        data: `embedded` or `official`.
        data_dir: where the official files are, see `CatalogFiles.find`.
        human: load human instructions too.
        num_products: only the products among the first so many records.

    Raises:
        MissingData: official files are not there.
        CorruptData: they are damaged.
    """
    if data == "embedded":
        return _embedded_shop(num_products)
    if data != "official":
        raise InvalidOption(f"data is {data!r}; wanted 'embedded' or 'official'.")
    files = CatalogFiles.find(data_dir)
    return _official_shop(files, human, num_products, files.state())


@lru_cache(maxsize=4)
def _embedded_shop(num_products: int | None) -> Shop:
    catalog = embedded_catalog(num_products)
    return Shop(catalog, _ranking(catalog), EmbeddedNouns())


@lru_cache(maxsize=4)
def _official_shop(
    files: CatalogFiles, human: bool, num_products: int | None, _state: tuple[tuple[str, int, int], ...]
) -> Shop:
    catalog = open_catalog(files, human=human, num_products=num_products)
    return Shop(catalog, _ranking(catalog), best_nouns(catalog.titles))


def _ranking(catalog: Catalog) -> Ranking:
    return open_or_build("webshop", catalog.index_key, catalog.documents(), total=len(catalog.indexed))
