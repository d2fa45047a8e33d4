"""Passages about films and people, with real names or invented ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdar_envs.errors import CorruptData
from sdar_envs.rng import Rng
from sdar_envs.search_qa.invented.names import Names
from sdar_envs.search_qa.invented.titles import make_titles
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["ROLES", "Film", "Library", "invented_films", "write_library"]

ROLES = ("acted in", "directed", "wrote")
"""What a person did for a film."""

_CREDITS_PER_PASSAGE = 6

_DIRECTED = (
    "It was directed by {name}.", "The director of the film is {name}.", "{name} was its director.",
)  # fmt: skip
_WRITTEN = (
    "It was written by {name}.", "{name} is named as its writer.", "The writer of the film is {name}.",
)  # fmt: skip
_MADE = (
    "It was produced by the company {name}.", "The company that produced it is {name}.",
    "Its producing company is {name}.",
)  # fmt: skip
_CREDITS = {
    "acted in": (
        "{name} acted in {films}.", "Films in which {name} acted are {films}.", "{name} was on the screen in {films}.",
    ),
    "directed": (
        "{name} directed {films}.", "As a director, {name} made {films}.", "Films directed by {name} are {films}.",
    ),
    "wrote": (
        "{name} wrote {films}.", "Films written by {name} are {films}.",
        "As a writer, {name} is named in the credits of {films}.",
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Film:
    """A film and its credits.

    Attributes:
        title: no other film of the snapshot has it.
        year: in which it came out.
        director: there is one.
        writer: empty if there is none, or more than one.
        company: that produced it; empty likewise, or if it produced many of these films.
        players: some of its cast.
        genres: some of its genres.
        languages: some of its languages.
        described_by: of the players, those who are in no other film of its year in the snapshot.
        is_only_of_year: whether its director made no other film of its year in the snapshot.
    """

    title: str
    year: int
    director: str
    writer: str
    company: str
    players: tuple[str, ...]
    genres: tuple[str, ...]
    languages: tuple[str, ...]
    described_by: tuple[str, ...]
    is_only_of_year: bool

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Film:
        """Return the film of a row.

        Raises:
            CorruptData: the row has another shape.
        """
        try:
            lists = {name: tuple(row[name]) for name in ("players", "genres", "languages", "described_by")}
            return cls(**{**row, **lists})
        except (KeyError, TypeError) as error:
            raise CorruptData(f"the films have a row of another shape ({error}): reinstall sdar-envs.") from error

    def person(self, role: str) -> str:
        """Return the director or the writer; empty if there is none."""
        return self.director if role == "directed" else self.writer


@dataclass(frozen=True, slots=True)
class Library:
    """Passages, and which passage tells what.

    Attributes:
        films: in the order of the real titles.
        passages: in their order.
        told_by_film: ids of films' passages, by the place of the film.
        told_by_person: for a person, a role and the place of a film, the id of the person's passage that tells it.
        people: for each person and role, the places of the films that passages about the person tell.
    """

    films: Sequence[Film]
    passages: Sequence[Passage]
    told_by_film: Sequence[str]
    told_by_person: Mapping[tuple[str, str, int], str]
    people: Mapping[tuple[str, str], Sequence[int]]


def invented_films(films: Sequence[Film], name: str) -> list[Film]:
    """Return the films with invented titles and names; equal names stay equal.

    Args:
        films: the real ones.
        name: the seed as text.
    """
    rng = Rng(name)
    names = Names(Rng(f"{name}/names"))
    titles = make_titles(rng, len(films))
    people = sorted({person for film in films for person in (film.director, film.writer, *film.players) if person})
    companies = sorted({film.company for film in films if film.company})
    given = [*names.words("female", 90), *names.words("male", 90)]
    families = names.words("family", 1500, twins=25)
    taken: dict[str, None] = {}
    while len(taken) < len(people):
        taken[f"{rng.choice(given)} {rng.choice(families)}"] = None
    invented = dict(zip(people, taken, strict=True))
    invented[""] = ""
    houses = dict(zip(companies, (f"{word} Pictures" for word in names.words("house", len(companies))), strict=True))
    houses[""] = ""
    return [
        replace(
            film,
            title=title,
            director=invented[film.director],
            writer=invented[film.writer],
            company=houses[film.company],
            players=tuple(invented[player] for player in film.players),
            described_by=tuple(invented[player] for player in film.described_by),
        )
        for film, title in zip(films, titles, strict=True)
    ]


def write_library(films: Sequence[Film], rng: Rng) -> Library:
    """Write the passages of films and people.

    Args:
        films: real or invented; films in corresponding places give corresponding passages.
        rng: equal draws for corresponding films.
    """
    passages: list[Passage] = []
    told_by_film = []
    credits: dict[str, dict[str, list[int]]] = {}
    for place, film in enumerate(films):
        sentences = [_opening(film, rng)]
        for role, templates in (("directed", _DIRECTED), ("wrote", _WRITTEN)):
            template, is_there = rng.choice(templates), rng.per_cent(50)
            person = film.person(role)
            if person and is_there:
                credits.setdefault(person, {}).setdefault(role, []).append(place)
            elif person:
                sentences.append(template.format(name=person))
        template = rng.choice(_MADE)
        if film.company:
            sentences.append(template.format(name=film.company))
        for player in film.players:
            credits.setdefault(player, {}).setdefault("acted in", []).append(place)
        if film.languages:
            sentences.append(f"{' and '.join(film.languages)} can be heard in it.")
        name = f"film-{place}"
        told_by_film.append(name)
        head, *rest = sentences
        passages.append(Passage(name, f'"{film.title}"\n{" ".join((head, *rng.shuffled(rest)))}'))
    told_by_person: dict[tuple[str, str, int], str] = {}
    # In the order in which films name them, which is the same in both.
    for number, (person, roles) in enumerate(credits.items()):
        lines: list[tuple[str, list[int]]] = []
        for role in ROLES:
            places = rng.shuffled(roles.get(role, []))
            lines += [(role, places[i : i + _CREDITS_PER_PASSAGE]) for i in range(0, len(places), _CREDITS_PER_PASSAGE)]
        # Two lines in a passage at most: a long career has several passages.
        for part, first in enumerate(range(0, len(lines), 2)):
            name = f"person-{number}.{part}"
            text = []
            for role, places in lines[first : first + 2]:
                listed = [f'"{films[place].title}" ({films[place].year})' for place in places]
                shown = listed[0] if len(listed) == 1 else f"{', '.join(listed[:-1])} and {listed[-1]}"
                template = rng.choice(_CREDITS[role])
                if len(listed) == 1 and template.startswith("Films"):
                    template = _CREDITS[role][0]
                text.append(template.format(name=person, films=shown))
                told_by_person.update({(person, role, place): name for place in places})
            passages.append(Passage(name, f'"{person}"\n{" ".join(text)}'))
    people = {(person, role): places for person, roles in credits.items() for role, places in roles.items()}
    return Library(films, passages, told_by_film, told_by_person, people)


def _opening(film: Film, rng: Rng) -> str:
    kinds = f", a film of the kinds {' and '.join(film.genres).lower()}" if len(film.genres) > 1 else ""
    if len(film.genres) == 1:
        kinds = f", a film of the kind {film.genres[0].lower()}"
    template = rng.choice(
        (
            '"{title}"{kinds}, came out in {year}.',
            'In {year}, "{title}"{kinds}, was first shown.',
            'The year of "{title}"{kinds}, is {year}.',
        )
    )
    shown = template.format(title=film.title, year=film.year, kinds=kinds)
    return shown if kinds else shown.replace('",', '"')
