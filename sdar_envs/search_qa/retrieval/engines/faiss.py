"""Dense retrieval with faiss: passages by the inner product of their vectors with the query's.

Any encoder will do (`engines.encoder`). Every query with a visible character has neighbours, however far away, so this
engine alone always returns `k` passages; a blank query finds nothing. `Flat` is exact and needs 4 bytes per number;
other kinds of index are named as faiss's `index_factory` names them, such as `IVF4096,SQ8` or `HNSW32`, and miss some
neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_envs.search_qa.retrieval.engines.engine import Engine, Found, load_package
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["FaissRetriever"]

_FILE = "vectors.faiss"
_ENCODED_AT_ONCE = 512
_MARGIN = 8
_PROBES = 64  # cells of an IVF index that a query looks into
_TRAINING_PER_CELL = 64
_LEAST_TRAINING = 10_000


class FaissRetriever(Engine):
    """Dense retriever: nearest neighbours by inner product.

    Args:
        index: a faiss index of the passages' vectors, in their order.
        encoder: makes the vectors of queries.
        passages: the corpus.
        fingerprint: tells engine, encoder and corpus from any other.

    Raises:
        CorruptData: the index is of another corpus.
    """

    def __init__(self, index: Any, encoder: Encoder, passages: Sequence[Passage], fingerprint: str) -> None:
        super().__init__(passages, index.ntotal, fingerprint)
        self._index = index
        self._is_flat = isinstance(index, load_package("faiss").IndexFlat)
        self._encoder = encoder

    def _find(self, queries: Sequence[str], k: int) -> list[Found]:
        asked = [i for i, query in enumerate(queries) if query.strip()]
        found: list[Found] = [((), ())] * len(queries)
        if not asked:
            return found
        vectors = self._encoder.queries([queries[i] for i in asked])
        if vectors.shape[1] != self._index.d:
            raise InvalidOption(
                f"the encoder {self._encoder.name!r} makes vectors of {vectors.shape[1]} numbers, "
                f"the index holds vectors of {self._index.d}: give the encoder that the index was built with."
            )
        places: NDArray[np.int64]
        rows, limit = np.array(asked), k + _MARGIN
        while len(rows):
            limit = min(limit, len(self._passages))
            scores, places = self._index.search(vectors, limit)
            if self._is_flat:
                scores = self._exact(vectors, places)
            for row, row_scores, row_places in zip(rows.tolist(), scores.tolist(), places.tolist(), strict=True):
                pairs = ((-score, place) for score, place in zip(row_scores, row_places, strict=True) if place >= 0)
                best = sorted(pairs)[:k]
                found[row] = [place for _, place in best], [-score for score, _ in best]
            if limit == len(self._passages):
                break
            # Which of several equal passages faiss takes is not settled: all that equal the k-th must be seen.
            worst, kth = scores.min(axis=1), np.partition(scores, -k, axis=1)[:, -k]
            is_open = (places[:, -1] >= 0) & (worst >= kth)
            rows, vectors, limit = rows[is_open], vectors[is_open], limit * 8
        return found

    def _exact(self, vectors: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Recompute the inner products: faiss's last digits depend on how many queries are asked at once."""
        stored = self._index.reconstruct_batch(places.ravel()).reshape(*places.shape, -1)
        products = stored.astype(np.float64) * vectors[:, None, :]
        return np.asarray(products.sum(axis=2), dtype=np.float32)

    @staticmethod
    def build(
        passages: Sequence[Passage],
        path: Path,
        progress: Callable[[int], None],
        *,
        encoder: Encoder,
        factory: str = "Flat",
    ) -> dict[str, Any]:
        """Encode and index passages into a new folder; see `sdar_envs.search_qa.retrieval.index`.

        Args:
            passages: the corpus.
            path: the folder.
            progress: called now and then with how many passages are done.
            encoder: makes the vectors.
            factory: the kind of index, as faiss names it.

        Raises:
            InvalidOption: faiss knows no such kind of index, or it needs more passages.
        """
        package = load_package("faiss")

        def encode(places: Sequence[int]) -> NDArray[np.float32]:
            return encoder.passages([passages[place].contents for place in places])

        size = len(passages)
        dimension = encode(range(1)).shape[1]
        refused = partial(_refused, factory, size, dimension)
        with refused():
            index = package.index_factory(dimension, factory, package.METRIC_INNER_PRODUCT)
            cells = package.try_extract_index_ivf(index)
        if not index.is_trained:
            wanted = max(_LEAST_TRAINING, _TRAINING_PER_CELL * (cells.nlist if cells else 0))
            sample = range(0, size, max(1, size // wanted))
            batches = [sample[i : i + _ENCODED_AT_ONCE] for i in range(0, len(sample), _ENCODED_AT_ONCE)]
            vectors = np.concatenate([encode(batch) for batch in batches])
            with refused():
                index.train(vectors)
        for start in range(0, size, _ENCODED_AT_ONCE):
            progress(start)
            vectors = encode(range(start, min(size, start + _ENCODED_AT_ONCE)))
            with refused():
                index.add(vectors)
        progress(size)
        path.mkdir(parents=True)
        package.write_index(index, str(path / _FILE))
        return {
            "faiss": package.__version__,
            "factory": factory,
            "encoder": encoder.name,
            "query_prefix": encoder.query_prefix,
            "passage_prefix": encoder.passage_prefix,
        }

    @classmethod
    def open(
        cls,
        path: Path,
        passages: Sequence[Passage],
        fingerprint: str,
        encoder: Encoder,
    ) -> FaissRetriever:
        """Open what `build` made; see `sdar_envs.search_qa.retrieval.index`."""
        package = load_package("faiss")
        index = package.read_index(str(path / _FILE), package.IO_FLAG_MMAP)
        cells = package.try_extract_index_ivf(index)
        if cells:
            cells.nprobe = min(_PROBES, cells.nlist)
        found = cls(index, encoder, passages, fingerprint)
        return found.opened_by(partial(cls.open, path, passages, fingerprint, encoder))


@contextmanager
def _refused(factory: str, size: int, dimension: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InvalidOption(
            f"faiss cannot make the index {factory!r} of {size} vectors of {dimension} numbers "
            f"({str(error).splitlines()[-1]}); wanted such as 'Flat', 'IVF4096,SQ8' or 'HNSW32'."
        ) from error
