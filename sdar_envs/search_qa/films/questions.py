"""Drafts of questions about films: lookups and chains of two to four passages."""

from __future__ import annotations

from collections.abc import Iterator

from sdar_envs.rng import Rng
from sdar_envs.search_qa.films.text import Library
from sdar_envs.search_qa.invented.drafts import Draft, Hop
from sdar_envs.search_qa.scoring import normalize

__all__ = ["FilmDrafts"]

_ASKS = {
    "director": ("Who directed {x}?", "Who was the director of {x}?"),
    "writer": ("Who wrote {x}?", "Who is named as the writer of {x}?"),
    "company": ("Which company produced {x}?", "What is the company that produced {x}?"),
}
_PHRASES = {"acted in": "the {year} film with {x}", "directed": "the {year} film directed by {x}"}
_WORDS = {"acted in": "acted film", "directed": "directed film", "wrote": "wrote written film"}
# Of older films the snapshot has too few to tell whether a person and a year are one film.
_FIRST_DESCRIBED = 1970
_ROLE_OF = {"director": "directed", "writer": "wrote"}
_FILM_WORDS = {"director": "director directed", "writer": "writer written", "company": "company produced"}


class FilmDrafts:
    """Maker of drafts about a library; corresponding libraries give corresponding drafts, one by one.

    Args:
        library: passages and what they tell.
        name: the seed as text.
    """

    def __init__(self, library: Library, name: str) -> None:
        self._library = library
        self._name = name
        self._credits = [
            (person, role, place)
            for (person, role), places in library.people.items()
            if role in _PHRASES
            for place in places
            if self._is_described(person, role, place)
        ]
        self._directed: dict[str, list[int]] = {}
        for person, role, place in self._credits:
            if role == "directed":
                self._directed.setdefault(person, []).append(place)

    def _is_described(self, person: str, role: str, place: int) -> bool:
        """Return whether the person and the year tell the film from all others."""
        film = self._library.films[place]
        if film.year < _FIRST_DESCRIBED:
            return False
        return film.is_only_of_year if role == "directed" else person in film.described_by

    def of_kind(self, kind: str) -> Iterator[Draft | None]:
        """Yield drafts of a kind without end; None for a draw that gives none."""
        rng = Rng(f"{self._name}/{kind}")
        hops = 1 if kind == "lookup" else int(kind[-1])
        seen: set[str] = set()
        while True:
            draft = self._draft(rng, kind, hops)
            if draft is not None:
                if draft.text in seen or not _is_sound(draft):
                    draft = None
                else:
                    seen.add(draft.text)
            yield draft

    def _draft(self, rng: Rng, kind: str, hops: int) -> Draft | None:
        films = self._library.films
        # As many draws each time, whether or not a draft comes of them.
        place, credit, further, ask = rng.below(len(films)), rng.choice(self._credits), rng.share(), rng.share()
        steps: list[Hop] = []
        path: list[str] = []
        if hops == 1:
            phrase, name = f'"{films[place].title}" ({films[place].year})', films[place].title
        elif hops in (2, 4):
            person, role, place = credit
            phrase, name = _PHRASES[role].format(year=films[place].year, x=person), person
            steps.append(self._to_film(person, role, place))
            path.append(f"~{role}")
        else:
            phrase, name = f'"{films[place].title}" ({films[place].year})', films[place].title
        if hops > 2:
            director = films[place].director
            others = [other for other in self._directed.get(director, ()) if other != place]
            if not others:
                return None
            other = others[int(further * len(others))]
            steps.append(self._to_person(place, "director"))
            steps.append(self._to_film(director, "directed", other))
            phrase = f"the {films[other].year} film directed by the director of {phrase}"
            path += ["director", "~directed"]
            place = other
        film = films[place]
        asks = [
            (name, answer)
            for name, answer in (("director", film.director), ("writer", film.writer), ("company", film.company))
            if answer and not (name == "director" and path[-1:] == ["~directed"])
        ]
        if not asks:
            return None
        asked, answer = asks[int(ask * len(asks))]
        steps.append(self._to_person(place, asked))
        path.append(asked)
        text = _ASKS[asked][rng.below(2)].format(x=phrase)
        return Draft(kind, text, (answer,), tuple(steps), tuple(path), (name,))

    def _to_film(self, person: str, role: str, place: int) -> Hop:
        film = self._library.films[place]
        queries = (f"{person} {_WORDS[role]} {film.year}", f"{person} {film.year}", person)
        return Hop(self._library.told_by_person[person, role, place], queries, film.title)

    def _to_person(self, place: int, asked: str) -> Hop:
        """Return the hop from a film to its director, writer or company, by whichever passage tells it."""
        film = self._library.films[place]
        found = {"director": film.director, "writer": film.writer, "company": film.company}[asked]
        passage = self._library.told_by_person.get(
            (found, _ROLE_OF.get(asked, ""), place), self._library.told_by_film[place]
        )
        return Hop(passage, (f"{film.title} {_FILM_WORDS[asked]}", f"{film.title} film", film.title), found)


def _is_sound(draft: Draft) -> bool:
    passages = [hop.passage for hop in draft.hops]
    asked = f" {normalize(draft.text)} "
    return len(set(passages)) == len(passages) and not any(f" {normalize(a)} " in asked for a in draft.answers)
