"""BM25 engine of the bm25s package: scores are precomputed, so that a search only adds them up.

Terms are Lucene's (`sdar_envs.bm25.analyzer`), parameters as those of `engines.bm25`, but lengths from 40 words on are
not rounded, so there scores differ a little. Building takes 4 GB of memory per million passages. Where numba is
installed, bm25s uses it; the first search then waits some seconds for its compiler.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sdar_envs.bm25.analyzer import analyze
from sdar_envs.bm25.index import above_bound
from sdar_envs.search_qa.corpus import reporting
from sdar_envs.search_qa.retrieval.engines.engine import Engine, Found, load_package
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["Bm25sRetriever"]


class Bm25sRetriever(Engine):
    """BM25 (the `lucene` variant, k1 = 0.9, b = 0.4) by bm25s.

    Args:
        scorer: a `bm25s.BM25` whose documents are the contents of the passages, numbered in their order.
        passages: the corpus.
        fingerprint: tells engine and corpus from any other.

    Raises:
        CorruptData: the index is of another corpus.
    """

    def __init__(self, scorer: Any, passages: Sequence[Passage], fingerprint: str) -> None:
        super().__init__(passages, scorer.scores["num_docs"], fingerprint)
        self._scorer = scorer
        self._vocabulary: Mapping[str, int] = scorer.vocab_dict

    def _find(self, queries: Sequence[str], k: int) -> list[Found]:
        return [self._rank(query, k) for query in queries]

    def _rank(self, query: str, k: int) -> Found:
        terms = [self._vocabulary[term] for term in analyze(query) if term in self._vocabulary]
        if not terms:
            return (), ()
        # Not bm25s' own choice of the best: which of several equal passages it takes depends on its backend.
        scores = self._scorer.get_scores_from_ids(terms)
        found = above_bound(scores, k)
        best = found[np.lexsort((found, -scores[found]))[:k]]
        return best.tolist(), scores[best].tolist()

    @staticmethod
    def build(passages: Sequence[Passage], path: Path, progress: Callable[[int], None]) -> dict[str, Any]:
        """Index passages into a new folder; see `sdar_envs.search_qa.retrieval.index`."""
        package = load_package("bm25s")
        vocabulary: dict[str, int] = {}
        terms = [
            array("i", [vocabulary.setdefault(term, len(vocabulary)) for term in analyze(passage.contents)])
            for passage in reporting(passages, progress)
        ]
        # No term is empty: this one keeps the arrays from being so.
        vocabulary.setdefault("", len(vocabulary))
        scorer = package.BM25(k1=0.9, b=0.4, method="lucene", backend="auto")
        with np.errstate(invalid="ignore"):  # a corpus of stop words has the average length 0
            scorer.index(
                package.tokenization.Tokenized(ids=terms, vocab=vocabulary),
                create_empty_token=False,
                show_progress=False,
            )
        scorer.save(path, show_progress=False)
        return {"bm25s": package.__version__}

    @classmethod
    def open(cls, path: Path, passages: Sequence[Passage], fingerprint: str) -> Bm25sRetriever:
        """Open what `build` made; see `sdar_envs.search_qa.retrieval.index`."""
        scorer = load_package("bm25s").BM25.load(
            path, mmap=True, allow_pickle=False, backend="auto", show_progress=False
        )
        # Plain views: slices of a np.memmap cost a microsecond more.
        for name in ("data", "indices", "indptr"):
            scorer.scores[name] = scorer.scores[name].view(np.ndarray)
        found = cls(scorer, passages, fingerprint)
        return found.opened_by(partial(cls.open, path, passages, fingerprint))
