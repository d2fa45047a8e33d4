"""Passages of the invented world: each states five to eight facts about one entity, which its title names.

A relational fact stands in one passage only: about its subject, or, in other words, about its object. An author of
several works has one more passage, which lists them; no other says who wrote them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sdar_envs.rng import Rng
from sdar_envs.search_qa.invented.relations import RELATIONS
from sdar_envs.search_qa.invented.world import Entity, Fact, World
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["Text", "with_article", "write_passages"]

_FACTS_PER_PASSAGE = 6
_GENERIC = {
    "town": "the town", "region": "the region", "river": "river", "mountain": "the mountain",
    "organisation": "institution", "work": "the book", "event": "event",
}  # fmt: skip
_NAMES = re.compile(r"\{[Ssh]\}")
_TAKES_ARTICLE = frozenset({"organisation", "river", "event"})


@dataclass(slots=True)
class Text:
    """Passages and what they name.

    Attributes:
        passages: in their order.
        named: for each entity's id, the ids of the passages that name it.
    """

    passages: list[Passage]
    named: dict[str, set[str]]


def with_article(entity: Entity) -> str:
    """Return an entity's name as it stands in a question."""
    if entity.kind in _TAKES_ARTICLE:
        return f"the {entity.name}"
    return f'"{entity.name}"' if entity.kind == "work" else entity.name


def write_passages(world: World, name: str, at_object: int) -> Text:
    """Write the passages of a world, and note in each fact which one states it.

    Args:
        world: its facts are changed.
        name: the seed as text.
        at_object: so many of a hundred relational facts are stated about their object.
    """
    rng = Rng(f"{name}/passages")
    about: dict[str, list[tuple[Fact, bool]]] = {entity.id: [] for entity in world.entities}
    for fact in world.facts:
        if fact.relation == "work.author" and fact.object is not None and fact.object.id in world.listed:
            continue
        there = fact.object is not None and rng.per_cent(at_object)
        place = fact.object if there and fact.object is not None else fact.subject
        about[place.id].append((fact, there))
    text = Text([], {entity.id: set() for entity in world.entities})
    for entity in world.entities:
        facts = rng.shuffled(about[entity.id])
        count = max(1, (len(facts) + _FACTS_PER_PASSAGE // 2) // _FACTS_PER_PASSAGE)
        for number in range(count):
            part = facts[number * len(facts) // count : (number + 1) * len(facts) // count]
            _write(text, f"{entity.id}.{number}", entity, part, rng)
        if entity.id in world.listed:
            _write_list(text, world, entity, rng)
    return text


def _write(text: Text, name: str, entity: Entity, facts: list[tuple[Fact, bool]], rng: Rng) -> None:
    text.named[entity.id].add(name)
    sentences = []
    for number, (fact, is_there) in enumerate(facts):
        relation = RELATIONS[fact.relation]
        templates = relation.stated_there if is_there else relation.stated
        is_named = number % 3 == 0  # the first sentence always
        if is_named:
            templates = tuple(template for template in templates if _NAMES.search(template))
        other = fact.subject if is_there else fact.object
        template = rng.choice(templates)
        sentences.append(_sentence(template, entity, _shown(other, fact), is_named=is_named, fact=fact))
        fact.passage = name
        if other is not None:
            text.named[other.id].add(name)
    text.passages.append(Passage(name, f'"{entity.name}"\n{" ".join(sentences)}'))


def _write_list(text: Text, world: World, author: Entity, rng: Rng) -> None:
    name = f"{author.id}.works"
    facts = [fact for fact in world.by_object[author.id] if fact.relation == "work.author"]
    facts.sort(key=lambda fact: fact.subject.name)
    for fact in facts:
        fact.passage = name
        text.named[fact.subject.id].add(name)
    text.named[author.id].add(name)
    titles = [f'"{fact.subject.name}"' for fact in facts]
    head = rng.choice(
        (
            "The complete list of the works of {name}, in the order of the alphabet:",
            "These are all the works that {name} wrote, in the order of the alphabet:",
            "In the order of the alphabet, the author {name} wrote:",
        )
    ).format(name=author.name)
    tail = "There are no other works. Years and publishers are not given in this list, which was made for a catalogue."
    listed = f"{', '.join(titles[:-1])} and {titles[-1]}"
    text.passages.append(Passage(name, f'"Works of {author.name}"\n{head} {listed}. {tail}'))


def _shown(other: Entity | None, fact: Fact) -> str:
    if other is None:
        return fact.value
    return f'"{other.name}"' if other.kind == "work" else other.name


def _sentence(template: str, entity: Entity, other: str, *, is_named: bool, fact: Fact) -> str:
    if is_named or entity.kind not in _GENERIC:
        own = f'"{entity.name}"' if entity.kind == "work" else entity.name
        inside = oblique = own
    else:
        inside = oblique = _GENERIC[entity.kind]
    if entity.kind == "person" and not is_named:
        inside, oblique = ("she", "her") if entity.is_female else ("he", "him")
    elif entity.kind in _TAKES_ARTICLE:
        oblique = f"the {inside}"
    owner = "its"
    if entity.kind == "person":
        owner = "her" if entity.is_female else "his"
    begin = f"The {inside}" if entity.kind in _TAKES_ARTICLE else _capital(inside)
    first, last = fact.years or (0, 0)
    if other[:1] in "aeio":
        template = template.replace(" a {o}", " an {o}")
    return template.format(S=begin, s=inside, h=oblique, p=owner, o=other, O=_capital(other), a=first, b=last)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
