"""Drafts of questions over an invented world, before any search: what is asked, and from which passages it follows.

A chain goes from a named entity from fact to fact. The passages of its facts differ; no passage names two entities of
the chain that are not neighbours, so none leads past a hop. Inverse steps ("the book dedicated to X") are taken only
where the world has exactly one. A draft says for each hop how it could be searched for: by the known entity's name with
words of either side's wording, and by the name alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from sdar_envs.rng import Rng
from sdar_envs.search_qa.invented.passages import Text, with_article
from sdar_envs.search_qa.invented.relations import RELATIONS, Relation
from sdar_envs.search_qa.invented.world import MONTHS, Entity, Fact, World
from sdar_envs.search_qa.scoring import normalize

__all__ = ["KINDS", "TYPES", "Draft", "Drafts", "Hop"]

TYPES = MappingProxyType(
    {
        "lookup": "entity_attribute_lookup",
        "described lookup": "direct_retrieval",
        "chain of 2": "multi_hop_reasoning",
        "chain of 3": "multi_hop_reasoning",
        "chain of 4": "multi_hop_reasoning",
        "described chain": "multi_hop_reasoning",
        "bridged comparison": "compare",
        "which of several": "compare",
        "first or last work": "multi_hop_reasoning",
        "count": "multi_hop_reasoning",
        "intersection": "multi_hop_reasoning",
        "years between": "multi_hop_reasoning",
    }
)
"""Task type of each kind of question."""

KINDS = tuple(TYPES)
"""Kinds of questions."""

_TRIES = 60
_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven")
_FROM_LISTED = "work.author"
# Superlatives of numbers: what is compared, the larger and the smaller.
_COMPARED = MappingProxyType(
    {
        "town.population": ("has the largest population", "has the smallest population"),
        "town.elevation": ("lies highest above the sea", "lies lowest above the sea"),
        "mountain.height": ("is the highest", "is the lowest"),
        "river.length": ("is the longest", "is the shortest"),
        "organisation.members": ("has the most members", "has the fewest members"),
        "organisation.founded": ("was founded last", "was founded first"),
        "work.pages": ("has the most pages", "has the fewest pages"),
        "work.year": ("came out last", "came out first"),
        "person.born": ("was born last", "was born first"),
        "event.visitors": ("had the most visitors", "had the fewest visitors"),
    }
)
_PLURALS = MappingProxyType(
    {
        "town": "towns", "mountain": "mountains", "river": "rivers", "organisation": "institutions", "work": "books",
        "person": "people", "event": "events",
    }
)  # fmt: skip
_BRIDGED = MappingProxyType(
    {
        "person.born": ("Who was born last", "Who was born first"),
        "town.population": ("Which town has the largest population", "Which town has the smallest population"),
        "town.charter": ("Which town received its charter last", "Which town received its charter first"),
    }
)
_NOUNS = MappingProxyType({"person": "person", "work": "book", "event": "event"})


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of a question.

    Attributes:
        passage: id of the passage that it needs.
        queries: how it could be searched for, the likeliest first; the last is the name alone.
        finds: what the passage is read for.
    """

    passage: str
    queries: tuple[str, ...]
    finds: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A question that was not searched for yet.

    Attributes:
        kind: one of `KINDS`.
        text: the question.
        answers: golden answers.
        hops: in their order.
        path: the steps, as relations; `~` before one that is taken from object to subject.
        names: the entities that the question names.
    """

    kind: str
    text: str
    answers: tuple[str, ...]
    hops: tuple[Hop, ...]
    path: tuple[str, ...]
    names: tuple[str, ...]

    def row(self, name: str, data_set: str, split: str, queries: Sequence[str]) -> dict[str, Any]:
        """Return the row of a data set that asks the question.

        Args:
            name: id of the question.
            data_set: its name.
            split: to which the row belongs.
            queries: for each hop, one that finds its passage.
        """
        answers: dict[str, str] = {}
        for answer in self.answers:
            answers.setdefault(normalize(answer), answer)
        return {
            "id": name,
            "question": self.text,
            "golden_answers": list(answers.values()),
            "data_source": data_set,
            "split": split,
            "metadata": {
                "type": TYPES[self.kind],
                "kind": self.kind,
                "hops": len(self.hops),
                "supporting": [hop.passage for hop in self.hops],
                "queries": list(queries),
                "name_queries": [hop.queries[-1] for hop in self.hops],
                "bridges": [hop.finds for hop in self.hops],
                "path": list(self.path),
            },
        }


@dataclass(frozen=True, slots=True)
class _Step:
    """A fact, taken from one of its ends to the other."""

    fact: Fact
    start: Entity
    end: Entity | None
    is_inverse: bool = False
    year: int = 0

    @property
    def relation(self) -> Relation:
        return RELATIONS[self.fact.relation]

    @property
    def name(self) -> str:
        return f"~{self.fact.relation}" if self.is_inverse else self.fact.relation

    def phrase(self, x: str) -> str:
        """Return a noun phrase for the end of the step."""
        if self.year:
            return f"the person who in {self.year} was the director of {x}"
        return self.relation.inverse.format(x=x) if self.is_inverse else f"the {self.relation.noun} of {x}"

    def hop(self) -> Hop:
        """Return the hop that takes this step."""
        relation, name = self.relation, self.start.name
        words = (relation.inverse_words if self.is_inverse else relation.words, relation.words_there)
        queries = [f"{name} {word}" for word in words if word]
        return Hop(self.fact.passage, (*dict.fromkeys(queries), name), self.found())

    def found(self) -> str:
        return self.fact.value if self.end is None else self.end.name

    def answers(self) -> tuple[str, ...]:
        return _value_answers(self.fact, self.relation) if self.end is None else entity_answers(self.end)


def entity_answers(entity: Entity) -> tuple[str, ...]:
    """Return the golden answers for an entity: its name and its other names."""
    return (entity.name, *entity.aliases)


def _value_answers(fact: Fact, relation: Relation) -> tuple[str, ...]:
    if relation.target == "date":
        year, month, day = fact.number // 10_000, fact.number // 100 % 100, fact.number % 100
        return (fact.value, f"{MONTHS[month - 1]} {day}, {year}")
    if relation.target == "number":
        return (fact.value, *(f"{fact.value} {unit}" for unit in relation.unit))
    return (fact.value,)


@dataclass(slots=True)
class Drafts:
    """Maker of drafts.

    Args:
        world: with the passages of its facts.
        text: the passages.
        name: the seed as text.
        most_hops: no question has more.
    """

    world: World
    text: Text
    name: str
    most_hops: int
    _people: list[Entity] = field(init=False)
    _described: dict[tuple[str, int], list[Entity]] = field(init=False)
    _numbers: dict[str, list[Fact]] = field(init=False)
    _listed: list[Entity] = field(init=False)
    _linked: list[Fact] = field(init=False)

    def __post_init__(self) -> None:
        self._people = self.world.of_kind("person")
        self._described = {}
        for person in self._people:
            occupation = self.world.fact(person, "occupation")
            if occupation is not None:
                self._described.setdefault((occupation.value, person.born), []).append(person)
        self._numbers = {}
        for fact in self.world.facts:
            self._numbers.setdefault(fact.relation, []).append(fact)
        self._listed = [person for person in self._people if person.id in self.world.listed]
        self._linked = [fact for fact in self.world.facts if RELATIONS[fact.relation].clause]

    def of_kind(self, kind: str) -> Iterator[Draft]:
        """Yield drafts of a kind without end, each question once."""
        make: Callable[[Rng], Draft | None] = {
            "lookup": self._lookup,
            "described lookup": self._described_lookup,
            "chain of 2": lambda rng: self._chain(rng, 2),
            "chain of 3": lambda rng: self._chain(rng, 3),
            "chain of 4": lambda rng: self._chain(rng, 4),
            "described chain": self._described_chain,
            "bridged comparison": self._bridged,
            "which of several": self._which,
            "first or last work": self._first_work,
            "count": self._count,
            "intersection": self._intersection,
            "years between": self._years_between,
        }[kind]
        rng = Rng(f"{self.name}/questions/{kind}")
        seen: set[str] = set()
        while True:
            draft = make(rng)
            if draft is not None and draft.text not in seen and self._is_sound(draft):
                seen.add(draft.text)
                yield draft

    def _is_sound(self, draft: Draft) -> bool:
        """Return whether the hops differ and are not too many, and the question does not give the answer away."""
        passages = [hop.passage for hop in draft.hops]
        if len(set(passages)) != len(passages) or len(passages) > self.most_hops:
            return False
        if draft.kind == "which of several":
            return True
        asked = f" {normalize(draft.text)} "
        return not any(f" {normalize(answer)} " in asked for answer in draft.answers)

    # -- steps ------------------------------------------------------------------------------

    def _steps(self, entity: Entity, *, is_last: bool) -> list[_Step]:
        """Return the steps from an entity that have one answer."""
        steps = []
        for fact in self.world.by_subject[entity.id]:
            relation = RELATIONS[fact.relation]
            if fact.years is None and (fact.object is not None or (is_last and relation.is_answer)):
                steps.append(_Step(fact, entity, fact.object))
        by_relation: dict[str, list[Fact]] = {}
        for fact in self.world.by_object[entity.id]:
            by_relation.setdefault(fact.relation, []).append(fact)
        for name, facts in by_relation.items():
            if name == "person.spouse":
                steps.append(_Step(facts[0], entity, facts[0].subject))
            elif len(facts) == 1 and RELATIONS[name].inverse:
                steps.append(_Step(facts[0], entity, facts[0].subject, is_inverse=True))
        return steps

    def _walk(self, rng: Rng, start: Entity, hops: int, first: _Step | None = None) -> list[_Step] | None:
        """Return a chain of steps from an entity, whose passages lead one by one."""
        steps = [] if first is None else [first]
        entity: Entity | None = start if first is None else first.end
        visited = [start] if entity is start or entity is None else [start, entity]
        while len(steps) < hops:
            if entity is None:
                return None
            options = self._steps(entity, is_last=len(steps) == hops - 1)
            options = [step for step in options if step.end is None or step.end not in visited]
            if not options:
                return None
            step = rng.choice(options)
            steps.append(step)
            entity = step.end
            if entity is not None:
                visited.append(entity)
        return steps if self._is_connected(visited, steps) else None

    def _is_connected(self, entities: Sequence[Entity], steps: Sequence[_Step]) -> bool:
        """Return whether no passage names two entities of a chain that are not neighbours."""
        named = [self.text.named[entity.id] for entity in entities]
        if any(named[i] & named[j] for i in range(len(named)) for j in range(i + 2, len(named))):
            return False
        # The passage of a value is about its entity; it must not name an earlier one.
        last = steps[-1]
        return last.end is not None or not any(last.fact.passage in of for of in named[:-1])

    # -- kinds ------------------------------------------------------------------------------

    def _lookup(self, rng: Rng) -> Draft | None:
        entity = rng.choice(self.world.entities)
        timed = [fact for fact in self.world.by_subject[entity.id] if fact.years is not None]
        if timed and rng.per_cent(60):
            step = _timed(rng, rng.choice(timed))
            asks: Sequence[str] = step.relation.asks
        else:
            options = self._steps(entity, is_last=True)
            if not options:
                return None
            step = rng.choice(options)
            asks = _asks(step)
        text = rng.choice(asks).format(x=with_article(entity), y=step.year)
        return Draft("lookup", text, step.answers(), (step.hop(),), (step.name,), (entity.name,))

    def _chain(self, rng: Rng, hops: int) -> Draft | None:
        entity = rng.choice(self.world.entities)
        timed = [fact for fact in self.world.by_subject[entity.id] if fact.years is not None]
        first = _timed(rng, rng.choice(timed)) if timed and rng.per_cent(25) else None
        steps = self._walk(rng, entity, hops, first)
        if steps is None:
            return None
        return _chained(rng, f"chain of {hops}", with_article(entity), steps, names=(entity.name,))

    def _description(self, rng: Rng) -> tuple[Entity, Fact, str, str] | None:
        """Return a person whom one passage describes, a fact of it, the description, and what finds it."""
        person = rng.choice(self._people)
        occupation, born = self.world.fact(person, "occupation"), self.world.fact(person, "born")
        if occupation is None or born is None or occupation.passage != born.passage:
            return None
        if len(self._described[occupation.value, person.born]) > 1:
            return None
        place = self.world.fact(person, "birthplace")
        if place is not None and place.object is not None and place.passage == born.passage and rng.per_cent(70):
            town = place.object.name
            phrase = f"the {occupation.value} born in {town} in {person.born}"
            return person, occupation, phrase, f"{occupation.value} born {town} {person.born}"
        return (
            person,
            occupation,
            f"the {occupation.value} born in {person.born}",
            f"{occupation.value} born {person.born}",
        )

    def _described_lookup(self, rng: Rng) -> Draft | None:
        found = self._description(rng)
        if found is None:
            return None
        person, occupation, phrase, query = found
        options = [
            step
            for step in self._steps(person, is_last=True)
            if step.fact.passage == occupation.passage
            and step.fact.relation not in ("person.born", "person.birthplace")
        ]
        if not options:
            return None
        step = rng.choice(options)
        queries = (query, f"{query} {step.hop().queries[0].removeprefix(person.name).strip()}")
        hop = Hop(step.fact.passage, queries, step.found())
        text = rng.choice(_asks(step)).format(x=phrase)
        return Draft("described lookup", text, step.answers(), (hop,), ("person.description", step.name), ())

    def _described_chain(self, rng: Rng) -> Draft | None:
        found = self._description(rng)
        if found is None:
            return None
        person, occupation, phrase, query = found
        steps = self._walk(rng, person, 2)
        if steps is None:
            return None
        hop = Hop(occupation.passage, (query,), person.name)
        return _chained(rng, "described chain", phrase, steps, before=(hop,))

    def _bridged(self, rng: Rng) -> Draft | None:
        relation = rng.choice(list(_BRIDGED))
        kind = relation.partition(".")[0]
        branches: list[tuple[_Step, Fact]] = []
        for _ in range(_TRIES):
            fact = rng.choice(self.world.facts)
            if fact.object is None or fact.object.kind != kind or fact.years or fact.subject.kind == kind:
                continue
            compared = self.world.fact(fact.object, relation.partition(".")[2])
            if compared is None or compared.passage in self.text.named[fact.subject.id]:
                continue
            branches.append((_Step(fact, fact.subject, fact.object), compared))
            if len(branches) == 3:
                break
        if len(branches) < 3 or len({step.end.id for step, _ in branches if step.end is not None}) < 3:
            return None
        years = [_compared_number(compared) for _, compared in branches]
        if len(set(years)) < 3:
            return None
        is_most = rng.per_cent(50)
        best = years.index(max(years) if is_most else min(years))
        phrases = [step.phrase(with_article(step.start)) for step, _ in branches]
        text = f"{_BRIDGED[relation][0 if is_most else 1]}: {phrases[0]}, {phrases[1]} or {phrases[2]}?"
        hops = []
        for step, compared in branches:
            assert step.end is not None
            hops += [step.hop(), _Step(compared, step.end, None).hop()]
        path = [name for step, compared in branches for name in (step.name, compared.relation)]
        names = tuple(step.start.name for step, _ in branches)
        return Draft("bridged comparison", text, branches[best][0].answers(), tuple(hops), tuple(path), names)

    def _which(self, rng: Rng) -> Draft | None:
        relation = rng.choice(list(_COMPARED))
        facts = [rng.choice(self._numbers[relation]) for _ in range(rng.between(4, 5))]
        numbers = [_compared_number(fact) for fact in facts]
        if len(set(numbers)) < len(facts):
            return None
        is_most = rng.per_cent(50)
        best = facts[numbers.index(max(numbers) if is_most else min(numbers))]
        names = [with_article(fact.subject) for fact in facts]
        kind = facts[0].subject.kind
        text = (
            f"Which of these {_PLURALS[kind]} {_COMPARED[relation][0 if is_most else 1]}: "
            f"{', '.join(names[:-1])} or {names[-1]}?"
        )
        hops = tuple(_Step(fact, fact.subject, None).hop() for fact in facts)
        path = (relation,) * len(facts)
        return Draft(
            "which of several", text, entity_answers(best.subject), hops, path, tuple(f.subject.name for f in facts)
        )

    def _list(self, rng: Rng) -> tuple[Entity, Hop, list[Fact], list[Hop]] | None:
        """Return an author, the hop to the list of works, the facts of their years, and the hops to these."""
        if not self._listed:
            return None
        author = rng.choice(self._listed)
        works = [fact.subject for fact in self.world.by_object[author.id] if fact.relation == _FROM_LISTED]
        works.sort(key=lambda work: work.name)
        years = [fact for work in works if (fact := self.world.fact(work, "year")) is not None]
        listed = ", ".join(work.name for work in works)
        head = Hop(f"{author.id}.works", (f"{author.name} works list", f"works of {author.name}", author.name), listed)
        return author, head, years, [_Step(fact, fact.subject, None).hop() for fact in years]

    def _first_work(self, rng: Rng) -> Draft | None:
        found = self._list(rng)
        if found is None:
            return None
        author, head, years, hops = found
        is_last = rng.per_cent(50)
        ordered = sorted(years, key=lambda fact: fact.number)
        work = (ordered[-1] if is_last else ordered[0]).subject
        options = [s for s in self._steps(work, is_last=True) if s.name not in (_FROM_LISTED, "work.year")]
        if not options:
            return None
        step = rng.choice(options)
        known = {hop.passage for hop in hops}
        if step.fact.passage not in known:
            hops = [*hops, step.hop()]
        phrase = f"the {'latest' if is_last else 'earliest'} of the books by {author.name}"
        text = rng.choice(_asks(step)).format(x=phrase)
        path = ("~work.author", "work.year", step.name)
        return Draft("first or last work", text, step.answers(), (head, *hops), path, (author.name,))

    def _count(self, rng: Rng) -> Draft | None:
        found = self._list(rng)
        if found is None:
            return None
        author, head, years, hops = found
        numbers = sorted(fact.number for fact in years)
        place = rng.between(1, len(numbers) - 1)
        low, high = numbers[place - 1], numbers[place]
        if high - low < 2:
            return None
        year = rng.between(low + 1, high - 1)
        is_before = rng.per_cent(50)
        count = place if is_before else len(numbers) - place
        text = f"How many of the books by {author.name} came out {'before' if is_before else 'after'} {year}?"
        path = ("~work.author", "work.year", "count")
        return Draft("count", text, (str(count), _WORDS[count]), (head, *hops), path, (author.name,))

    def _intersection(self, rng: Rng) -> Draft | None:
        first = rng.choice(self._linked)
        others = [
            fact
            for fact in self.world.by_subject[first.subject.id]
            if RELATIONS[fact.relation].clause and fact is not first and fact.passage != first.passage
        ]
        if not others:
            return None
        second = rng.choice(others)
        if first.object is None or second.object is None or first.object is second.object:
            return None
        matches = [self._subjects(fact) for fact in (first, second)]
        if matches[0] & matches[1] != {first.subject.id} or min(map(len, matches)) < 2:
            return None
        clauses = [RELATIONS[f.relation].clause.format(o=with_article(f.object)) for f in (first, second) if f.object]
        text = f"Which {_NOUNS[first.subject.kind]} {clauses[0]} and {clauses[1]}?"
        hops = []
        for fact, other in ((first, second), (second, first)):
            assert fact.object is not None
            assert other.object is not None
            words = (RELATIONS[fact.relation].words_there, RELATIONS[fact.relation].words)
            both = f"{fact.object.name} {other.object.name}"
            queries = (*(f"{fact.object.name} {word}" for word in words), both, fact.object.name)
            hops.append(Hop(fact.passage, queries, first.subject.name))
        names = (first.object.name, second.object.name)
        path = (f"~{first.relation}", f"~{second.relation}")
        return Draft("intersection", text, entity_answers(first.subject), tuple(hops), path, names)

    def _subjects(self, fact: Fact) -> set[str]:
        assert fact.object is not None
        return {other.subject.id for other in self.world.by_object[fact.object.id] if other.relation == fact.relation}

    def _years_between(self, rng: Rng) -> Draft | None:
        facts = [rng.choice(self.world.facts) for _ in range(2)]
        relations = [RELATIONS[fact.relation] for fact in facts]
        if any(relation.target != "year" or not relation.noun for relation in relations):
            return None
        if facts[0].subject is facts[1].subject:
            return None
        years = abs(facts[0].number - facts[1].number)
        if years < 2:
            return None
        phrases = [_Step(fact, fact.subject, None).phrase(with_article(fact.subject)) for fact in facts]
        text = f"How many years lie between {phrases[0]} and {phrases[1]}?"
        hops = tuple(_Step(fact, fact.subject, None).hop() for fact in facts)
        path = (facts[0].relation, facts[1].relation, "difference")
        names = (facts[0].subject.name, facts[1].subject.name)
        return Draft("years between", text, (str(years), f"{years} years"), hops, path, names)


def _timed(rng: Rng, fact: Fact) -> _Step:
    """Return the step to whoever held an office in a year that is neither the first nor the last."""
    assert fact.years is not None
    return _Step(fact, fact.subject, fact.object, year=rng.between(fact.years[0] + 1, fact.years[1] - 1))


def _asks(step: _Step) -> Sequence[str]:
    return step.relation.inverse_asks if step.is_inverse else step.relation.asks


def _compared_number(fact: Fact) -> int:
    """Return what a comparison compares: of a date, the year."""
    return fact.number // 10_000 if RELATIONS[fact.relation].target == "date" else fact.number


def _chained(
    rng: Rng,
    kind: str,
    start: str,
    steps: Sequence[_Step],
    *,
    before: tuple[Hop, ...] = (),
    names: tuple[str, ...] = (),
) -> Draft:
    phrase = start
    for step in steps[:-1]:
        phrase = step.phrase(phrase)
    text = rng.choice(_asks(steps[-1])).format(x=phrase)
    path = (*(("person.description",) if before else ()), *(step.name for step in steps))
    return Draft(kind, text, steps[-1].answers(), (*before, *(step.hop() for step in steps)), path, names)
