"""BM25 engine of tantivy, a search library in Rust: built and searched on disk, for tens of millions of passages.

Terms are Lucene's (`sdar_envs.bm25.analyzer`), so stop words are neither indexed nor asked for; k1 = 1.2 and b = 0.75
are tantivy's own. The index holds words and places, the texts stay in the corpus. Building gathers 300 MB of postings
at a time, whatever the size, and keeps up to two million words in mind; what else the process shows are mapped files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sdar_envs.bm25.analyzer import TOKENS_OF_A_BUILD, Terms, analyze
from sdar_envs.search_qa.corpus import reporting
from sdar_envs.search_qa.retrieval.engines.engine import Engine, Found, load_package
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["TantivyRetriever"]

_BUFFER = 300_000_000  # bytes of postings that tantivy gathers before it writes a segment
_MARGIN = 8


class TantivyRetriever(Engine):
    """BM25 (k1 = 1.2, b = 0.75) by tantivy.

    Args:
        index: a `tantivy.Index` of words and places.
        passages: the corpus.
        fingerprint: tells engine and corpus from any other.

    Raises:
        CorruptData: the index is of another corpus.
    """

    def __init__(self, index: Any, passages: Sequence[Passage], fingerprint: str) -> None:
        index.config_reader(reload_policy="manual")
        self._package = load_package("tantivy")
        self._schema = index.schema
        self._searcher = index.searcher()
        super().__init__(passages, self._searcher.num_docs, fingerprint)

    def _find(self, queries: Sequence[str], k: int) -> list[Found]:
        return [self._rank(query, k) for query in queries]

    def _rank(self, query: str, k: int) -> Found:
        words = Counter(analyze(query))
        if not words:
            return (), ()
        question = self._question(words)
        limit = k + _MARGIN
        while True:
            # tantivy makes room for as many hits as it is asked for.
            limit = min(limit, len(self._passages))
            found = self._searcher.search(question, limit, count=False).hits
            # Equal passages come in the order of tantivy's segments: all that equal the k-th must be seen.
            if len(found) < limit or limit == len(self._passages) or found[-1][0] < found[k - 1][0]:
                break
            limit *= 8
        places = self._searcher.fast_field_values("place", [address for _, address in found])
        best = sorted((-score, place) for (score, _), place in zip(found, places, strict=True) if score > 0)[:k]
        return [place for _, place in best], [-score for score, _ in best]

    def _question(self, words: Mapping[str, int]) -> Any:
        query, should = self._package.Query, self._package.Occur.Should
        parts = []
        for word, count in words.items():
            part = query.term_query(self._schema, "words", word, index_option="freq")
            parts.append((should, part if count == 1 else query.boost_query(part, count)))
        return query.boolean_query(parts)

    @staticmethod
    def build(passages: Sequence[Passage], path: Path, progress: Callable[[int], None]) -> dict[str, Any]:
        """Index passages into a new folder; see `sdar_envs.search_qa.retrieval.index`."""
        package = load_package("tantivy")
        path.mkdir(parents=True)
        schema = (
            package.SchemaBuilder()
            .add_text_field("words", tokenizer_name="whitespace", index_option="freq")
            .add_unsigned_field("place", fast=True)
            .build()
        )
        # One thread: then equal corpora give equal segments.
        writer = package.Index(schema, str(path), reuse=False).writer(heap_size=_BUFFER, num_threads=1)
        terms = Terms(TOKENS_OF_A_BUILD)
        for place, passage in enumerate(reporting(passages, progress)):
            document = package.Document()
            document.add_text("words", " ".join(analyze(passage.contents, terms)))
            document.add_unsigned("place", place)
            writer.add_document(document)
        writer.commit()
        writer.wait_merging_threads()
        for lock in path.glob(".tantivy-*.lock"):
            lock.unlink()
        return {"tantivy": version("tantivy")}

    @classmethod
    def open(cls, path: Path, passages: Sequence[Passage], fingerprint: str) -> TantivyRetriever:
        """Open what `build` made; see `sdar_envs.search_qa.retrieval.index`."""
        found = cls(load_package("tantivy").Index.open(str(path)), passages, fingerprint)
        return found.opened_by(partial(cls.open, path, passages, fingerprint))
