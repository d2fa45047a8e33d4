"""BM25 index and ranking, identical to Lucene's, including the order of equal scores.

`SearchIndex.build` reads (id, text) pairs as a stream; `search` returns the numbers of the best documents. `write`
builds on disk what `build` and `save` do, with postings of some million words in memory at a time.
A score is what Lucene 8.11 computes with k1 = 0.9 and b = 0.4: float32 throughout, document lengths
rounded down to the 256 that fit a byte, a repeated query word counted as a boost, one sum in float64. Equal scores
come in the order of ids. There is no query syntax, no fuzzy match and, unlike in Lucene, no limit of 1,024
words in a query.

On disk an index is a folder of `.npy` files and one `index.json`, memory-mapped by `open`, so that the processes of
a machine share one copy. A posting takes six bytes: the document, and a code for the pair (word count, length).
`sdar_envs.files.arrays` says which damage `open` detects.
"""

from __future__ import annotations

import math
import shutil
from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdar_envs.bm25.analyzer import TOKENS_OF_A_BUILD, analyze, term, tokenize
from sdar_envs.errors import InvalidOption
from sdar_envs.files.arrays import ArrayBlocks, open_arrays, open_or_make, running_sum, save_arrays
from sdar_envs.storage import with_progress

__all__ = ["SearchIndex", "above_bound", "open_or_build"]

_K1 = np.float32(0.9)
_B = np.float32(0.4)
_ONE = np.float32(1)

_FORMAT = 1  # raise it whenever files or terms change
_SHOW_PROGRESS_FROM = 20_000
_TOKENS_PER_RUN = 4_000_000
_POSTINGS_PER_BLOCK = 16_000_000
_CACHED_QUERIES = 2_048
_LONGEST_CACHED_QUERY = 1_000
_BEST = 64  # of each word so many largest contributions are known
_WORDS_PER_BLOCK = 64
_ALWAYS_WHOLE = 1 << 16  # an index of fewer documents keeps a sum for each of them
_ALMOST = 1 - 1e-5  # sums are rounded: what is not surely worse is kept
_FEW = 100  # so many documents are sooner looked up than sorted
_ZERO = np.float32(0)
_SMALLEST = float(np.nextafter(np.float32(0), np.float32(1)))

IdT = TypeVar("IdT", str, int)


def _length_steps() -> NDArray[np.int64]:
    """Return the 256 document lengths that a byte can hold: exact below 40, then eight steps per power of two."""
    exact = list(range(24))
    for byte in range(24, 256):
        mantissa, shift = (byte - 24) & 7, (byte - 24 >> 3) - 1
        exact.append(24 + (mantissa if shift < 0 else (mantissa | 8) << shift))
    return np.array(exact, dtype=np.int64)


_LENGTHS = _length_steps()


class _Arrays(NamedTuple):
    """Arrays of an index, as stored.

    Attributes:
        term_bytes: all terms in UTF-8, sorted, end to end.
        term_ends: where each term begins and ends in them: (terms + 1,).
        posting_ends: where each term's postings begin and end: (terms + 1,).
        documents: the documents of each posting, ascending within a term.
        codes: for each posting, a row of `pairs` (two bytes, or four if there are more than 65,536).
        pairs: (word count in the document, length step of the document), sorted.
        ranks: for each document, its place in the order of ids.
    """

    term_bytes: NDArray[np.uint8]
    term_ends: NDArray[np.int64]
    posting_ends: NDArray[np.int64]
    documents: NDArray[np.int32]
    codes: NDArray[Any]
    pairs: NDArray[np.int64]
    ranks: NDArray[np.int32]


