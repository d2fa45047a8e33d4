"""LRU cache of search results for any retriever.

Many episodes ask the same: environments of a group share the question, and a policy repeats itself. What was found
once is not asked again, and of a batch only different queries are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.engines.engine import check_request
from sdar_envs.search_qa.retrieval.retriever import Hit, RetrievalFailed, Retriever

__all__ = ["CacheStatistics", "CachingRetriever"]

_LONGEST_KEPT_QUERY = 1_000


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """Hit and miss counts of a cache.

    Attributes:
        hits: queries that were answered without asking, repetitions within a batch among them.
        misses: queries that the inner retriever was asked.
        queries: how many are kept now.
    """

    hits: int
    misses: int
    queries: int


class CachingRetriever:
    """LRU cache in front of another retriever. Threads may share it.

    A result for more passages serves a request for fewer. Failures are not kept, nor are queries of more than 1,000
    characters. A kept query takes its passages' texts: about 3 KB for three of a hundred words.

    Args:
        retriever: answers what the cache cannot; it is called once for a batch, without repetitions.
        max_queries: how many queries are kept.

    Raises:
        InvalidOption: `max_queries` is below 1.
    """

    def __init__(self, retriever: Retriever, max_queries: int = 65_536) -> None:
        if not (is_integer(max_queries) and max_queries >= 1):
            raise InvalidOption(f"max_queries is {max_queries!r}; wanted how many queries to keep, from 1.")
        self._retriever = retriever
        self._max_queries = max_queries
        self._kept: OrderedDict[tuple[str, str], tuple[int, tuple[Hit, ...]]] = OrderedDict()
        self._lock = Lock()
        self._hits = self._misses = 0

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy begins with nothing kept.
        return CachingRetriever, (self._retriever, self._max_queries)

    @property
    def fingerprint(self) -> str:
        """The inner retriever's fingerprint."""
        return self._retriever.fingerprint

    @property
    def statistics(self) -> CacheStatistics:
        """Counts since the cache was made."""
        with self._lock:
            return CacheStatistics(self._hits, self._misses, len(self._kept))

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        """Return the best passages for each query; see `Retriever.search`."""
        check_request(queries, k)
        fingerprint = self._retriever.fingerprint
        answers: dict[str, tuple[Hit, ...]] = {}
        with self._lock:
            for query in dict.fromkeys(queries):
                k_kept, hits = self._kept.get((fingerprint, query), (0, ()))
                if k_kept >= k:
                    self._kept.move_to_end((fingerprint, query))
                    # A retriever that gives more than k gives the same when it is asked again.
                    answers[query] = hits if k_kept == k else hits[:k]
        missing = [query for query in dict.fromkeys(queries) if query not in answers]
        # Not under the lock: other threads go on with what is kept.
        found = self._retriever.search(missing, k) if missing else []
        if len(found) != len(missing):
            raise RetrievalFailed(f"the retriever gave {len(found)} answers to {len(missing)} queries.")
        answers.update(zip(missing, found, strict=True))
        with self._lock:
            self._misses += len(missing)
            self._hits += len(queries) - len(missing)
            for query, hits in zip(missing, found, strict=True):
                if len(query) <= _LONGEST_KEPT_QUERY:
                    self._keep((fingerprint, query), k, hits)
        return [answers[query] for query in queries]

    def _keep(self, key: tuple[str, str], k: int, hits: tuple[Hit, ...]) -> None:
        # Another thread may have found more meanwhile.
        if self._kept.get(key, (0, ()))[0] < k:
            self._kept[key] = (k, hits)
        self._kept.move_to_end(key)
        if len(self._kept) > self._max_queries:
            self._kept.popitem(last=False)
