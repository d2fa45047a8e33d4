"""Recall of an approximate dense index: how many of the exact nearest passages it finds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.engines.engine import Engine
from sdar_envs.search_qa.retrieval.engines.faiss import FaissRetriever
from sdar_envs.search_qa.retrieval.engines.vectors import exact_places

__all__ = ["RecallReport", "measure_recall"]

_ROUNDED = 1e-6


@dataclass(frozen=True, slots=True)
class RecallReport:
    """What an index finds of the exact neighbours.

    Attributes:
        recall: how many of the `k` found passages are as near as the exact `k`-th best one, as a share of `k`; mean
            over the queries.
        k: how many passages.
        queries: how many queries.
        seconds: the clock's seconds per query in one batch, encoding included.
    """

    recall: float
    k: int
    queries: int
    seconds: float


def measure_recall(
    retriever: Engine, queries: Sequence[str], k: int, exact: NDArray[Any] | FaissRetriever
) -> RecallReport:
    """Compare what an index finds with exact search.

    Args:
        retriever: an index of faiss.
        queries: texts; blank ones are left out.
        k: how many passages count.
        exact: the vectors of the passages, (n, d), perhaps mapped (`engines.vectors`); or a `Flat` index of them.

    Raises:
        InvalidOption: the index is of words, the exact vectors are not of its corpus, or no query is left.
    """
    if not isinstance(retriever, FaissRetriever):
        raise InvalidOption("recall is measured of an index of faiss; this is an index of words, or a hybrid.")
    asked = [query for query in queries if query.strip()]
    if not asked:
        raise InvalidOption("there is no query to measure recall with: give some texts.")
    count = exact.passage_count if isinstance(exact, FaissRetriever) else len(exact)
    if count != retriever.passage_count:
        raise InvalidOption(
            f"exact search is over {count:,} vectors, the index is of {retriever.passage_count:,} passages: "
            "give those of the same corpus."
        )
    vectors = retriever.encode(asked)
    if isinstance(exact, FaissRetriever):
        if not exact.is_exact:
            raise InvalidOption("the index to compare with is not exact: build it with the factory Flat.")
        best: Sequence[Sequence[int]] = [places for places, _ in exact.rank(asked, k)]
    else:
        if exact.shape[1] != vectors.shape[1]:
            raise InvalidOption(f"exact vectors have {exact.shape[1]} numbers, those of queries {vectors.shape[1]}.")
        best = exact_places(exact, vectors, k).tolist()
    started = time.perf_counter()
    found = [places for places, _ in retriever.rank(asked, k)]
    seconds = (time.perf_counter() - started) / len(asked)
    shares = []
    for vector, wanted, got in zip(vectors, best, found, strict=True):
        # Not the places: which of several equal passages an index takes is no question of recall.
        bound = _products(exact, wanted[-1:], vector)[0]
        shares.append(int((_products(exact, got, vector) >= bound - _ROUNDED * abs(bound)).sum()) / len(wanted))
    return RecallReport(float(np.mean(shares)), k, len(asked), seconds)


def _products(
    exact: NDArray[Any] | FaissRetriever, places: Sequence[int], vector: NDArray[np.float32]
) -> NDArray[np.float64]:
    if not places:
        return np.empty(0)
    rows = exact.vectors(places) if isinstance(exact, FaissRetriever) else exact[list(places)]
    return np.asarray(rows.astype(np.float64) @ vector.astype(np.float64))
