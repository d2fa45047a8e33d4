"""Films and their twin: one graph under two sets of names, positive facts only."""

from __future__ import annotations

import re
from collections import Counter

import pytest

import sdar_envs
from sdar_envs.errors import CorruptData
from sdar_envs.rng import Rng
from sdar_envs.search_qa.embedded import read_rows
from sdar_envs.search_qa.films import dataset
from sdar_envs.search_qa.films.text import Film, invented_films, write_library
from sdar_envs.search_qa.invented.names import GRAMMAR, refused_words
from sdar_envs.search_qa.scoring import normalize


@pytest.fixture(scope="module")
def films():
    return [Film.from_row(row) for row in read_rows(dataset.FACTS)[1]]


@pytest.fixture(scope="module")
def both():
    return dataset.open_data(is_twin=False), dataset.open_data(is_twin=True)


def test_films_have_one_director_and_a_title_of_their_own(films):
    assert len(films) == 4000
    assert max(Counter(normalize(film.title) for film in films).values()) == 1
    assert all(film.director and "," not in film.director for film in films)
    assert max(Counter(film.company for film in films if film.company).values()) <= 15
    assert all(1940 <= film.year <= 2014 for film in films)
    assert all(set(film.described_by) <= set(film.players) for film in films)


def test_a_person_and_a_year_are_one_film(films):
    described = Counter((player, film.year) for film in films for player in film.described_by)
    assert max(described.values()) == 1
    played = Counter((player, film.year) for film in films for player in film.players)
    assert all(played[pair] == 1 for pair in described)
    directed = Counter((film.director, film.year) for film in films if film.is_only_of_year)
    assert max(directed.values()) == 1


def test_the_twin_has_the_same_graph_and_no_name_of_it(films):
    twin = invented_films(films, "films/1/twin")
    names = {}
    for film, other in zip(films, twin, strict=True):
        assert (film.year, film.genres, film.is_only_of_year) == (other.year, other.genres, other.is_only_of_year)
        real = (film.director, film.writer, *film.players, *film.described_by)
        made = (other.director, other.writer, *other.players, *other.described_by)
        for name, invented in zip(real, made, strict=True):
            assert names.setdefault(name, invented) == invented
    assert len(set(names.values())) == len(names)
    words = {word.lower() for name in names.values() for word in name.split()}
    assert all(GRAMMAR.fullmatch(word) for word in words)
    assert not words & refused_words()
    assert not {film.title for film in films} & {film.title for film in twin}


def test_passages_correspond_and_claim_nothing_of_completeness(films):
    libraries = [write_library(of, Rng("x")) for of in (films, invented_films(films, "films/1/twin"))]
    ids = [[passage.id for passage in library.passages] for library in libraries]
    assert ids[0] == ids[1]
    assert libraries[0].told_by_person.keys() != libraries[1].told_by_person.keys()
    titles = {film.title for film in films}
    odd = re.compile(r"\b(only|first film|never|most|best|award|rated|score)\b", re.IGNORECASE)
    for passage in libraries[1].passages:
        assert not odd.search(passage.text), passage
        assert not titles & set(re.findall(r'"([^"]+)"', passage.text))


@pytest.mark.slow
def test_both_have_the_same_questions_in_other_names(both):
    real, twin = both
    assert len(real.rows) == len(twin.rows) == sum(dataset._WANTED.values())
    for first, second in zip(real.rows, twin.rows, strict=True):
        for name in ("kind", "hops", "path", "supporting", "type"):
            assert first["metadata"][name] == second["metadata"][name]
        assert first["golden_answers"] != second["golden_answers"]
    assert real.yields == twin.yields


@pytest.mark.slow
def test_every_hop_is_stated_by_its_passage(both):
    for data in both:
        contents = {passage.id: passage.contents for passage in data.passages}
        for row in data.rows:
            about = row["metadata"]
            for passage, bridge in zip(about["supporting"], about["bridges"], strict=True):
                assert bridge in contents[passage], row
            assert about["bridges"][-1] == row["golden_answers"][0]
            assert not any(normalize(answer) in normalize(row["question"]) for answer in row["golden_answers"])


@pytest.mark.slow
def test_the_oracle_plays_both():
    for corpus in ("films", "films_twin"):
        env = sdar_envs.make_text_env("sdar/SearchQA-v0", corpus=corpus, split="test")
        assert env.max_steps == 6
        for number in range(6):
            observation, info = env.reset(options={"task_id": f"search_qa/{corpus}/test/{number:04d}"})
            assert observation.endswith("\nTurns: 6.")
            while plan := env.oracle_plan():
                *_, info = env.step(plan[0])
            assert info["won"]


def test_a_row_of_another_shape_is_refused():
    with pytest.raises(CorruptData, match="another shape"):
        Film.from_row({"title": "A"})