class _Words:
    """Sorted terms of an index, searched in the memory map: a dictionary of millions would cost memory per process."""

    def __init__(self, arrays: _Arrays) -> None:
        self._bytes = arrays.term_bytes.data
        self._ends = arrays.term_ends
        starts, ends = self._ends[:-1:_WORDS_PER_BLOCK].tolist(), self._ends[1::_WORDS_PER_BLOCK].tolist()
        self._firsts = [bytes(self._bytes[start:end]) for start, end in zip(starts, ends, strict=True)]

    def find(self, word: bytes) -> int | None:
        """Return the number of a term, None if it is not in the index."""
        first = (bisect_right(self._firsts, word) - 1) * _WORDS_PER_BLOCK
        if first < 0:
            return None
        ends = self._ends[first : first + _WORDS_PER_BLOCK + 1].tolist()
        base, block = ends[0], bytes(self._bytes[ends[0] : ends[-1]])

        def term_at(place: int) -> bytes:
            return block[ends[place] - base : ends[place + 1] - base]

        place = bisect_left(range(len(ends) - 1), word, key=term_at)
        return first + place if place < len(ends) - 1 and term_at(place) == word else None


class _Word(NamedTuple):
    """Term of an index, with its postings.

    Attributes:
        documents: where it occurs, ascending.
        codes: for each of them a row of `_Arrays.pairs`.
        idf: its weight.
        denominators: the largest of its 1 + tf * norm, falling: which documents it gives most, and how much.
    """

    documents: NDArray[np.int32]
    codes: NDArray[Any]
    idf: np.float32
    denominators: NDArray[np.float32]


class _Weighted(NamedTuple):
    """Word of a query: the most that it adds to a score, its weight (idf times its count), and the term."""

    most: float
    weight: np.float32
    word: _Word


