"""Passage vectors in a `.npy` file: encoding a corpus to disk, resumably, and exact search over the mapped file.

    encode_corpus("wiki-18.jsonl", "wiki-18.npy", encoder)
    vectors = open_vectors("wiki-18.npy")

A file holds one row per passage, in the order of the corpus, in float16 or float32; any program that writes such a file
will do. What `encode_corpus` has not finished lies beside it: `NAME.partial` with the rows so far, and
`NAME.partial.json`, which says how many of them are on disk and of what. Called again, it goes on from there.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.files.arrays import checksum
from sdar_envs.files.json_text import read_json_object
from sdar_envs.files.locks import writing_path
from sdar_envs.search_qa.corpus import read_passages
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_envs.storage import write_atomic

__all__ = ["DTYPES", "encode_corpus", "exact_places", "open_vectors"]

DTYPES = ("float16", "float32")
"""Types of numbers that a file of vectors can have."""

_ENCODED_AT_ONCE = 512
_SAVED_EVERY = 16  # times that many passages
_ROWS_AT_ONCE = 1 << 15
_HEAD = 128  # bytes before the rows: numpy's header, padded


def open_vectors(path: str | Path) -> NDArray[Any]:
    """Map the vectors of a `.npy` file: (n, d), float16 or float32.

    Raises:
        MissingData: there is no such file.
        CorruptData: it holds something else, or is cut off.
    """
    path = Path(path)
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise MissingData(f"there is no file of vectors {path}.") from error
    except (OSError, ValueError, EOFError) as error:
        raise CorruptData(f"{path} is no .npy file of vectors ({error}): write it with numpy.save.") from error
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.name not in DTYPES or not values.size:
        shape, kind = getattr(values, "shape", "?"), getattr(values, "dtype", type(values).__name__)
        raise CorruptData(
            f"{path} holds {kind} of shape {shape}; wanted one row per passage in {' or '.join(DTYPES)}: (n, d)."
        )
    return values


def exact_places(vectors: NDArray[Any], queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the rows with the largest inner products with each query, best first: (queries, min(k, n)).

    Reads the rows once, some thousands at a time. Products equal to the last digit come in the order of the rows.

    Args:
        vectors: (n, d), perhaps mapped.
        queries: (m, d).
        k: rows for each query.
    """
    best = np.empty((len(queries), 0), dtype=np.float32)
    places = np.empty((len(queries), 0), dtype=np.int64)
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        block = np.asarray(vectors[start : start + _ROWS_AT_ONCE], dtype=np.float32)
        best = np.concatenate([best, queries @ block.T], axis=1)
        rows = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        places = np.concatenate([places, rows], axis=1)
        # Stable, and earlier rows stand before later ones: equal products stay in the order of the rows.
        kept = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, places = np.take_along_axis(best, kept, axis=1), np.take_along_axis(places, kept, axis=1)
    return places


def encode_corpus(
    source: str | Path,
    out: str | Path,
    encoder: Encoder,
    *,
    dtype: str = "float16",
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Write the vectors of a corpus file's passages to a `.npy` file, or go on where an earlier call was stopped.

    Args:
        source: JSON Lines or DPR's table, see `sdar_envs.search_qa.corpus`.
        out: the file; it appears when all passages are in it.
        encoder: makes the vectors.
        dtype: one of `DTYPES`.
        progress: called now and then with how many passages are done.

    Returns:
        How many passages there are.

    Raises:
        InvalidOption: the file exists, another process writes it, or what was begun is of another corpus or encoder.
        MissingData: there is no such corpus.
        CorruptData: a line of it is not a passage.
        OSError: the file cannot be written; what was written before is kept.
    """
    source, out = Path(source), Path(os.path.abspath(out))
    if dtype not in DTYPES:
        raise InvalidOption(f"dtype is {dtype!r}; wanted {' or '.join(DTYPES)}.")
    if out.suffix != ".npy":
        raise InvalidOption(f"{out.name} is no name of a file of vectors: end it in .npy.")
    if not source.is_file():
        raise MissingData(f"there is no corpus {source}.")
    made_of = {
        "corpus": [source.stat().st_size, checksum(source)],
        "encoder": [encoder.name, encoder.query_prefix, encoder.passage_prefix],
        "dtype": dtype,
    }
    partial, state = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.partial.json")
    with writing_path(out):
        if os.path.lexists(out):
            raise InvalidOption(f"{out} exists: name another file, or delete it.")
        done, width = _begun(partial, state, made_of)
        with open(partial, "r+b" if done else "wb") as file:
            if not done:
                file.write(bytes(_HEAD))
            file.seek(_HEAD + done * width * np.dtype(dtype).itemsize)
            file.truncate()
            texts = (passage.contents for _, passage in read_passages(source))
            for number, batch in enumerate(_batches(itertools.islice(texts, done, None)), 1):
                vectors = encoder.passages(batch)
                width = width or vectors.shape[1]
                if vectors.shape[1] != width:
                    raise InvalidOption(
                        f"the encoder {encoder.name!r} makes vectors of {vectors.shape[1]} numbers, and before of "
                        f"{width}: delete {partial} to begin again."
                    )
                file.write(vectors.astype(dtype).tobytes())
                done += len(batch)
                progress(done)
                if number % _SAVED_EVERY == 0:
                    _save(file, state, {**made_of, "done": done, "width": width})
            if not done:
                raise CorruptData(f"{source} holds no passage; wanted a JSON object on each line.")
            file.seek(0)
            _write_head(file, done, width, dtype)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, out)
        state.unlink(missing_ok=True)
    return done


def _begun(partial: Path, state: Path, made_of: dict[str, Any]) -> tuple[int, int]:
    """Return how many passages an earlier call has encoded, and the numbers in each vector."""
    if not (partial.is_file() and state.is_file()):
        return 0, 0
    content = read_json_object(state)
    for name, value in made_of.items():
        if content.get(name) != value:
            raise InvalidOption(
                f"{partial} was begun with another {name} ({content.get(name)!r}, now {value!r}): "
                "give the same, or delete it to begin again."
            )
    done, width = content.get("done"), content.get("width")
    size = partial.stat().st_size
    if not (isinstance(done, int) and isinstance(width, int) and 0 < done * width <= size):
        raise CorruptData(f"{state} does not fit {partial}: delete both to begin again.")
    return done, width


def _save(file: BinaryIO, state: Path, content: dict[str, Any]) -> None:
    # The rows first: what the state counts must be there.
    file.flush()
    os.fsync(file.fileno())
    write_atomic(state, json.dumps(content) + "\n")


def _write_head(file: BinaryIO, rows: int, width: int, dtype: str) -> None:
    """Write numpy's header in its version 1.0, which `_HEAD` bytes hold for any number of rows."""
    text = repr({"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (rows, width)})
    head = np.lib.format.magic(1, 0) + (_HEAD - 10).to_bytes(2, "little")
    file.write(head + text.encode().ljust(_HEAD - 11) + b"\n")


def _batches(texts: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(texts, _ENCODED_AT_ONCE)):
        yield batch
