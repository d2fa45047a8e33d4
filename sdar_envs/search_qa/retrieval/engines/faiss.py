"""Dense retrieval with faiss: passages by the inner product of their vectors with the query's.

Any encoder will do (`engines.encoder`). Every query with a visible character has neighbours, however far away, so this
engine alone always returns `k` passages; a blank query finds nothing. `Flat` is exact and needs 4 bytes per number;
other kinds of index are named as faiss's `index_factory` names them, such as `IVF4096,SQ8` or `HNSW32`, and miss some
neighbours. Vectors can come from a file (`engines.vectors`), and an index that faiss has written elsewhere can be
taken over. A `Flat`, `HNSW` or `IVF` index is mapped from its file, so that processes share it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdar_envs.core import is_integer
from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.files.arrays import checksum
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_envs.search_qa.retrieval.engines.engine import Engine, Found, load_package
from sdar_envs.search_qa.retrieval.engines.vectors import open_vectors
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["FaissRetriever", "check_settings"]

_FILE = "vectors.faiss"
_ENCODED_AT_ONCE = 512
_MARGIN = 8
_PROBES = 64  # cells of an IVF index that a query looks into
_TRAINING_PER_CELL = 64
_LEAST_TRAINING = 10_000
_SAMPLED = 16  # passages that are encoded to see whether encoder, corpus and vectors belong together
_ALIKE = 0.9  # cosine of a passage's vector in the file and the encoder's; float16 and other hardware change less
_NEAREST = 10
_MAPPED = (b"IxFI", b"IHN")  # beginnings of files whose vectors faiss maps only if it is told so


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

    @property
    def encoder(self) -> Encoder:
        """What makes the vectors of queries."""
        return self._encoder

    @property
    def is_exact(self) -> bool:
        """Whether the index compares a query with every vector as it is: a `Flat` one."""
        return self._is_flat

    def encode(self, queries: Sequence[str]) -> NDArray[np.float32]:
        """Return the vectors of queries: (n, d).

        Raises:
            InvalidOption: the encoder makes vectors of another length than the index holds.
        """
        vectors = self._encoder.queries(queries)
        if vectors.shape[1] != self._index.d:
            raise InvalidOption(
                f"the encoder {self._encoder.name!r} makes vectors of {vectors.shape[1]} numbers, "
                f"the index holds vectors of {self._index.d}: give the encoder that the index was built with."
            )
        return vectors

    def vectors(self, places: Sequence[int]) -> NDArray[np.float32]:
        """Return the vectors of passages of a `Flat` index: (n, d)."""
        return np.asarray(self._index.reconstruct_batch(np.asarray(places, dtype=np.int64)), dtype=np.float32)

    def _find(self, queries: Sequence[str], k: int) -> list[Found]:
        asked = [i for i, query in enumerate(queries) if query.strip()]
        found: list[Found] = [((), ())] * len(queries)
        if not asked:
            return found
        vectors = self.encode([queries[i] for i in asked])
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
        vectors: Path | None = None,
    ) -> dict[str, Any]:
        """Encode and index passages into a new folder; see `sdar_envs.search_qa.retrieval.index`.

        Args:
            passages: the corpus.
            path: the folder.
            progress: called now and then with how many passages are done.
            encoder: makes the vectors.
            factory: the kind of index, as faiss names it.
            vectors: a file that holds the vectors already, see `engines.vectors`.

        Raises:
            InvalidOption: faiss knows no such kind of index, it needs more passages, or the file is of another corpus
                or encoder.
            MissingData: there is no such file.
            CorruptData: it is no file of vectors.
        """
        package = load_package("faiss")
        facts: dict[str, Any] = {"faiss": package.__version__, "factory": factory}
        if vectors is None:

            def encode(places: range) -> NDArray[np.float32]:
                return encoder.passages([passages[place].contents for place in places])

        else:
            stored = open_vectors(vectors)
            _check_vectors(stored, passages, encoder, vectors)
            facts["vectors"] = checksum(vectors)

            def encode(places: range) -> NDArray[np.float32]:
                return np.ascontiguousarray(stored[places.start : places.stop : places.step], dtype=np.float32)

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
            training = np.concatenate([encode(batch) for batch in batches])
            with refused():
                index.train(training)
            del training
        for start in range(0, size, _ENCODED_AT_ONCE):
            progress(start)
            rows = encode(range(start, min(size, start + _ENCODED_AT_ONCE)))
            with refused():
                index.add(rows)
        progress(size)
        path.mkdir(parents=True)
        package.write_index(index, str(path / _FILE))
        return facts | _encoding(encoder)

    @staticmethod
    def take_over(
        passages: Sequence[Passage], path: Path, *, encoder: Encoder, source: Path, link: bool = False
    ) -> dict[str, Any]:
        """Put an index file of faiss, such as Search-R1's `e5_Flat.index`, into a new folder; see `build`.

        Args:
            passages: the corpus that the index is of, in the same order.
            path: the folder.
            encoder: makes the vectors of queries.
            source: the file.
            link: make a hard link instead of a copy; nothing may then write into the file.

        Raises:
            InvalidOption: the file is of another corpus or encoder, does not rank by inner product, or cannot be
                linked.
            CorruptData: faiss cannot read it.
        """
        index = _read(source)
        if index.metric_type != load_package("faiss").METRIC_INNER_PRODUCT:
            raise InvalidOption(
                f"{source} does not rank by inner product, as this engine does: make an index with "
                "METRIC_INNER_PRODUCT of vectors of length 1."
            )
        if index.ntotal != len(passages):
            raise InvalidOption(
                f"{source} is an index of {index.ntotal:,} vectors, the corpus has {len(passages):,} passages: "
                "give the corpus that it was made of."
            )
        _check_neighbours(index, passages, encoder, source)
        path.mkdir(parents=True)
        try:
            if link:
                os.link(os.path.realpath(source), path / _FILE)
            else:
                shutil.copyfile(source, path / _FILE)
        except OSError as error:
            if not link:
                raise
            raise InvalidOption(f"{source} cannot be linked ({error}): copy it, by leaving out the link.") from error
        facts = {
            "faiss": load_package("faiss").__version__,
            "factory": type(index).__name__,
            "vectors": checksum(source),
        }
        return facts | _encoding(encoder)

    @classmethod
    def open(
        cls,
        path: Path,
        passages: Sequence[Passage],
        fingerprint: str,
        encoder: Encoder,
        *,
        nprobe: int | None = None,
        ef_search: int | None = None,
    ) -> FaissRetriever:
        """Open what `build` or `take_over` made; see `sdar_envs.search_qa.retrieval.index`.

        Args:
            path: the folder.
            passages: the corpus.
            fingerprint: tells engine, encoder and corpus from any other.
            encoder: makes the vectors of queries.
            nprobe: how many cells of an IVF index a query looks into; None for 64.
            ef_search: how many neighbours an HNSW index keeps in sight; None for what faiss does.

        Raises:
            InvalidOption: the index is of another kind.
        """
        package = load_package("faiss")
        index = _read(path / _FILE)
        cells = package.try_extract_index_ivf(index)
        if cells:
            cells.nprobe = min(_PROBES if nprobe is None else nprobe, cells.nlist)
        elif nprobe is not None:
            raise InvalidOption(f"nprobe is for IVF indexes; {path.parent} is {type(index).__name__}: leave it out.")
        if ef_search is not None:
            graph = _innermost(index)
            if not hasattr(graph, "hnsw"):
                raise InvalidOption(
                    f"ef_search is for HNSW indexes; {path.parent} is {type(index).__name__}: leave it out."
                )
            graph.hnsw.efSearch = ef_search
        found = cls(index, encoder, passages, fingerprint)
        return found.opened_by(
            partial(cls.open, path, passages, fingerprint, encoder, nprobe=nprobe, ef_search=ef_search)
        )


def check_settings(**settings: int | None) -> dict[str, int]:
    """Return the settings of a search that are given.

    Raises:
        InvalidOption: one is not a whole number from 1.
    """
    for name, value in settings.items():
        if value is not None and not (is_integer(value) and value >= 1):
            raise InvalidOption(f"{name} is {value!r}; wanted a whole number from 1.")
    return {name: value for name, value in settings.items() if value is not None}


def _encoding(encoder: Encoder) -> dict[str, Any]:
    return {
        "encoder": encoder.name,
        "query_prefix": encoder.query_prefix,
        "passage_prefix": encoder.passage_prefix,
    }


def _read(file: Path) -> Any:
    """Read an index, its vectors mapped where faiss can.

    Raises:
        CorruptData: it cannot be read.
    """
    package = load_package("faiss")
    try:
        with open(file, "rb") as stream:
            head = stream.read(4)
        return package.read_index(
            str(file), package.IO_FLAG_MMAP_IFC if head.startswith(_MAPPED) else package.IO_FLAG_MMAP
        )
    except (OSError, RuntimeError) as error:
        raise CorruptData(f"{file} cannot be used as an index of faiss ({str(error).splitlines()[-1]}).") from error


def _innermost(index: Any) -> Any:
    """Return the index that searches: without the transformation of vectors before it."""
    package = load_package("faiss")
    while getattr(index, "index", None) is not None:
        index = package.downcast_index(index.index)
    return index


def _samples(passages: Sequence[Passage]) -> list[int]:
    count = min(_SAMPLED, len(passages))
    return [len(passages) * i // count for i in range(count)]


def _check_vectors(stored: NDArray[Any], passages: Sequence[Passage], encoder: Encoder, file: Path) -> None:
    if len(stored) != len(passages):
        raise InvalidOption(
            f"{file} holds {len(stored):,} vectors, the corpus has {len(passages):,} passages: "
            "give the corpus that they were made of."
        )
    places = _samples(passages)
    made = encoder.passages([passages[place].contents for place in places])
    _check_width(made.shape[1], stored.shape[1], encoder, file)
    there = np.asarray(stored[places], dtype=np.float32)
    if not np.isfinite(there).all():
        raise CorruptData(f"{file} holds numbers that are not finite: make it again.")
    lengths = np.linalg.norm(made, axis=1) * np.linalg.norm(there, axis=1)
    alike = (made * there).sum(axis=1) / np.maximum(lengths, 1e-9) >= _ALIKE
    _check_share(int(alike.sum()), len(places), encoder, file)


def _check_neighbours(index: Any, passages: Sequence[Passage], encoder: Encoder, file: Path) -> None:
    """Refuse an index in which passages do not find themselves."""
    places = _samples(passages)
    made = encoder.passages([passages[place].contents for place in places])
    _check_width(made.shape[1], index.d, encoder, file)
    _, found = index.search(made, min(_NEAREST, len(passages)))
    own = sum(place in row for place, row in zip(places, found.tolist(), strict=True))
    _check_share(own, len(places), encoder, file)


def _check_width(made: int, stored: int, encoder: Encoder, file: Path) -> None:
    if made != stored:
        raise InvalidOption(
            f"the encoder {encoder.name!r} makes vectors of {made} numbers, {file} holds vectors of {stored}: "
            "give the encoder that made them."
        )


def _check_share(right: int, of: int, encoder: Encoder, file: Path) -> None:
    # Half: passages may occur twice, and an index may miss some neighbours.
    if 2 * right < of:
        raise InvalidOption(
            f"{file} does not fit: only {right} of {of} passages have there the vector that the encoder "
            f"{encoder.name!r} with the prefix {encoder.passage_prefix!r} makes of them. Is the corpus in the order of "
            "the vectors, and is it their encoder?"
        )


@contextmanager
def _refused(factory: str, size: int, dimension: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InvalidOption(
            f"faiss cannot make the index {factory!r} of {size} vectors of {dimension} numbers "
            f"({str(error).splitlines()[-1]}); wanted such as 'Flat', 'IVF4096,SQ8' or 'HNSW32'."
        ) from error
