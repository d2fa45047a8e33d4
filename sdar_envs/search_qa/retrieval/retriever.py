"""Retriever protocol: what an environment needs of a search engine.

A retriever answers many queries at once. It is deterministic: equal queries give equal hits, in an order in which ties
are broken by the passages' place in the corpus. Any text is a query; one without a word that counts finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sdar_envs.errors import SdarError

__all__ = ["Hit", "Passage", "RetrievalFailed", "Retriever"]


class RetrievalFailed(SdarError, RuntimeError):
    """A search engine cannot be reached or gives no usable answer. Raised, and not shown to a model by default."""


@dataclass(frozen=True, slots=True)
class Passage:
    r"""A passage in the form of the field's corpora.

    Attributes:
        id: unique in its corpus.
        contents: the title in double quotes, a line break, the text: `"Lima"\nLima is ...`.
    """

    id: str
    contents: str

    @property
    def title(self) -> str:
        """The first line without its double quotes."""
        return self.contents.partition("\n")[0].strip().strip('"')

    @property
    def text(self) -> str:
        """All but the first line."""
        return self.contents.partition("\n")[2]


class Hit(NamedTuple):
    """A found passage with the engine's score; the score is None if the engine has none (online search)."""

    passage: Passage
    score: float | None


class Retriever(Protocol):
    """Protocol of a search engine over one corpus. Threads may share it."""

    @property
    def fingerprint(self) -> str:
        """Identifies corpus and engine: part of the key under which results are cached."""
        ...

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Return the best passages for each query, best first.

        Args:
            queries: any texts, also empty ones.
            k: how many passages at most, at least 1.

        Returns:
            One tuple for each query, in their order; shorter than `k` if fewer passages match, empty if none does.

        Raises:
            RetrievalFailed: the engine cannot be reached or answers nonsense.
        """
        ...
