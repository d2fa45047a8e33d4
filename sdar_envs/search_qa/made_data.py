"""Files of data sets that are made on the user's machine: passages as a corpus, and the rest with its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sdar_envs.files.json_text import parse_json
from sdar_envs.search_qa.corpus import import_corpus
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["FORMAT", "json_lines", "read_content", "save_content", "save_passages"]

FORMAT = 2
"""Raise it whenever the files change: it is in the keys of the cache."""


def json_lines(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def save_passages(passages: Iterable[Passage], path: Path) -> None:
    """Write passages to a new folder, which `Corpus.open` opens."""
    source = path.with_name(f"{path.name}.jsonl")
    source.write_text(
        json_lines({"id": passage.id, "contents": passage.contents} for passage in passages), encoding="utf-8"
    )
    import_corpus(source, path)
    source.unlink()


def save_content(content: Mapping[str, Any], file: Path) -> None:
    """Write content as JSON, after a line with its SHA-256."""
    text = json.dumps(content, ensure_ascii=False)
    file.write_text(f"{_sha256(text)}\n{text}", encoding="utf-8")


def read_content(file: Path) -> dict[str, Any]:
    """Return what `save_content` wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else.
    """
    digest, _, text = file.read_text(encoding="utf-8").partition("\n")
    if _sha256(text) != digest:
        raise ValueError(f"{file.name} is not what was written")
    content: dict[str, Any] = parse_json(text)
    return content


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
