"""Passage corpora: imported from JSON Lines or DPR's table, stored on disk and memory-mapped.

A line is an object with `id` (or `_id`) and either `contents`, in the form that `Passage` describes, or `text` and
perhaps `title`. Or the first line is `id`, `text`, `title` with tabs between, as in `psgs_w100.tsv`, and the others are
such rows, quoted as in CSV. The file may be compressed with gzip. Lines of white space are skipped. A line that gives
no passage is refused by number: not UTF-8, not JSON, no id, no text, half a surrogate pair; so is an id that was there
before.

On disk a corpus is a folder: the passages end to end in `passages.bin`, each as its id and its contents, and where each
begins in `offsets`. Importing takes 24 bytes of memory per passage, a corpus that was opened none until it is read.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from sdar_envs.core import is_integer
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.files.arrays import checksum, open_arrays, save_arrays
from sdar_envs.files.json_text import parse_json
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["Corpus", "import_corpus", "read_passages", "reporting"]

_FORMAT = 1
_GZIP = b"\x1f\x8b"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_TABLE_HEAD = b"id\ttext\ttitle"
_REPORT_EVERY = 1_000
_SHOWN = 80


# -- reading ------------------------------------------------------------------------------------


def read_passages(path: Path, progress: Callable[[int], None] = lambda _: None) -> Iterator[tuple[int, Passage]]:
    """Yield the passages of a corpus file.

    Args:
        path: a file of JSON lines or DPR's table of passages, plain or compressed with gzip, whatever its name.
        progress: called now and then with the bytes of the file that have been read.

    Yields:
        The number of the line, from 1, and its passage. Ids are not compared: `import_corpus` does that.

    Raises:
        MissingData: there is no such file.
        CorruptData: a line is not a passage, or the file cannot be read to its end.
    """
    try:
        with open(path, "rb") as file:
            is_compressed = file.read(len(_GZIP)) == _GZIP
            file.seek(0)
            lines = gzip.GzipFile(fileobj=file) if is_compressed else file
            number, read = 0, _passage
            for number, line in enumerate(lines, 1):
                if number % _REPORT_EVERY == 0:
                    progress(file.tell())
                content = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
                if number == 1 and content.rstrip() == _TABLE_HEAD:
                    read = _table_row
                elif content.strip():
                    yield number, read(content, path, number)
            progress(file.tell())
    except FileNotFoundError as error:
        raise MissingData(f"there is no corpus {path}.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorruptData(f"{path} cannot be read to its end ({error}): download it again.") from error


def _table_row(line: bytes, path: Path, number: int) -> Passage:
    """Return the passage of a row of DPR's table."""
    try:
        rows = list(csv.reader([_decoded(line, path, number)], delimiter="\t"))
    except csv.Error as error:
        raise _bad_line(path, number, f"it is no row of a table ({error})") from error
    if len(rows) != 1 or len(rows[0]) != 3:
        fields = len(rows[0]) if rows else 0
        raise _bad_line(path, number, f"it has {fields} fields; wanted id, text and title with tabs between")
    name, text, title = rows[0]
    return Passage(name, _contents({"title": title, "text": text}, path, number))


def _decoded(line: bytes, path: Path, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise _bad_line(path, number, f"it is not UTF-8 ({error.reason} at byte {error.start})") from error


def _passage(line: bytes, path: Path, number: int) -> Passage:
    text = _decoded(line, path, number)
    try:
        row = parse_json(text)
    except json.JSONDecodeError as error:
        raise _bad_line(path, number, f"it is not JSON ({error.msg} at character {error.pos})") from error
    except (ValueError, RecursionError) as error:
        raise _bad_line(path, number, f"it is JSON beyond all measure ({error})") from error
    if not isinstance(row, dict):
        raise _bad_line(path, number, f"it is {_shown(row)}, not an object")
    name = row.get("id", row.get("_id"))
    if not (isinstance(name, str) or is_integer(name)):
        raise _bad_line(path, number, f"its id is {_shown(name)}; wanted text or a whole number")
    contents = _contents(row, path, number)
    passage = Passage(str(name), contents)
    try:
        (passage.id + contents).encode()
    except UnicodeEncodeError as error:
        raise _bad_line(path, number, "it holds half a surrogate pair, which is not a character") from error
    return passage


def _contents(row: dict[str, Any], path: Path, number: int) -> str:
    contents = row.get("contents")
    if contents is None:
        title, contents = row.get("title"), row.get("text")
        if not (title is None or isinstance(title, str)):
            raise _bad_line(path, number, f"its title is {_shown(title)}; wanted text")
        if isinstance(contents, str) and contents.strip():
            # The title is the first line, so it has to be one.
            return f'"{" ".join((title or "").split())}"\n{contents}'
    if not (isinstance(contents, str) and contents.strip()):
        keys = ", ".join(map(str, row))
        raise _bad_line(path, number, f"it has no text: wanted 'contents' or 'text', its keys are {keys[:_SHOWN]}")
    return contents


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]


