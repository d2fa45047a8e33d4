"""Embedded corpus and questions: real facts in our own words, part of the package.

`benchmarks/data_makers/search_qa_facts` made them; `data/LICENSE-DATA.md` says where the facts come from.
Files that are not exactly what was released are refused, because published numbers refer to it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData
from sdar_envs.search_qa.retrieval.index import bm25_over
from sdar_envs.search_qa.retrieval.retriever import Passage, Retriever

__all__ = [
    "DATA",
    "FINGERPRINT",
    "QUESTIONS_FINGERPRINT",
    "SPLITS",
    "embedded_retriever",
    "numbered_questions",
    "passages",
    "questions",
    "read_rows",
]

DATA: Traversable = resources.files("sdar_envs.search_qa") / "data"
"""The folder of the embedded data."""

FINGERPRINT = "a43fbb0c162cf42bd773376df164ab46b2f74f755977cc0491968b6769724358"
"""SHA-256 of the corpus. Published numbers refer to it: a change is a new release of the corpus, not a repair."""

QUESTIONS_FINGERPRINT = "cb01c758e2572150bb19d4516efe6ef7a10070a6644805edc1f904d27ea09f7f"
"""SHA-256 of the questions."""

SPLITS = ("train", "dev", "test")
"""No answer of one split is an answer in another."""


def passages() -> Iterator[Passage]:
    """Yield the passages of the corpus in their order.

    Raises:
        CorruptData: the file is damaged or of another release.
    """
    for row in _rows("corpus.jsonl.gz", FINGERPRINT):
        yield Passage(row["id"], row["contents"])


@lru_cache(maxsize=1)
def embedded_retriever() -> Retriever:
    """Return the BM25 engine over the corpus, shared within the process; its index is built once and cached on disk."""
    return bm25_over(tuple(passages()), FINGERPRINT)


def questions() -> dict[str, list[dict[str, Any]]]:
    """Return the questions of each split, in a fixed order in which any first part is a fair sample.

    Each has `id`, `question`, `golden_answers`, `data_source` (`facts`), `split` and `metadata`: `type`, `template`,
    `hops` and, in the order of the hops, `supporting` (ids of passages), `queries` (what an oracle searches for) and
    `bridges` (what each passage but the last is read for).

    Raises:
        CorruptData: the file is damaged or of another release.
    """
    return {split: [row for _, row in of] for split, of in numbered_questions().items()}


def numbered_questions() -> dict[str, list[tuple[int, dict[str, Any]]]]:
    """Return the questions of each split with the numbers in the ids of their tasks.

    The numbers are those of the first release. Its questions with more than one right answer were withdrawn since
    (`withdrawn.jsonl.gz`), and left gaps.

    Raises:
        CorruptData: the file is damaged or of another release.
    """
    by_split: dict[str, list[tuple[str, dict[str, Any] | None]]] = {split: [] for split in SPLITS}
    for row in _rows("questions.jsonl.gz", QUESTIONS_FINGERPRINT):
        by_split[row["split"]].append((row["id"], row))
    for row in read_rows(DATA / "withdrawn.jsonl.gz")[1]:
        by_split[row["split"]].append((row["id"], None))
    # The file is sorted by id, which compresses well; the first hundred questions should have all types.
    return {
        split: [
            (number, row)
            for number, (_, row) in enumerate(sorted(of, key=lambda pair: hashlib.sha256(pair[0].encode()).digest()))
            if row is not None
        ]
        for split, of in by_split.items()
    }


def read_rows(path: Path | Traversable) -> tuple[str, list[dict[str, Any]]]:
    """Read a gzipped JSON Lines file; return its text and its rows.

    Raises:
        CorruptData: the file is not what this package ships.
    """
    try:
        text = gzip.decompress(path.read_bytes()).decode()
        # One call for all lines takes half the time of one call for each.
        rows = json.loads(f"[{','.join(text.splitlines())}]")  # noqa: TID251  # of this package
    except (OSError, EOFError, ValueError) as error:
        raise CorruptData(f"{path} is damaged ({error}); reinstall sdar-envs.") from error
    return text, rows


def _rows(name: str, fingerprint: str) -> list[dict[str, Any]]:
    text, rows = read_rows(DATA / name)
    found = hashlib.sha256(text.encode()).hexdigest()
    if found != fingerprint:
        raise CorruptData(f"{DATA / name} has the content {found}; wanted {fingerprint}. Reinstall sdar-envs.")
    return rows