class SearchIndex:
    """Immutable BM25 index, made by `build`, `open` or `open_or_build`; safe to share between threads."""

    def __init__(self, arrays: _Arrays, counted: int, total_length: int, path: Path | None = None) -> None:
        self._arrays = arrays
        self._counted = counted
        self._total_length = total_length
        self._path = path
        self._words = _Words(arrays)
        average = np.float32(total_length / counted) if counted else _ONE
        inverse = _ONE / (_K1 * ((_ONE - _B) + _B * _LENGTHS.astype(np.float32) / average))
        counts, steps = arrays.pairs[:, 0], arrays.pairs[:, 1]
        self._denominators = _ONE + counts.astype(np.float32) * inverse[steps]
        self._find_cached = lru_cache(maxsize=_CACHED_QUERIES * 8)(self._find)
        self._rank_cached = lru_cache(maxsize=_CACHED_QUERIES)(self._rank)

    def __len__(self) -> int:
        """Return the number of documents."""
        return len(self._arrays.ranks)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy in another process maps the same files instead of carrying them along.
        if self._path is not None:
            return (SearchIndex.open, (self._path,))
        return (SearchIndex, (self._arrays, self._counted, self._total_length))

    @property
    def path(self) -> Path | None:
        """The folder that the index is mapped from; None for one in memory."""
        return self._path

    # -- searching --------------------------------------------------------------------------

    def search(self, query: str, k: int = 50) -> tuple[int, ...]:
        """Return the numbers of the best documents, best first.

        Args:
            query: any text; words count, punctuation does not.
            k: how many at most.

        Returns:
            Numbers in the order in which the documents were given to `build`; fewer than `k` if fewer match.

        Raises:
            InvalidOption: `k` is negative.
        """
        return self.ranking(query, k)[0]

    def scores(self, query: str, k: int = 50) -> tuple[float, ...]:
        """Return the scores of `search`'s documents: float32 values as floats."""
        return self.ranking(query, k)[1]

    def ranking(self, query: str, k: int = 50) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Return the numbers and the scores of the best documents, as `search` and `scores` do."""
        if k < 0:
            raise InvalidOption(f"k is {k}; wanted how many documents to return, from 0.")
        if len(query) > _LONGEST_CACHED_QUERY:
            return self._rank(query, k)
        return self._rank_cached(query, k)

    def _rank(self, query: str, k: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        words = self._weighted(query)
        if not words or k == 0:
            return (), ()
        documents, sums = self._best_sums(words, k)
        scores = sums.astype(np.float32)
        found = above_bound(scores, k)
        documents, scores = documents[found], scores[found]
        best = np.lexsort((self._arrays.ranks[documents], -scores))[:k]
        return tuple(documents[best].tolist()), tuple(scores[best].tolist())

    def _weighted(self, query: str) -> list[_Weighted]:
        """Return the known words of a query, those that can add most to a score first."""
        words = []
        for text, count in Counter(analyze(query)).items():
            word = self._find_cached(text)
            if word is not None:
                weight = np.float32(count) * word.idf
                words.append(_Weighted(float(weight - weight / word.denominators[0]), weight, word))
        words.sort(key=attrgetter("most"), reverse=True)
        return words

    def _best_sums(self, words: list[_Weighted], k: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
        """Return numbers and summed scores of candidate documents, which include the best `k` and their equals.

        MaxScore pruning: a document with none but the last words cannot be among the best if the most that these add is
        less than what one word alone gives to `k` documents. So their postings, the long ones, are not scanned but
        looked up for the documents of the other words. Every sum is made in the order of `words`.
        """
        bound = _ALMOST * max(
            (float(w.weight - w.weight / w.word.denominators[k - 1]) for w in words if k <= len(w.word.denominators)),
            default=0.0,
        )
        rest, first_rest = 0.0, len(words)
        while first_rest > 1 and rest + words[first_rest - 1].most < bound:
            first_rest -= 1
            rest += words[first_rest].most
        read = words[:first_rest]
        postings = [w.word.documents for w in read]
        if len(self) < _ALWAYS_WHOLE + 64 * sum(map(len, postings)):
            total = np.zeros(len(self))
            for w in read:
                np.add.at(total, w.word.documents, self._parts(w))
            documents = np.flatnonzero(total >= max(bound - rest, _SMALLEST))
            sums = total[documents]
        else:
            documents = np.unique(np.concatenate(postings))
            sums = np.zeros(len(documents))
            for w in read:
                np.add.at(sums, np.searchsorted(documents, w.word.documents), self._parts(w))
        for w in words[first_rest:]:
            if len(documents) > 4 * k + _FEW:
                kth = np.partition(sums, len(sums) - k)[len(sums) - k]
                kept = sums >= _ALMOST * kth - rest
                documents, sums = documents[kept], sums[kept]
            rest -= w.most
            places = w.word.documents.searchsorted(documents)
            found = w.word.documents.take(places, mode="clip") == documents
            parts = w.weight - w.weight / self._denominators.take(w.word.codes.take(places, mode="clip"))
            sums += np.where(found, parts, _ZERO)
        return documents, sums

    def _parts(self, w: _Weighted) -> NDArray[np.float64]:
        """Return what a word adds to the score of each of its documents."""
        # As Lucene rounds: w - w / (1 + tf * norm). Worked out per pair or per posting, whichever are fewer.
        # In float64, for numpy adds at a fiftieth of the speed where it has to convert.
        if len(w.word.codes) > len(self._denominators):
            per_pair = np.asarray(w.weight - w.weight / self._denominators, dtype=np.float64)
            return per_pair.take(w.word.codes)
        return np.asarray(w.weight - w.weight / self._denominators[w.word.codes], dtype=np.float64)

    def _find(self, text: str) -> _Word | None:
        number = self._words.find(text.encode())
        if number is None:
            return None
        first, last = self._arrays.posting_ends[number : number + 2].tolist()
        frequency = last - first
        codes = self._arrays.codes[first:last]
        denominators = self._denominators[codes]
        if frequency > _BEST:
            denominators = np.partition(denominators, frequency - _BEST)[frequency - _BEST :]
        return _Word(
            documents=self._arrays.documents[first:last],
            codes=codes,
            idf=np.float32(math.log(1 + (self._counted - frequency + 0.5) / (frequency + 0.5))),
            denominators=np.sort(denominators)[::-1],
        )

    # -- building ---------------------------------------------------------------------------

    @classmethod
    def build(
        cls, documents: Iterable[tuple[IdT, str]], *, total: int | None = None, progress: bool = True
    ) -> SearchIndex:
        """Build an index of documents, in memory.

        Args:
            documents: (id, text) pairs; read once and not kept. Ids are texts or numbers and only give the order
                of equal scores.
            total: how many there are, for the progress bar; by default the length if there is one.
            progress: show a bar on standard error for large builds.
        """
        if total is None and isinstance(documents, Sequence):
            total = len(documents)
        builder = _Builder()
        shown = total if progress else None
        for name, text in with_progress(
            documents, "Indexing for the search (once)", total=shown, show_from=_SHOW_PROGRESS_FROM
        ):
            builder.add(name, text)
        return cls(*builder.finish())

    @classmethod
    def write(cls, documents: Iterable[tuple[int, str]], path: Path) -> SearchIndex:
        """Build an index in a new folder, in segments on disk, and open it; the files are those of `build` and `save`.

        Memory holds the different words, eight bytes per document and the postings of one segment. Until the index is
        complete, the segments take about as much disk as it, too.

        Args:
            documents: (id, text) pairs, as for `build`; ids are numbers.
            path: the folder; the segments are beside it.

        Raises:
            OSError: the folder exists or cannot be written; a part of it may be left, no segments.
        """
        segments = path.with_name(f"{path.name}-segments")
        try:
            builder = _SegmentBuilder(segments)
            for name, text in documents:
                builder.add(name, text)
            builder.write(path)
        finally:
            shutil.rmtree(segments, ignore_errors=True)
        return cls.open(path)

    # -- storing ----------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write the index to a new folder.

        Raises:
            OSError: the folder exists or cannot be written; a part of it may be left.
        """
        facts = {"counted": self._counted, "total_length": self._total_length}
        save_arrays(path, _FORMAT, self._arrays._asdict(), facts)

    @classmethod
    def open(cls, path: Path) -> SearchIndex:
        """Open an index that `save` wrote, memory-mapped.

        Raises:
            MissingData: there is none.
            CorruptData: it is damaged or of another version of this package.
        """
        with open_arrays(path, _FORMAT) as (arrays, facts):
            index = cls(_Arrays(**arrays), int(facts["counted"]), int(facts["total_length"]), path)
            stored = index._arrays
            if not (
                all(values.dtype.kind in "iu" for values in stored)
                and len(stored.documents) == len(stored.codes) == stored.posting_ends[-1]
                and len(stored.term_ends) == len(stored.posting_ends)
                and len(stored.term_bytes) == stored.term_ends[-1]
                and 0 <= index._counted <= len(index)
            ):
                raise ValueError("its files do not fit each other")
        return index