def _bad_line(path: Path, number: int, what: str) -> CorruptData:
    wanted = '{"id": "7", "contents": "\\"Title\\"\\nText"}'
    return CorruptData(
        f"{path}, line {number} is not a passage: {what}. Correct or remove the line; a valid one is {wanted}"
    )


# -- keeping ------------------------------------------------------------------------------------


class Corpus(Sequence[Passage]):
    """Memory-mapped corpus on disk, made by `import_corpus`. Threads and processes may share it."""

    def __init__(self, path: Path, passages: NDArray[np.uint8], offsets: NDArray[np.int64], sha256: str) -> None:
        self._path = path
        self._bytes = passages.data
        self._offsets = offsets
        self._sha256 = sha256

    def __reduce__(self) -> tuple[Any, ...]:
        return (Corpus.open, (self._path,))

    @property
    def sha256(self) -> str:
        """SHA-256 of all ids and contents in their order; independent of the format of the source file."""
        return self._sha256

    @property
    def nbytes(self) -> int:
        """Bytes of all ids and contents in UTF-8."""
        return len(self._bytes)

    def __len__(self) -> int:
        return len(self._offsets) // 2

    @overload
    def __getitem__(self, index: int) -> Passage: ...
    @overload
    def __getitem__(self, index: slice) -> list[Passage]: ...
    def __getitem__(self, index: int | slice) -> Passage | list[Passage]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"there is no passage {index}; the corpus has {len(self)}")
        start, middle, end = self._offsets[2 * place : 2 * place + 3].tolist()
        return Passage(str(self._bytes[start:middle], "utf-8"), str(self._bytes[middle:end], "utf-8"))

    @classmethod
    def open(cls, path: Path) -> Corpus:
        """Map a corpus that `import_corpus` made.

        Raises:
            MissingData: there is none.
            CorruptData: it is damaged or of another version of this package.
        """
        with open_arrays(path / "offsets", _FORMAT) as (arrays, facts):
            file = path / "passages.bin"
            offsets = arrays["offsets"]
            size = int(facts["size"])
            if not (
                file.stat().st_size == size == offsets[-1]
                and len(offsets) % 2
                and checksum(file) == facts["checksum"]
                and isinstance(facts["sha256"], str)
            ):
                raise ValueError(f"{file.name} is not the file that was written")
            # The plain view: slices of a np.memmap cost a microsecond more.
            passages = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
            return cls(path, passages, offsets, facts["sha256"])


def import_corpus(source: Path, path: Path, progress: Callable[[int], None] = lambda _: None) -> Corpus:
    """Import a corpus file into a new folder.

    Args:
        source: what `read_passages` reads.
        path: the folder.
        progress: called now and then with the bytes of the file that have been read.

    Raises:
        MissingData: there is no such file.
        CorruptData: a line is not a passage, two have the same id, or there is none at all.
        OSError: the folder exists or cannot be written; a part of it may be left.
    """
    path.mkdir(parents=True)
    file_path = path / "passages.bin"
    content_hash = hashlib.sha256()
    offsets, id_hashes = array("q", [0]), array("q")
    size = 0
    with open(file_path, "wb", buffering=1 << 20) as file:
        for _, passage in read_passages(source, progress):
            name, contents = passage.id.encode(), passage.contents.encode()
            for part in (name, contents):
                content_hash.update(part)
                file.write(part)
                size += len(part)
                offsets.append(size)
            id_hashes.append(hash(passage.id))
        file.flush()
        os.fsync(file.fileno())
    if not id_hashes:
        raise CorruptData(f"{source} holds no passage; wanted a JSON object on each line.")
    _refuse_repeated_ids(np.frombuffer(id_hashes, dtype=np.int64), source)
    ends = np.frombuffer(offsets, dtype=np.int64)
    content_hash.update(ends.astype("<i8", copy=False).data)
    facts = {"size": size, "checksum": checksum(file_path), "sha256": content_hash.hexdigest()}
    save_arrays(path / "offsets", _FORMAT, {"offsets": ends}, facts)
    return Corpus.open(path)


def _refuse_repeated_ids(id_hashes: NDArray[np.int64], source: Path) -> None:
    """Raise if two passages have the same id; the file is read again only if two hashes are equal."""
    id_hashes.sort()
    repeated = set(id_hashes[1:][id_hashes[1:] == id_hashes[:-1]].tolist())
    if not repeated:
        return
    first_lines: dict[str, int] = {}
    for number, passage in read_passages(source):
        if hash(passage.id) not in repeated:
            continue
        first = first_lines.setdefault(passage.id, number)
        if first != number:
            raise CorruptData(
                f"{source}, line {number} has the id {_shown(passage.id)}, as line {first} has: ids must be unique. "
                "Number the passages, or drop one."
            )


def reporting(passages: Sequence[Passage], progress: Callable[[int], None]) -> Iterator[Passage]:
    """Yield the passages, and call `progress` now and then with how many there were."""
    for place in range(len(passages)):
        if place % _REPORT_EVERY == 0:
            progress(place)
        yield passages[place]
    progress(len(passages))
