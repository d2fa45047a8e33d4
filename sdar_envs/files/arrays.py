"""Cached numpy arrays on disk: written once, checksummed, memory-mapped, so that processes share one copy.

A folder holds a `.npy` file per array and one `index.json` with their sizes and checksums and a few facts. Opening
one compares sizes and checksums; of files over 32 MiB it reads samples only, so a flipped bit in the middle of a large
file can go unnoticed, a missing or zeroed end cannot. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.files.json_text import parse_json
from sdar_envs.files.locks import writing_path
from sdar_envs.files.replacing import delete_folder, new_folder, sweep, sweep_behind
from sdar_envs.storage import cache_dir

__all__ = ["ArrayBlocks", "checksum", "open_arrays", "open_or_make", "running_sum", "save_arrays"]

_CHECKED_WHOLE = 1 << 25
_READ_AT_ONCE = 1 << 20
_SAMPLE = 1 << 16
_SAMPLES = 64

MadeT = TypeVar("MadeT")


class ArrayBlocks(NamedTuple):
    """Array of one dimension that is larger than memory: made block by block while it is written.

    Attributes:
        length: how many numbers the blocks hold together.
        dtype: the type of all blocks.
        blocks: the blocks in their order.
    """

    length: int
    dtype: np.dtype[Any]
    blocks: Iterable[NDArray[Any]]


def running_sum(counts: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
    """Return cumulative offsets, n + 1 of them: item i of the concatenation spans `[offsets[i], offsets[i + 1])`."""
    ends = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=ends[1:])
    return ends


def save_arrays(
    path: Path, version: int, arrays: Mapping[str, NDArray[Any] | ArrayBlocks], facts: Mapping[str, Any]
) -> None:
    """Write arrays to a new folder.

    Args:
        path: the folder.
        version: format version; `open_arrays` accepts only the same.
        arrays: arrays by name; no object arrays.
        facts: JSON values.

    Raises:
        OSError: the folder exists or cannot be written; a part of it may be left.
    """
    path.mkdir(parents=True)
    files = {}
    for name, values in arrays.items():
        target = path / f"{name}.npy"
        # Not through a memory map: on a full disk that ends the process instead of raising.
        with open(target, "wb") as file:
            if isinstance(values, ArrayBlocks):
                _save_blocks(file, values)
            else:
                np.save(file, values, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        files[name] = {"size": target.stat().st_size, "checksum": checksum(target)}
    with open(path / "index.json", "w", encoding="utf-8") as file:
        json.dump({"format": version, "files": files, "facts": facts}, file)
        file.flush()
        os.fsync(file.fileno())


def _save_blocks(file: BinaryIO, values: ArrayBlocks) -> None:
    """Write what `numpy.save` writes of the blocks end to end."""
    head = {"descr": np.lib.format.dtype_to_descr(values.dtype), "fortran_order": False, "shape": (values.length,)}
    np.lib.format.write_array_header_1_0(file, head)
    for block in values.blocks:
        file.write(np.ascontiguousarray(block, dtype=values.dtype).data)


@contextmanager
def open_arrays(path: Path, version: int) -> Iterator[tuple[dict[str, NDArray[Any]], dict[str, Any]]]:
    """Memory-map the arrays of a folder that `save_arrays` wrote, and read its facts.

    Build what is made of them inside the `with` block: an error there means damage as well.

    Raises:
        MissingData: there is no such folder.
        CorruptData: it is damaged or of another version of this package.
    """
    try:
        content = parse_json((path / "index.json").read_text(encoding="utf-8"))
        if content["format"] != version:
            raise ValueError(f"its format is {content['format']!r}, wanted {version}")
        yield {name: _map(path, name, stored) for name, stored in content["files"].items()}, content["facts"]
    except FileNotFoundError as error:
        if Path(error.filename or "").name == "index.json":
            raise MissingData(f"{path} holds no arrays (index.json is missing): make them first.") from error
        raise _damaged(path, error) from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> CorruptData:
    return CorruptData(f"{path} cannot be used ({type(error).__name__}: {error}): delete it and make it again.")


def _map(path: Path, name: str, stored: dict[str, int]) -> NDArray[Any]:
    file = path / f"{name}.npy"
    size = file.stat().st_size
    if size != stored["size"]:
        raise ValueError(f"{file.name} has {size} bytes, wanted {stored['size']}")
    if checksum(file) != stored["checksum"]:
        raise ValueError(f"the checksum of {file.name} is wrong")
    values = np.load(file, mmap_mode="r", allow_pickle=False)
    # The plain view: slices of a np.memmap cost a microsecond more, for every word of every query.
    return np.asarray(values).view(np.ndarray)


def checksum(file: Path) -> int:
    """Return the CRC-32 of a file; of 64 samples from beginning to end if it is over 32 MiB."""
    size = file.stat().st_size
    result = 0
    with open(file, "rb") as stream:
        if size <= _CHECKED_WHOLE:
            while part := stream.read(_READ_AT_ONCE):
                result = zlib.crc32(part, result)
            return result
        for i in range(_SAMPLES):
            stream.seek((size - _SAMPLE) * i // (_SAMPLES - 1))
            result = zlib.crc32(stream.read(_SAMPLE), result)
    return result


def open_or_make(
    suite: str,
    key: str,
    open_path: Callable[[Path], MadeT],
    make: Callable[[], MadeT],
    save: Callable[[MadeT, Path], None],
    *,
    what: str,
) -> MadeT:
    """Open the folder `key` of a suite's cache, or make its content and store it there.

    Of several processes that want the same content, one makes it and the others wait (without file locks, each makes it
    and the first is stored). A damaged folder is replaced. If the cache cannot be written, the content is returned
    nevertheless, with a warning.

    Args:
        suite: the folder of the cache, such as `webshop`.
        key: identifies the content; different content needs a different key. Letters, digits, `.`, `_` and `-`.
        open_path: reads a folder; raises `MissingData` or `CorruptData`.
        make: makes the content.
        save: writes it to a new folder; raises `OSError`.
        what: its name in the warning.

    Raises:
        InvalidOption: the key is no file name.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}", key):
        raise InvalidOption(f"the key is {key[:200]!r}; wanted up to 100 letters, digits, '.', '_' and '-'.")
    folder = cache_dir() / suite
    sweep_behind(folder / key)
    kept = _try_open(open_path, folder / key)
    if kept is not None:
        return kept
    with ExitStack() as stack:
        with suppress(OSError, InvalidOption):  # a cache that cannot be written must not prevent the search
            if stack.enter_context(writing_path(folder / key, wait=True)):
                sweep(folder, key)
        kept = _try_open(open_path, folder / key)
        if kept is not None:
            return kept
        made = make()
        try:
            with new_folder(folder / key) as temporary:
                save(made, temporary)
                if os.path.lexists(folder / key) and _try_open(open_path, folder / key) is None:
                    delete_folder(folder / key)
            return open_path(folder / key)
        except (OSError, CorruptData) as error:
            kept = _try_open(open_path, folder / key)
            if kept is not None:
                return kept  # without locks, another process was faster
            warnings.warn(
                f"the {what} could not be cached in {folder} ({error}): the next start makes it again. "
                "Free some space, or point $SDAR_CACHE_DIR to a folder that can be written.",
                stacklevel=2,
            )
            return made


def _try_open(open_path: Callable[[Path], MadeT], path: Path) -> MadeT | None:
    try:
        return open_path(path)
    except (CorruptData, MissingData, OSError):
        return None  # it is made again
