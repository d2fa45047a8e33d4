"""Films data sets: passages and questions over real films, and the same with invented names.

    data = open_data(is_twin=False)

A film's passage tells its director or its writer, or the passage about the person does; who acts in it, only the
passages about the players tell. Questions describe a film by a person and a year ("the 2011 film with X"), which is
one among the films here. Facts are positive: nothing is counted, and nothing is said to be the only or the first.

The twin has the same films, people, years and questions; titles and names are invented, so that nobody knows them. A
question stays only if it passes the filters of `sdar_envs.search_qa.invented.judging` with both, and has the same
number in both. What a model answers better with the real names, it knows by heart.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.files.arrays import open_or_make
from sdar_envs.rng import Rng
from sdar_envs.search_qa.corpus import Corpus
from sdar_envs.search_qa.embedded import read_rows
from sdar_envs.search_qa.films.questions import FilmDrafts
from sdar_envs.search_qa.films.text import Film, Library, invented_films, write_library
from sdar_envs.search_qa.invented.drafts import Draft
from sdar_envs.search_qa.invented.judging import Searching, found_by
from sdar_envs.search_qa.made_data import FORMAT, json_lines, read_content, save_content, save_passages
from sdar_envs.search_qa.retrieval.retriever import Passage
from sdar_envs.storage import with_progress

__all__ = ["FACTS", "MAX_STEPS", "FilmData", "make_data", "open_data"]

FACTS = resources.files("sdar_envs.search_qa") / "data" / "films.jsonl.gz"
"""The films: CC0 facts of Wikidata, see `data/LICENSE-DATA.md`."""

MAX_STEPS = 6
"""Turns that the questions are made for."""

_RELEASE = 1
_NAMES = ("films", "films_twin")
_WANTED = {"lookup": 120, "chain of 2": 420, "chain of 3": 300, "chain of 4": 160}


@dataclass(frozen=True, slots=True)
class FilmData:
    """Passages and questions.

    Attributes:
        passages: of films and people.
        rows: questions, in a fixed order in which any first part is a fair sample.
        yields: for each kind, how many drafts stayed and how many left.
        fingerprint: SHA-256 of the passages.
    """

    passages: Sequence[Passage]
    rows: Sequence[Mapping[str, Any]]
    yields: Mapping[str, Mapping[str, int]]
    fingerprint: str

    @property
    def questions_fingerprint(self) -> str:
        """SHA-256 of the questions."""
        return hashlib.sha256(json_lines(self.rows).encode()).hexdigest()


def make_data() -> tuple[FilmData, FilmData]:
    """Make the films and their twin.

    Raises:
        CorruptData: the facts are damaged.
    """
    films = [Film.from_row(row) for row in read_rows(FACTS)[1]]
    both = (films, invented_films(films, f"films/{_RELEASE}/twin"))
    # The same draws for both, so that passages and drafts correspond.
    libraries = [write_library(of, Rng(f"films/{_RELEASE}/passages")) for of in both]
    judges = [Searching(library.passages) for library in libraries]
    yields = {kind: {"kept": 0, "one search": 0, "not found": 0} for kind in _WANTED}

    def kept() -> Iterator[tuple[int, list[tuple[Draft, tuple[str, ...]]]]]:
        number = 0
        for kind, wanted in _WANTED.items():
            drafts = zip(
                *(FilmDrafts(library, f"films/{_RELEASE}/questions").of_kind(kind) for library in libraries),
                strict=True,
            )
            for pair in drafts:
                if any(draft is None for draft in pair):
                    continue
                verdicts = [
                    judge.verdict(draft) for judge, draft in zip(judges, pair, strict=True) if draft is not None
                ]
                if all(map(str.isdigit, verdicts)):
                    yields[kind]["kept"] += 1
                    yield number, [(d, found_by(d, v)) for d, v in zip(pair, verdicts, strict=True) if d is not None]
                    number += 1
                else:
                    yields[kind]["one search" if "o" in verdicts else "not found"] += 1
                if yields[kind]["kept"] == wanted:
                    break

    shown = with_progress(
        kept(), "Searching for the questions about films (once)", total=sum(_WANTED.values()), show_from=500
    )
    pairs = sorted(shown, key=lambda pair: hashlib.sha256(f"films/{pair[0]}".encode()).digest())
    made = []
    for place, (name, library) in enumerate(zip(_NAMES, libraries, strict=True)):
        rows = [
            draft.row(f"{name}-{number:04d}", name, "test", queries)
            for number, pair in pairs
            for draft, queries in (pair[place],)
        ]
        made.append(FilmData(library.passages, rows, yields, _digest(library)))
    return made[0], made[1]


def _digest(library: Library) -> str:
    digest = hashlib.sha256()
    for passage in library.passages:
        digest.update(f"{passage.id}\n{passage.contents}\n".encode())
    return digest.hexdigest()


def open_data(*, is_twin: bool) -> FilmData:
    """Return a data set out of the cache, made at the first time; shared within the process."""
    return _both()[is_twin]


@lru_cache(maxsize=1)
def _both() -> tuple[FilmData, FilmData]:
    return open_or_make("search_qa", f"films-{FORMAT}-{_RELEASE}", _open, make_data, _save, what="films")


def _save(both: tuple[FilmData, FilmData], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in zip(_NAMES, both, strict=True):
        save_passages(data.passages, folder / name)
        content = {"rows": data.rows, "yields": data.yields, "fingerprint": data.fingerprint}
        save_content(content, folder / f"{name}.json")


def _open(folder: Path) -> tuple[FilmData, FilmData]:
    if not folder.is_dir():
        raise MissingData(f"there is no {folder}.")
    made = []
    for name in _NAMES:
        passages = Corpus.open(folder / name)
        try:
            content = read_content(folder / f"{name}.json")
            made.append(FilmData(passages, content["rows"], content["yields"], content["fingerprint"]))
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CorruptData(f"{folder} is damaged ({error}).") from error
    return made[0], made[1]
