"""BM25 engine over memory-mapped NumPy arrays: the default, for up to some million passages.

Terms and scores are Lucene's (`sdar_envs.bm25`). The arrays are built in segments on disk, so that memory holds the
different words and some million postings; a built index is a folder on disk, which processes share.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sdar_envs.bm25.index import SearchIndex
from sdar_envs.search_qa.corpus import reporting
from sdar_envs.search_qa.retrieval.engines.engine import Engine, Found
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["Bm25Retriever"]


class Bm25Retriever(Engine):
    """BM25 with the terms and scores of Lucene 8.11 (k1 = 0.9, b = 0.4).

    Args:
        index: its documents are the contents of the passages, numbered in their order.
        passages: the corpus.
        fingerprint: tells engine and corpus from any other.

    Raises:
        CorruptData: the index is of another corpus.
    """

    def __init__(self, index: SearchIndex, passages: Sequence[Passage], fingerprint: str) -> None:
        super().__init__(passages, len(index), fingerprint)
        self._index = index

    def _find(self, queries: Sequence[str], k: int) -> list[Found]:
        return [self._index.ranking(query, k) for query in queries]

    @staticmethod
    def build(passages: Sequence[Passage], path: Path, progress: Callable[[int], None]) -> dict[str, Any]:
        """Index passages into a new folder; see `sdar_envs.search_qa.retrieval.index`."""
        documents = ((place, passage.contents) for place, passage in enumerate(reporting(passages, progress)))
        SearchIndex.write(documents, path)
        return {}

    @classmethod
    def open(cls, path: Path, passages: Sequence[Passage], fingerprint: str) -> Bm25Retriever:
        """Open what `build` made; see `sdar_envs.search_qa.retrieval.index`."""
        found = cls(SearchIndex.open(path), passages, fingerprint)
        return found.opened_by(partial(cls.open, path, passages, fingerprint))
