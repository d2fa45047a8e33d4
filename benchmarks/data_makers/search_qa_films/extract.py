"""Extraction of film facts from bokeh-sampledata 2026.1, a snapshot of Wikidata under CC0 1.0.

    python -m data_makers.search_qa_films.extract [--wheels FOLDER]

Run it from a checkout, with `PYTHONPATH=benchmarks`. Kept are films with a title that no other film of the snapshot
has, one director, and one writer or one company, the most reviewed first. Of their casts only names stay that are in
several of these films. A person and a year describe a film only if the snapshot has no other such film. Scores, reviews
and dates other than the year are left out.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from data_makers.search_qa_facts.sources import Package, open_sources
from data_makers.search_qa_facts.table import rows_as_gzip, write_bytes
from sdar_envs.search_qa.films.dataset import FACTS
from sdar_envs.search_qa.scoring import normalize

__all__ = ["PACKAGE", "film_rows", "main"]

PACKAGE = Package("bokeh-sampledata", "2026.1", "f40331a40ca30c64a1c1471835aad9006b61b0d9731a3f649ee8cbbf48d3822f")
"""Where the facts come from."""

_FILMS = 4000
_MOST_PLAYERS = 8
_MOST_OF_COMPANY = 15
_QUERY = """
select omdb.Title, omdb.Year, omdb.Director, omdb.Writer, tomatoes.Production, omdb.Cast, omdb.Genre, omdb.Language
from omdb join tomatoes on omdb.ID = tomatoes.ID
order by coalesce(tomatoes.Reviews, 0) desc, omdb.ID
"""


def film_rows(database: Path) -> list[dict[str, Any]]:
    """Return the films: see `sdar_envs.search_qa.films.text.Film` for what each has."""
    connection = sqlite3.connect(database)
    found = connection.execute(_QUERY).fetchall()
    connection.close()
    titles = Counter(normalize(row[0]) for row in found)
    acted = Counter((name, row[1]) for row in found for name in _names(row[5]))
    directed = Counter((name, row[1]) for row in found for name in _names(row[2]))
    films = []
    for title, year, director, writer, company, cast, genres, languages in found:
        directors, writers, companies = _names(director), _names(writer), _names(company)
        if titles[normalize(title)] > 1 or not _is_usable(title) or len(directors) != 1 or not _is_person(directors[0]):
            continue
        single = writers[0] if len(writers) == 1 and _is_person(writers[0]) and writers != directors else ""
        made = companies[0] if len(companies) == 1 and _is_usable(companies[0]) else ""
        if not (single or made):
            continue
        films.append(
            {
                "title": title,
                "year": year,
                "director": directors[0],
                "writer": single,
                "company": made,
                "players": [name for name in _names(cast) if _is_person(name)],
                "genres": _names(genres)[:3],
                "languages": _names(languages)[:2],
                "described_by": [],
                "is_only_of_year": directed[directors[0], year] == 1,
            }
        )
    films = films[:_FILMS]
    credits = Counter(name for film in films for name in film["players"])
    made_by = Counter(film["company"] for film in films)
    for film in films:
        known = sorted(film["players"], key=lambda name: (-credits[name], name))
        film["players"] = sorted([name for name in known if credits[name] > 1][:_MOST_PLAYERS])
        film["described_by"] = [name for name in film["players"] if acted[name, film["year"]] == 1]
        if made_by[film["company"]] > _MOST_OF_COMPANY:
            film["company"] = ""
    return sorted(films, key=lambda film: film["title"])


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _is_usable(title: str) -> bool:
    return (
        4 <= len(title) <= 60
        and not set('"()') & set(title)
        and sum(c.isalpha() for c in title) >= 4
        and title.isprintable()
    )


def _is_person(name: str) -> bool:
    return " " in name and _is_usable(name) and not any(c.isdigit() for c in name)


@contextmanager
def _database(folder: Path) -> Iterator[Path]:
    wheel = open_sources(folder, {"films": PACKAGE})["films"]
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(wheel.extract("bokeh_sampledata/_data/movies.db", temporary))


def main() -> None:
    """Write the file and print what is in it."""
    parser = argparse.ArgumentParser(prog="python -m data_makers.search_qa_films.extract", description=__doc__)
    parser.add_argument("--wheels", type=Path, default=Path("wheels"), metavar="FOLDER", help="where wheels are kept")
    arguments = parser.parse_args()
    arguments.wheels.mkdir(parents=True, exist_ok=True)
    with _database(arguments.wheels) as database:
        rows = film_rows(database)
    content = rows_as_gzip(rows)
    write_bytes(Path(str(FACTS)), content)
    people = {name for row in rows for name in (row["director"], row["writer"], *row["players"]) if name}
    print(f"{len(rows)} films, {len(people)} people, {len(content)} bytes")


if __name__ == "__main__":
    main()
