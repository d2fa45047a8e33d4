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
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.files.arrays import open_or_make
from sdar_envs.files.json_text import parse_json
from sdar_envs.rng import Rng
from sdar_envs.search_qa.corpus import Corpus, import_corpus
from sdar_envs.search_qa.embedded import read_rows
from sdar_envs.search_qa.films.questions import FilmDrafts
from sdar_envs.search_qa.films.text import Film, Library, invented_films, write_library
from sdar_envs.search_qa.invented.drafts import Draft
from sdar_envs.search_qa.invented.judging import Searching
from sdar_envs.search_qa.retrieval.retriever import Passage
from sdar_envs.search_qa.scoring import normalize
from sdar_envs.storage import with_progress

__all__ = ["FACTS", "MAX_STEPS", "FilmData", "make_data", "open_data"]

FACTS = resources.files("sdar_envs.search_qa") / "data" / "films.jsonl.gz"
"""The films: CC0 facts of Wikidata, see `data/LICENSE-DATA.md`."""

MAX_STEPS = 6
"""Turns that the questions are made for."""

_RELEASE = 1
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
        return hashlib.sha256(_lines(self.rows).encode()).hexdigest()


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
                    yield number, [(d, _queries(d, v)) for d, v in zip(pair, verdicts, strict=True) if d is not None]
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
    for place, (name, library) in enumerate(zip(("films", "films_twin"), libraries, strict=True)):
        rows = [_row(name, number, *pair[place]) for number, pair in pairs]
        made.append(FilmData(library.passages, rows, yields, _digest(library)))
    return made[0], made[1]


def _queries(draft: Draft, verdict: str) -> tuple[str, ...]:
    return tuple(hop.queries[int(digit)] for hop, digit in zip(draft.hops, verdict, strict=True))


def _row(name: str, number: int, draft: Draft, queries: tuple[str, ...]) -> dict[str, Any]:
    answers = {normalize(answer): answer for answer in reversed(draft.answers)}
    return {
        "id": f"{name}-{number:04d}",
        "question": draft.text,
        "golden_answers": list(reversed(answers.values())),
        "data_source": name,
        "split": "test",
        "metadata": {
            "type": "entity_attribute_lookup" if draft.kind == "lookup" else "multi_hop_reasoning",
            "kind": draft.kind,
            "hops": len(draft.hops),
            "supporting": [hop.passage for hop in draft.hops],
            "queries": list(queries),
            "name_queries": [hop.queries[-1] for hop in draft.hops],
            "bridges": [hop.finds for hop in draft.hops],
            "path": list(draft.path),
        },
    }


def _digest(library: Library) -> str:
    digest = hashlib.sha256()
    for passage in library.passages:
        digest.update(f"{passage.id}\n{passage.contents}\n".encode())
    return digest.hexdigest()


@lru_cache(maxsize=1)
def open_data(*, is_twin: bool) -> FilmData:
    """Return a data set out of the cache, made at the first time; shared within the process."""
    return open_or_make("search_qa", f"films-{_RELEASE}", _open, make_data, _save, what="films")[is_twin]


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def _save(both: tuple[FilmData, FilmData], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in zip(("films", "films_twin"), both, strict=True):
        source = folder / f"{name}.jsonl"
        source.write_text(_lines([{"id": p.id, "contents": p.contents} for p in data.passages]), encoding="utf-8")
        import_corpus(source, folder / name)
        source.unlink()
        content = {"rows": data.rows, "yields": data.yields, "fingerprint": data.fingerprint}
        content["sha256"] = data.questions_fingerprint
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _open(folder: Path) -> tuple[FilmData, FilmData]:
    if not folder.is_dir():
        raise MissingData(f"there is no {folder}.")
    made = []
    for name in ("films", "films_twin"):
        passages = Corpus.open(folder / name)
        try:
            content = parse_json((folder / f"{name}.json").read_text(encoding="utf-8"))
            data = FilmData(passages, content["rows"], content["yields"], content["fingerprint"])
            if data.questions_fingerprint != content["sha256"]:
                raise ValueError("its questions are not what was written")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CorruptData(f"{folder} is damaged ({error}).") from error
        made.append(data)
    return made[0], made[1]
