"""Small corpora of invented places, and an encoder that needs no model."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_envs.search_qa.retrieval.retriever import Passage

NAMES = [first + last for first in ("Kal", "Mir", "Ost", "Ven", "Tor") for last in ("dorf", "wick", "mere", "stan")]


def places() -> list[Passage]:
    """Four passages about each of twenty towns; many words are shared, each name is in four."""
    found = []
    for number, name in enumerate(NAMES):
        for relation, value in (
            ("river", NAMES[number - 1][:3].lower()),
            ("population", str(1000 + 37 * number)),
            ("mayor", f"Ada {NAMES[number - 7]}er"),
            ("founding year", str(1100 + number)),
        ):
            contents = f'"{relation.capitalize()} of {name}"\nThe {relation} of the town of {name} is {value}.'
            found.append(Passage(f"{name}-{relation}", contents))
    return found


def write_corpus(path: Path, passages: Iterable[Passage]) -> Path:
    with open(path, "w", encoding="utf-8") as file:
        for passage in passages:
            file.write(json.dumps({"id": passage.id, "contents": passage.contents}) + "\n")
    return path


def bag_of_words(texts: Sequence[str]) -> np.ndarray:
    """Count words in 625 places, which is enough that none of those above share one."""
    vectors = np.zeros((len(texts), 625), dtype=np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().replace('"', " ").replace(".", " ").split():
            vectors[row, zlib.crc32(word.encode()) % 625] += 1
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


ENCODER = Encoder("bag-of-words", bag_of_words)