def above_bound(scores: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return candidates for the best `k`: numbers of documents, ascending, that include all with such a score.

    Only documents with a positive score are candidates. Sorting these few is faster than sorting all.
    """
    bound = np.float32(_SMALLEST)
    if len(scores) > 4 * k:
        # The k-th best of a sample is no better than the k-th best of all.
        step = 16 if len(scores) >= 64 * k else 1
        sample = scores[::step]
        bound = max(bound, np.float32(np.partition(sample, len(sample) - k)[len(sample) - k]))
    return np.flatnonzero(scores >= bound)


class _Run(NamedTuple):
    """The postings of some successive documents, sorted by term and document."""

    terms: NDArray[np.int64]
    counts: NDArray[np.int64]
    documents: NDArray[np.int32]
    codes: NDArray[Any]
    pairs: NDArray[np.int64]


class _TermNumbers(dict[str, int]):
    """Cache of term numbers by token, -1 for tokens without a term; new terms get the next number."""

    def __init__(self) -> None:
        super().__init__()
        self.terms: dict[str, int] = {}

    def __missing__(self, token: str) -> int:
        word = term(token)
        number = self.terms.setdefault(word, len(self.terms)) if word else -1
        if len(self) >= TOKENS_OF_A_BUILD:
            self.clear()
        self[token] = number
        return number


class _Builder:
    """Index builder: collects postings in sorted runs of a few million tokens, six bytes per posting."""

    def __init__(self) -> None:
        self._numbers = _TermNumbers()
        self._names: MutableSequence[Any] = []
        self._tokens = array("i")
        self._token_counts = array("i")
        self._runs: list[_Run] = []
        self._counted = 0
        self._total_length = 0

    def add(self, name: str | int, text: str) -> None:
        """Add the next document."""
        tokens = tokenize(text)
        self._names.append(name)
        self._token_counts.append(len(tokens))
        self._tokens.extend(map(self._numbers.__getitem__, tokens))
        if len(self._tokens) >= _TOKENS_PER_RUN:
            self._close_run()

    def finish(self) -> tuple[_Arrays, int, int]:
        """Return the arrays, the number of non-empty documents and the total length, which the ranking needs."""
        self._close_run()
        ranks, term_bytes, term_ends = self._sorted_terms()
        frequencies = np.zeros(len(ranks), dtype=np.int64)
        for run in self._runs:
            frequencies[ranks[run.terms]] += run.counts
        posting_ends = running_sum(frequencies)
        pairs = np.unique(np.concatenate([np.empty(0, np.int64), *(run.pairs for run in self._runs)]))
        documents = np.empty(int(posting_ends[-1]), dtype=np.int32)
        codes: NDArray[Any] = np.empty(len(documents), dtype=np.uint16 if len(pairs) <= 1 << 16 else np.uint32)
        free = posting_ends[:-1].copy()
        self._runs.reverse()
        while self._runs:
            run = self._runs.pop()
            numbers = ranks[run.terms]
            before = running_sum(run.counts)[:-1]
            places = np.repeat(free[numbers] - before, run.counts) + np.arange(len(run.documents))
            documents[places] = run.documents
            codes[places] = np.searchsorted(pairs, run.pairs).astype(codes.dtype)[run.codes]
            free[numbers] += run.counts

        name_order = sorted(range(len(self._names)), key=self._names.__getitem__)
        name_ranks = np.empty(len(self._names), dtype=np.int32)
        name_ranks[name_order] = np.arange(len(self._names), dtype=np.int32)
        arrays = _Arrays(
            term_bytes=term_bytes,
            term_ends=term_ends,
            posting_ends=posting_ends,
            documents=documents,
            codes=codes,
            pairs=np.stack((pairs >> 8, pairs & 255), axis=1),
            ranks=name_ranks,
        )
        return arrays, self._counted, self._total_length

    def _sorted_terms(self) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
        """Return the place of each term in their order, and `_Arrays.term_bytes` and `term_ends`; forget the terms."""
        self._numbers.clear()
        words = list(self._numbers.terms)
        self._numbers.terms.clear()
        order = sorted(range(len(words)), key=words.__getitem__)
        ranks = np.empty(len(words), dtype=np.int64)
        ranks[order] = np.arange(len(words))
        encoded = [words[number].encode() for number in order]
        del words, order
        term_ends = running_sum([len(word) for word in encoded])
        return ranks, np.frombuffer(b"".join(encoded), dtype=np.uint8), term_ends

    def _keep(self, run: _Run) -> None:
        self._runs.append(run)

    def _close_run(self) -> None:
        token_counts = np.frombuffer(self._token_counts, dtype=np.int32)
        tokens = np.frombuffer(self._tokens, dtype=np.int32)
        self._token_counts, self._tokens = array("i"), array("i")
        size = len(token_counts)
        if not size:
            return
        # Building takes the most memory here: arrays are narrow, and are deleted when they are not needed any more.
        kept = tokens >= 0
        places = np.repeat(np.arange(size, dtype=np.int32), token_counts)[kept]
        keys = tokens[kept].astype(np.int64)
        del tokens, kept
        lengths = np.bincount(places, minlength=size)
        self._counted += int(np.count_nonzero(lengths))
        self._total_length += int(lengths.sum())
        if not len(keys):
            return
        steps = np.searchsorted(_LENGTHS, lengths, side="right") - 1

        keys *= size
        keys += places
        del places
        keys.sort()
        starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
        word_counts = np.diff(starts, append=len(keys))
        keys = keys[starts]
        del starts
        terms, places = keys // size, (keys % size).astype(np.int32)
        del keys
        values = word_counts << 8 | steps[places]
        del word_counts
        pairs = np.unique(values)
        codes = np.searchsorted(pairs, values)
        term_starts = np.flatnonzero(np.concatenate(([True], terms[1:] != terms[:-1])))
        self._keep(
            _Run(
                terms=terms[term_starts],
                counts=np.diff(term_starts, append=len(terms)),
                documents=places + np.int32(len(self._names) - size),
                codes=codes.astype(np.uint16 if len(pairs) <= 1 << 16 else np.uint32),
                pairs=pairs,
            )
        )


class _SegmentBuilder(_Builder):
    """Index builder that keeps each run in a folder, and merges them a range of terms at a time.

    Args:
        folder: a new folder for the runs.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        folder.mkdir(parents=True)
        self._folder = folder
        self._ids = self._names = array("q")
        self._count = 0
        self._bases: list[int] = []  # of each run, the first document

    def write(self, path: Path) -> None:
        """Write the index to a new folder, as `SearchIndex.save` does."""
        self._close_run()
        ranks, term_bytes, term_ends = self._sorted_terms()
        frequencies = np.zeros(len(ranks), dtype=np.int64)
        found = [np.empty(0, np.int64)]
        for number in range(self._count):
            frequencies[ranks[self._load(number, "terms")]] += self._load(number, "counts")
            found.append(np.array(self._load(number, "pairs")))
        posting_ends = running_sum(frequencies)
        del frequencies
        pairs = np.unique(np.concatenate(found))
        code_type = np.dtype(np.uint16 if len(pairs) <= 1 << 16 else np.uint32)
        for number in range(self._count):
            self._sort(number, ranks, pairs, code_type)
        del ranks
        names = np.frombuffer(self._ids, dtype=np.int64)
        name_ranks = np.empty(len(names), dtype=np.int32)
        name_ranks[np.argsort(names, kind="stable")] = np.arange(len(names), dtype=np.int32)
        size = int(posting_ends[-1])
        documents, codes = (
            ArrayBlocks(size, np.dtype(kind), self._merged(name, posting_ends, np.dtype(kind)))
            for name, kind in (("documents", np.int32), ("codes", code_type))
        )
        # In the order of `_Arrays`: the description of the files is theirs, too.
        arrays: dict[str, NDArray[Any] | ArrayBlocks] = {
            "term_bytes": term_bytes,
            "term_ends": term_ends,
            "posting_ends": posting_ends,
            "documents": documents,
            "codes": codes,
            "pairs": np.stack((pairs >> 8, pairs & 255), axis=1),
            "ranks": name_ranks,
        }
        save_arrays(path, _FORMAT, arrays, {"counted": self._counted, "total_length": self._total_length})

    def _keep(self, run: _Run) -> None:
        # Counted from the run's first, documents mostly take two bytes: the runs are to take less disk than the index.
        base = int(run.documents.min())
        documents = run.documents - base
        for name, values in run._asdict().items():
            self._save(self._count, name, values)
        self._save(self._count, "documents", documents.astype(np.min_scalar_type(documents.max())))
        self._bases.append(base)
        self._count += 1

    def _file(self, number: int, name: str) -> Path:
        return self._folder / f"{number}-{name}.npy"

    def _save(self, number: int, name: str, values: NDArray[Any]) -> None:
        with open(self._file(number, name), "wb") as file:
            np.save(file, values, allow_pickle=False)

    def _load(self, number: int, name: str) -> NDArray[Any]:
        # Opened when it is needed: a process may have a thousand open files, and there are more runs.
        values: NDArray[Any] = np.load(self._file(number, name), mmap_mode="r", allow_pickle=False)
        return values

    def _sort(self, number: int, ranks: NDArray[np.int64], pairs: NDArray[np.int64], code_type: np.dtype[Any]) -> None:
        """Put a run into the order of the terms, with the codes of all runs; `counts` become `ends`."""
        places = ranks[self._load(number, "terms")]
        order = np.argsort(places)
        counts = np.array(self._load(number, "counts"))
        starts, counts = running_sum(counts)[:-1][order], counts[order]
        ends = running_sum(counts)
        moved = np.repeat(starts - ends[:-1], counts) + np.arange(ends[-1])
        codes = np.searchsorted(pairs, self._load(number, "pairs")).astype(code_type)[self._load(number, "codes")]
        documents = np.array(self._load(number, "documents"))
        # Files that are mapped are not written to, but replaced.
        for name in ("terms", "counts", "codes", "documents"):
            self._file(number, name).unlink()
        self._save(number, "terms", places[order].astype(np.int32))
        self._save(number, "ends", ends.astype(np.int32))
        self._save(number, "codes", codes[moved])
        self._save(number, "documents", documents[moved])

    def _merged(self, name: str, posting_ends: NDArray[np.int64], kind: np.dtype[Any]) -> Iterator[NDArray[Any]]:
        """Yield an array of all postings, some successive terms at a time; then delete it from the runs."""
        first, terms = 0, len(posting_ends) - 1
        while first < terms:
            bound = posting_ends[first] + _POSTINGS_PER_BLOCK
            last = max(first + 1, int(np.searchsorted(posting_ends, bound, side="right")) - 1)
            free = posting_ends[first:last] - posting_ends[first]
            block = np.empty(int(posting_ends[last] - posting_ends[first]), dtype=kind)
            for number in range(self._count):
                run_terms, ends = self._load(number, "terms"), self._load(number, "ends")
                start, end = np.searchsorted(run_terms, np.array((first, last), dtype=run_terms.dtype)).tolist()
                if start == end:
                    continue
                numbers = run_terms[start:end] - first
                ends = np.array(ends[start : end + 1])
                counts = np.diff(ends)
                places = np.repeat(free[numbers] - (ends[:-1] - ends[0]), counts) + np.arange(ends[-1] - ends[0])
                values = self._load(number, name)[ends[0] : ends[-1]]
                block[places] = values + np.int32(self._bases[number]) if name == "documents" else values
                free[numbers] += counts
            yield block
            first = last
        for number in range(self._count):
            self._file(number, name).unlink()


# -- the cache ----------------------------------------------------------------------------------


def open_or_build(
    suite: str, key: str, documents: Iterable[tuple[IdT, str]], *, total: int | None = None, progress: bool = True
) -> SearchIndex:
    """Open the cached index `key` of a suite, or build and cache it.

    A damaged index is replaced. If the cache cannot be written, the index works from memory and a warning says so.

    Args:
        suite: the folder of the cache, such as `webshop`.
        key: names the documents: other documents, another key. Letters, digits, `.`, `_` and `-`.
        documents: (id, text) pairs as for `SearchIndex.build`; read only if the index has to be built.
        total: how many there are, for the progress bar; by default the length if there is one.
        progress: show a bar on standard error for large builds.

    Raises:
        InvalidOption: the key is no file name.
    """
    return open_or_make(
        suite,
        key,
        SearchIndex.open,
        lambda: SearchIndex.build(documents, total=total, progress=progress),
        SearchIndex.save,
        what="search index",
    )
