"""Hybrid retrieval: several rankings of one corpus, such as BM25's and a dense one, merged by reciprocal ranks.

A passage's score is the sum of 1 / (constant + rank) over the rankings that hold it, ranks from 1: reciprocal rank
fusion, Cormack, Clarke and Buettcher, SIGIR 2009. No engine's own scores are used, so they need not be comparable.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.engines.engine import Engine, Found
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["CONSTANT", "DEPTH", "HybridRetriever"]

CONSTANT = 60
"""The constant of the original publication."""

DEPTH = 100
"""How many passages of each ranking count."""


class HybridRetriever(Engine):
    """Reciprocal rank fusion of engines over one corpus.

    Args:
        engines: two or more, over equal corpora.
        passages: the corpus.
        fingerprint: tells engines and corpus from any other.
        constant: added to each rank; the larger, the less the first ranks stand out.
        depth: passages that each engine is asked for, or as many as are wanted if these are more.

    Raises:
        InvalidOption: there are fewer than two engines, or a number is out of range.
        CorruptData: an engine is of another corpus.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        passages: Sequence[Passage],
        fingerprint: str,
        *,
        constant: int = CONSTANT,
        depth: int = DEPTH,
    ) -> None:
        if len(engines) < 2:
            raise InvalidOption(f"a hybrid of {len(engines)} index; wanted two or more, such as BM25's and faiss's.")
        for name, value in (("constant", constant), ("depth", depth)):
            if not is_integer(value) or value < 1:
                raise InvalidOption(f"{name} is {value!r}; wanted a whole number from 1.")
        for engine in engines:
            super().__init__(passages, engine.passage_count, fingerprint)
        self._engines = tuple(engines)
        self._constant = constant
        self._depth = depth

    def _find(self, queries: Sequence[str], k: int) -> list[Found]:
        depth = max(k, self._depth)
        found: list[Found] = []
        for rankings in zip(*(engine.rank(queries, depth) for engine in self._engines), strict=True):
            scores: defaultdict[int, float] = defaultdict(float)
            for places, _ in rankings:
                for rank, place in enumerate(places, 1):
                    scores[place] += 1 / (self._constant + rank)
            best = sorted(scores, key=lambda place: (-scores[place], place))[:k]
            found.append((best, [scores[place] for place in best]))
        return found
