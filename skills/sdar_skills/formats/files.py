"""Strict readers of the text and JSON files that imports read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData, did_you_mean
from sdar_envs.files.foreign import read_foreign
from sdar_envs.files.json_text import parse_json

__all__ = ["check_inside", "read_json", "read_text", "text_field", "texts_field", "word_list"]


def read_text(path: Path, inside: Path | None = None) -> str:
    """Return the text of a UTF-8 file, without blanks around it.

    Args:
        path: the file.
        inside: the folder of the collection, out of which symbolic links must not lead; None for a single file.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is empty, not UTF-8, no regular file, too large, or outside of the folder.
    """
    text = read_foreign(path, inside=inside).replace("\r\n", "\n").strip()
    if not text:
        raise CorruptData(f"{path} is empty.")
    return text


def read_json(path: Path, inside: Path | None = None) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: the file.
        inside: as for `read_text`.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is no JSON object, or a key comes twice in one of its objects.
    """
    text = read_text(path, inside)
    try:
        content = parse_json(text, object_pairs_hook=_object)
    except ValueError as error:
        raise CorruptData(f"{path} is no JSON that can be read ({error}).") from error
    if not isinstance(content, dict):
        raise CorruptData(f"{path} is no JSON object.")
    return content


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r:.80} comes twice in an object")
    return content


def check_inside(file: str, source: Path) -> None:
    """Check that a relative path stays inside its folder.

    Raises:
        CorruptData: it is absolute, or leads out.
    """
    if not file or Path(file).is_absolute() or ".." in Path(file).parts:
        raise CorruptData(f"{source}: the file {file!r} is not inside the folder.")


def texts_field(mapping: Mapping[str, Any], field: str, source: Path) -> dict[str, str]:
    """Return a required field whose value is an object of strings.

    Raises:
        CorruptData: it is missing, or something else.
    """
    if field not in mapping:
        raise CorruptData(f"{source}: the field {field!r} is missing.{did_you_mean(field, mapping)}")
    texts = mapping[field]
    if not isinstance(texts, dict) or not all(isinstance(text, str) for text in texts.values()):
        raise CorruptData(f"{source}: {field} is no object of texts.")
    return texts


def word_list(words: object, where: str) -> list[str]:
    """Return a list of words without the blank ones.

    Raises:
        CorruptData: it is no list of strings, or a word has a comma.
    """
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise CorruptData(f"{where} is no list of words.")
    if any("," in word for word in words):
        raise CorruptData(f"{where} has a word with a comma.")
    return [word.strip() for word in words if word.strip()]


def text_field(record: Mapping[str, Any], name: str, path: Path, place: str) -> str:
    """Return an optional field of text; empty if it is missing.

    Raises:
        CorruptData: it is no text.
    """
    value = record.get(name, "")
    if not isinstance(value, str):
        raise CorruptData(f"{path}: {name} of {place} is {value!r:.80}; wanted text.")
    return value.replace("\r\n", "\n").strip()
