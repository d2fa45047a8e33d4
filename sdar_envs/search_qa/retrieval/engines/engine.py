"""Base class of search engines: validation of requests, and hits from places in a corpus."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any, Self, SupportsIndex

from sdar_envs.core import is_integer
from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.importing import import_extra
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage

__all__ = ["Engine", "Found", "check_request", "load_package"]

Found = tuple[Sequence[int], Sequence[float]]
"""Places in the corpus and their scores, best first; equal scores in the order of the corpus."""


def check_request(queries: Sequence[str], k: int) -> None:
    """Validate a search request.

    Raises:
        InvalidOption: the queries are not a list of texts, or `k` is below 1.
    """
    if isinstance(queries, str) or not all(isinstance(query, str) for query in queries):
        raise InvalidOption(f"the queries are {str(queries)[:200]!r}; wanted a list of texts, such as [query].")
    if not (is_integer(k) and k >= 1):
        raise InvalidOption(f"k is {k!r}; wanted how many passages to return, from 1.")


def load_package(name: str) -> Any:
    """Import the package that an engine is named after, when it is needed.

    Raises:
        MissingExtra: it is not installed.
    """
    return import_extra(name, extra=name, purpose=f"the engine {name}")


class Engine(ABC):
    """Base class of retrievers over passages in memory or on disk; an engine implements `_find`.

    Args:
        passages: the corpus.
        indexed: how many passages the engine's index is of.
        fingerprint: tells engine and corpus from any other.

    Raises:
        CorruptData: the index is of another corpus.
    """

    def __init__(self, passages: Sequence[Passage], indexed: int, fingerprint: str) -> None:
        if indexed != len(passages):
            raise CorruptData(f"the index is of {indexed} passages, the corpus has {len(passages)}: make it again.")
        self._passages = passages
        self._fingerprint = fingerprint
        self._opening: partial[Any] | None = None

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        # A copy in another process maps the same files instead of carrying them along.
        if self._opening is not None:
            return self._opening, ()
        return super().__reduce_ex__(protocol)

    def opened_by(self, opening: partial[Self]) -> Self:
        """Set how to open the same index again, which is how the engine pickles; return the engine."""
        self._opening = opening
        return self

    @property
    def fingerprint(self) -> str:
        """Identifies engine and corpus."""
        return self._fingerprint

    @property
    def passages(self) -> Sequence[Passage]:
        """The corpus."""
        return self._passages

    @property
    def passage_count(self) -> int:
        """How many passages the corpus has."""
        return len(self._passages)

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Return the best passages for each query; see `Retriever.search`.

        Raises:
            InvalidOption: the queries are not a list of texts, or `k` is below 1.
        """
        passages = self._passages
        return [
            tuple([Hit(passages[place], score) for place, score in zip(*found, strict=True)])
            for found in self.rank(queries, k)
        ]

    def rank(self, queries: Sequence[str], k: int) -> Sequence[Found]:
        """Return the places of the best passages in the corpus and their scores, for each query.

        Raises:
            InvalidOption: the queries are not a list of texts, or `k` is below 1.
        """
        check_request(queries, k)
        return self._find(queries, min(k, len(self._passages)))

    @abstractmethod
    def _find(self, queries: Sequence[str], k: int) -> Sequence[Found]:
        """Return what was found for each query; `k` is at most the number of passages."""
