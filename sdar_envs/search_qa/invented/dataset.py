"""Invented data set: settings and levels, splits, and the cache.

    data = open_data(LEVELS["default"])
    data.passages, data.rows["test"][0]

A level is a world of its own size and difficulty with the turns that its questions need. Equal settings give equal
passages and questions on every machine and Python; they are made when they are first asked for, and cached.

Splits: no answer of `train` is one of `dev` or `test`. `test_paths` has pairs of successive steps that no question of
these has, though each step alone is in `train`. `test_hops` has the longest chains, which they lack.
`test_worlds` is of another world, with other passages: no name is common to both.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sdar_envs.core import is_integer
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.files.arrays import open_or_make
from sdar_envs.files.json_text import parse_json
from sdar_envs.search_qa.corpus import Corpus
from sdar_envs.search_qa.made_data import FORMAT, json_lines, read_content, save_content, save_passages
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["LEVELS", "RELEASE", "SPLITS", "VERDICTS", "InventedData", "WorldSettings", "open_data", "with_settings"]

SPLITS = ("train", "dev", "test", "test_paths", "test_hops", "test_worlds")
"""Splits of the invented questions; a level without long chains has no `test_hops`."""

VERDICTS = resources.files("sdar_envs.search_qa") / "data" / "invented_verdicts.json.gz"
"""Verdicts about the drafts of the named levels."""

RELEASE = 1
"""Of the worlds: another one makes others of the same settings."""

_MIXES: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "easy": {"lookup": 40, "described lookup": 15, "chain of 2": 37, "intersection": 4, "years between": 4},
        "default": {
            "lookup": 10, "described lookup": 6, "chain of 2": 20, "chain of 3": 20, "chain of 4": 9,
            "described chain": 10, "bridged comparison": 6, "which of several": 4, "first or last work": 5, "count": 3,
            "intersection": 4, "years between": 3,
        },
        "hard": {
            "lookup": 4, "described lookup": 4, "chain of 2": 12, "chain of 3": 26, "chain of 4": 22,
            "described chain": 14, "bridged comparison": 6, "which of several": 2, "first or last work": 4, "count": 2,
            "intersection": 2, "years between": 2,
        },
    }
)  # fmt: skip
_HOPS_OF_KIND = MappingProxyType(
    {"lookup": 1, "described lookup": 1, "chain of 3": 3, "chain of 4": 4, "described chain": 3}
)


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """Settings of an invented world and its questions.

    Attributes:
        seed: of the world.
        entities: how many there are; about two passages for each.
        hops: longest chain of facts that a question follows, 1 to 4.
        at_object: so many of a hundred relational facts are told only in a passage about their object.
        questions: about the world, `test_worlds` aside.
        max_steps: turns that the questions are made for.
        mix: how many of a hundred questions are of each kind, by the name of a level.
    """

    seed: int = 1
    entities: int = 4000
    hops: int = 4
    at_object: int = 50
    questions: int = 4200
    max_steps: int = 8
    mix: str = "default"

    def __post_init__(self) -> None:
        for name, low, high in (
            ("seed", 0, 2**32),
            ("entities", 400, 100_000),
            ("hops", 1, 4),
            ("at_object", 0, 100),
            ("questions", 100, 100_000),
            ("max_steps", 2, 100),
        ):
            value = getattr(self, name)
            if not is_integer(value) or not low <= value <= high:
                raise InvalidOption(f"the world's {name} is {value!r}; wanted a whole number from {low} to {high:,}.")

    def key(self) -> str:
        """Return a short name for the settings, which differs if they do."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(f"{RELEASE}/{text}".encode()).hexdigest()[:24]

    def kinds(self) -> dict[str, int]:
        """Return how many questions of each kind there are to be in the main world."""
        allowed = {
            kind: share
            for kind, share in _MIXES[self.mix].items()
            if _HOPS_OF_KIND.get(kind, 2) <= self.hops and _LEAST_TURNS.get(kind, 0) <= self.max_steps
        }
        total = sum(allowed.values())
        return {kind: self.questions * share // total for kind, share in allowed.items()}


# Questions of a kind take at least so many searches and an answer.
_LEAST_TURNS = MappingProxyType(
    {"bridged comparison": 7, "which of several": 6, "first or last work": 7, "count": 8, "chain of 4": 5,
     "chain of 3": 4, "described chain": 4, "chain of 2": 3, "intersection": 3, "years between": 3}
)  # fmt: skip

LEVELS: Mapping[str, WorldSettings] = MappingProxyType(
    {
        "easy": WorldSettings(hops=2, at_object=0, max_steps=4, mix="easy"),
        "default": WorldSettings(),
        "hard": WorldSettings(at_object=80, max_steps=8, mix="hard"),
    }
)
"""Named levels with their settings."""

_SET_BY_USER = ("seed", "entities", "hops", "at_object", "questions", "max_steps")


def with_settings(level: str, changes: Mapping[str, Any] | None) -> WorldSettings:
    """Return the settings of a level with changes.

    Args:
        level: one of `LEVELS`.
        changes: settings by name: `seed`, `entities`, `hops`, `at_object`, `questions`, `max_steps`.

    Raises:
        UnknownName: there is no such level or setting.
        InvalidOption: a value is out of range.
    """
    if level not in LEVELS:
        raise UnknownName(f"no level {level!r}; the levels are {', '.join(LEVELS)}.{did_you_mean(level, LEVELS)}")
    if changes is None:
        return LEVELS[level]
    if not isinstance(changes, Mapping):
        raise InvalidOption(f"world is {changes!r:.80}; wanted settings by name, such as {{'seed': 2}}.")
    for name in changes:
        if name not in _SET_BY_USER:
            raise UnknownName(
                f"no setting {name!r} of a world; the settings are {', '.join(_SET_BY_USER)}."
                f"{did_you_mean(name, _SET_BY_USER)}"
            )
    return dataclasses.replace(LEVELS[level], **changes)


@dataclass(frozen=True, slots=True)
class InventedData:
    """Passages and questions.

    Attributes:
        passages: of the main world.
        other_passages: of the world of `test_worlds`.
        rows: questions of each split, in a fixed order in which any first part is a fair sample.
        yields: for each kind, how many drafts stayed (`kept`), one search solved (`one search`), and no search found
            (`not found`).
    """

    passages: Sequence[Passage]
    other_passages: Sequence[Passage]
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    yields: Mapping[str, Mapping[str, int]]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the main world's passages."""
        return _digest(self.passages)

    @property
    def other_fingerprint(self) -> str:
        """SHA-256 of the other world's passages."""
        return _digest(self.other_passages)

    @property
    def questions_fingerprint(self) -> str:
        """SHA-256 of the questions."""
        return hashlib.sha256(json_lines(row for of in self.rows.values() for row in of).encode()).hexdigest()


def _digest(passages: Sequence[Passage]) -> str:
    if isinstance(passages, Corpus):
        return passages.sha256
    digest, ends, size = hashlib.sha256(), [0], 0
    for passage in passages:
        for part in (passage.id.encode(), passage.contents.encode()):
            digest.update(part)
            size += len(part)
            ends.append(size)
    for end in ends:
        digest.update(end.to_bytes(8, "little"))
    return digest.hexdigest()


# -- the cache ----------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def open_data(settings: WorldSettings) -> InventedData:
    """Return a data set out of the cache, made at the first time; shared within the process."""
    return open_or_make(
        "search_qa",
        f"invented-{FORMAT}-{settings.key()}",
        _open,
        lambda: _make(settings),
        _save,
        what="invented world",
    )


def _make(settings: WorldSettings) -> InventedData:
    # Of all starts only the first needs the modules that make a world.
    from sdar_envs.search_qa.invented.making import make_data  # noqa: PLC0415

    return make_data(settings, _shipped().get(settings.key()))


def _shipped() -> dict[str, dict[str, list[str]]]:
    try:
        text = gzip.decompress(VERDICTS.read_bytes()).decode("ascii")
        return {
            key: {world: verdicts.split() for world, verdicts in of.items()} for key, of in parse_json(text).items()
        }
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise CorruptData(f"{VERDICTS} is damaged ({error}); reinstall sdar-envs.") from error


def _save(data: InventedData, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    save_passages(data.passages, folder / "main")
    save_passages(data.other_passages, folder / "other")
    save_content({"rows": data.rows, "yields": data.yields}, folder / "questions.json")


def _open(folder: Path) -> InventedData:
    if not folder.is_dir():
        raise MissingData(f"there is no {folder}.")
    main, other = Corpus.open(folder / "main"), Corpus.open(folder / "other")
    try:
        content = read_content(folder / "questions.json")
        return InventedData(main, other, content["rows"], content["yields"])
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CorruptData(f"{folder} is damaged ({error}).") from error
