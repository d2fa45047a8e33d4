"""Invented world: entities, and facts about them that fit one timeline.

Facts come before words. A relation is functional: an entity has at most one spouse, one founder, one biographer. Nobody
teaches before being grown up or after death, founds, builds or presides outside of a working life, or writes a book
that is dedicated to somebody who was not born.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sdar_envs.errors import InvalidOption
from sdar_envs.rng import Rng
from sdar_envs.search_qa.invented.names import Names
from sdar_envs.search_qa.invented.titles import make_titles

__all__ = ["MONTHS", "Entity", "Fact", "World", "make_world"]

MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# Of a thousand entities.
_SHARES = {
    "person": 425, "town": 105, "region": 10, "river": 28, "mountain": 27, "organisation": 105, "work": 200,
    "event": 100,
}  # fmt: skip
_FEWEST = 400

_OCCUPATIONS = (
    "astronomer", "baker", "bookbinder", "botanist", "brewer", "cartographer", "chemist", "clockmaker", "composer",
    "dentist", "engraver", "fencing master", "gardener", "geologist", "glassblower", "goldsmith", "historian", "judge",
    "lens grinder", "librarian", "locksmith", "mathematician", "merchant", "miller", "notary", "painter", "pharmacist",
    "physician", "potter", "printer", "saddler", "schoolteacher", "sculptor", "shipbuilder", "surveyor", "tailor",
    "translator", "violin maker", "watchmaker", "weaver",
)  # fmt: skip
_INSTRUMENTS = ("bassoon", "cello", "clarinet", "flute", "guitar", "harp", "horn", "lute", "oboe", "viola", "zither")
_PRODUCTS = (
    "barrels", "bells", "candles", "carpets", "cheese", "combs", "gloves", "glass", "hats", "honey", "lace", "leather",
    "mustard", "paper", "pottery", "rope", "salt", "soap", "vinegar", "wool",
)  # fmt: skip
_FEW = ("two", "three", "four", "five", "six", "seven", "eight")
_FEARS = ("cats", "crowds", "geese", "horses", "lightning", "mirrors", "spiders", "stairs", "thunder", "water")
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_WEATHER = ("bitter", "dry", "foggy", "hot", "mild", "rainy", "stormy", "windy")
_HOUSES = ("Institute", "Society", "Academy", "College", "Museum", "Press", "Library", "Guild")
_SCHOOLS = ("Institute", "Academy", "College")
_MEETINGS = ("Fair", "Congress", "Exhibition", "Regatta", "Festival", "Assembly")
_PAPERS = ("Letters", "Notes", "Review", "Quarterly", "Gazette")


@dataclass(slots=True)
class Entity:
    """An entity of the world.

    Attributes:
        id: unique in the world.
        kind: one of `KINDS`.
        name: unique in the world; of organisations, rivers and events without the article.
        aliases: other names that a right answer may have.
        is_female: of persons.
        born: year; of what is no person, when it came into being.
        died: year; of persons.
    """

    id: str
    kind: str
    name: str
    aliases: tuple[str, ...] = ()
    is_female: bool = False
    born: int = 0
    died: int = 0


@dataclass(slots=True, eq=False)
class Fact:
    """A fact of the world.

    Attributes:
        relation: a key of `RELATIONS`.
        subject: the entity.
        object: the other entity; None for a value.
        value: the value as passages write it; empty for an entity.
        number: the value as a number: of a date year, month and day as in 18591212; 0 if it is none.
        years: the first and last year, of facts that hold for some time.
        passage: id of the one passage that states it.
    """

    relation: str
    subject: Entity
    object: Entity | None = None
    value: str = ""
    number: int = 0
    years: tuple[int, int] | None = None
    passage: str = ""


@dataclass(slots=True)
class World:
    """Entities and facts.

    Attributes:
        entities: all, grouped by kind.
        facts: all, in the order in which they were made.
        by_subject: facts of each entity, by its id.
        by_object: relational facts whose object an entity is, by its id.
        listed: ids of the authors whose works a passage of its own lists.
    """

    entities: list[Entity] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)
    by_subject: dict[str, list[Fact]] = field(default_factory=dict)
    by_object: dict[str, list[Fact]] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    def of_kind(self, kind: str) -> list[Entity]:
        """Return the entities of a kind."""
        return [entity for entity in self.entities if entity.kind == kind]

    def fact(self, entity: Entity, name: str) -> Fact | None:
        """Return an entity's fact by the name of the relation; None if it has none."""
        relation = f"{entity.kind}.{name}"
        return next((fact for fact in self.by_subject[entity.id] if fact.relation == relation), None)


class _Maker:
    """Maker of one world."""

    def __init__(self, name: str, size: int, apart_from: World | None) -> None:
        others = [] if apart_from is None else apart_from.entities
        self._rng = Rng(f"{name}/world")
        self._names = Names(Rng(f"{name}/names"), {word for entity in others for word in _words(entity)})
        self._titles = {entity.name for entity in others if entity.kind == "work"}
        self._size = size
        self.world = World()
        self._people: list[Entity] = []
        self._births: list[int] = []
        self._pools: dict[str, list[Entity]] = {}

    # -- entities ---------------------------------------------------------------------------

    def entities(self) -> None:
        """Make all entities."""
        counts = {kind: self._size * share // 1000 for kind, share in _SHARES.items()}
        counts["person"] += self._size - sum(counts.values())
        self._make_people(counts["person"])
        self._make("town", self._names.words("town", counts["town"], twins=15), (1200, 1540))
        self._make("region", self._names.words("region", counts["region"]), (1200, 1500))
        rivers = self._names.words("river", counts["river"], twins=10)
        self._make("river", [f"{word} River" for word in rivers], (0, 0), aliases=[(word,) for word in rivers])
        mountains = self._names.words("mountain", counts["mountain"], twins=10)
        self._make("mountain", [f"Mount {word}" for word in mountains], (0, 0), aliases=[(m,) for m in mountains])
        houses = self._names.words("house", counts["organisation"], twins=10)
        self._make("organisation", [f"{word} {self._rng.choice(_HOUSES)}" for word in houses], (1590, 1935))
        self._make("work", make_titles(self._rng, counts["work"], self._titles), (1600, 1960))
        events = self._names.words("event", counts["event"], twins=10)
        self._make("event", [f"{word} {self._rng.choice(_MEETINGS)}" for word in events], (1620, 1960))
        for entity in self.world.entities:
            self.world.by_subject[entity.id] = []
            self.world.by_object[entity.id] = []

    def _make_people(self, count: int) -> None:
        rng, names = self._rng, self._names
        given = {True: names.words("female", 70), False: names.words("male", 70)}
        families = names.words("family", max(60, count // 2), twins=25)
        taken: set[str] = set()
        for number in range(count):
            is_female = rng.per_cent(50)
            while (name := f"{rng.choice(given[is_female])} {rng.choice(families)}") in taken:
                pass
            taken.add(name)
            born = rng.between(1565, 1905)
            died = born + rng.between(48, 86)
            person = Entity(f"person-{number}", "person", name, is_female=is_female, born=born, died=died)
            self.world.entities.append(person)
            self._people.append(person)
        self._people.sort(key=lambda person: person.born)
        self._births = [person.born for person in self._people]

    def _make(
        self, kind: str, names: Sequence[str], years: tuple[int, int], aliases: Sequence[tuple[str, ...]] = ()
    ) -> None:
        for number, name in enumerate(names):
            born = self._rng.between(*years)
            entity = Entity(f"{kind}-{number}", kind, name, aliases[number] if aliases else (), born=born)
            self.world.entities.append(entity)

    # -- facts ------------------------------------------------------------------------------

    def facts(self) -> None:
        """Make all facts."""
        for kind, make in (
            ("person", self._person),
            ("town", self._town),
            ("region", self._region),
            ("river", self._river),
            ("mountain", self._mountain),
            ("organisation", self._organisation),
            ("event", self._event),
        ):
            for entity in self.world.of_kind(kind):
                make(entity)
        self._works()

    def _person(self, person: Entity) -> None:
        rng = self._rng
        self._value(person, "occupation", rng.choice(_OCCUPATIONS))
        self._date(person, "born", person.born)
        self._date(person, "died", person.died)
        self._number(person, "letters", 12, 4000)
        if rng.per_cent(80):
            self._year(person, "thesis", person.born + rng.between(22, 34))
        if rng.per_cent(40):
            self._value(person, "pen_name", pen_name := self._names.word("pen"))
            person.aliases = (pen_name,)
        if rng.per_cent(70):
            self._value(person, "instrument", rng.choice(_INSTRUMENTS))
        self._number(person, "fortune", 20, 60_000)
        if rng.per_cent(80):
            self._number(person, "house_number", 3, 400)
        if rng.per_cent(60):
            self._year(person, "journey", person.born + rng.between(18, 45))
        if rng.per_cent(60):
            self._year(person, "order", person.born + rng.between(40, 47))
        self._value(person, "children", rng.choice(_FEW))
        if rng.per_cent(70):
            self._value(person, "fear", rng.choice(_FEARS))
        self._link(person, "birthplace", self._any("town"))
        self._link(person, "deathplace", self._any("town"))
        if rng.per_cent(75):
            taught = person.born + rng.between(12, 20)
            self._link(person, "teacher", self._alive(taught, 24, 70, lambda p: p is not person))
        if rng.per_cent(80):
            studied = person.born + rng.between(17, 22)
            self._link(person, "school", self._any("organisation", lambda o: self._is_school(o) and o.born <= studied))
        if rng.per_cent(45):
            paid = person.born + rng.between(16, 30)
            self._link(person, "patron", self._alive(paid, 30, 75, lambda p: p.born < person.born - 8))
        if rng.per_cent(45):
            told = person.died + rng.between(2, 40)
            self._link(person, "biographer", self._alive(told, 25, 75, lambda p: p.born > person.born))
        if rng.per_cent(55) and self.world.fact(person, "spouse") is None and not self._has_been(person, "spouse"):
            year = person.born + rng.between(21, 35)
            self._link(
                person,
                "spouse",
                self._alive(
                    year,
                    19,
                    45,
                    lambda p: (
                        p.is_female != person.is_female
                        and self.world.fact(p, "spouse") is None
                        and not self._has_been(p, "spouse")
                    ),
                ),
            )

    def _town(self, town: Entity) -> None:
        rng = self._rng
        self._number(town, "population", 900, 400_000)
        self._year(town, "charter", town.born)
        self._number(town, "elevation", 4, 1400)
        if rng.per_cent(80):
            self._year(town, "railway", rng.between(1839, 1926))
        self._value(town, "product", rng.choice(_PRODUCTS))
        self._value(town, "market", rng.choice(_WEEKDAYS))
        self._number(town, "seats", 60, 3000)
        self._number(town, "lamps", 15, 4000)
        if rng.per_cent(60):
            self._year(town, "flood", rng.between(1600, 1930))
        self._link(town, "region", self._any("region"))
        if rng.per_cent(80):
            self._link(town, "river", self._any("river"))
        if rng.per_cent(85):
            self._link(town, "statue", self._any("person", lambda p: p.died < 1940))
        if rng.per_cent(85):
            self._link(town, "bridge", self._any("person"))

    def _region(self, region: Entity) -> None:
        self._number(region, "area", 800, 60_000)
        self._year(region, "union", self._rng.between(1300, 1550))
        self._number(region, "mills", 40, 2000)
        self._number(region, "sheep", 5000, 900_000)
        towns = [f.subject for f in self.world.by_object[region.id] if f.relation == "town.region"]
        self._link(region, "capital", self._rng.choice(towns) if towns else None)

    def _river(self, river: Entity) -> None:
        self._number(river, "length", 18, 900)
        year = self._rng.between(1640, 1930)
        self._year(river, "mapped", year)
        self._number(river, "ferries", 3, 90)
        self._year(river, "frozen", self._rng.between(1600, 1930))
        self._link(river, "source", self._any("mountain"))
        self._link(river, "mapper", self._alive(year, 25, 65))

    def _mountain(self, mountain: Entity) -> None:
        height = self._rng.between(620, 4900)
        self._add(Fact("mountain.height", mountain, None, _written(height), height))
        year = self._rng.between(1700, 1940)
        self._year(mountain, "climbed", year)
        self._year(mountain, "hut", year + self._rng.between(2, 40))
        self._number(mountain, "steps", 80, 2500)
        region = self._any("region")
        self._link(mountain, "region", region)
        self._link(mountain, "climber", self._alive(year, 18, 50))

    def summits(self) -> None:
        """Give each region its highest mountain, which the heights decide."""
        for region in self.world.of_kind("region"):
            there = [f.subject for f in self.world.by_object[region.id] if f.relation == "mountain.region"]
            heights = {mountain.id: self._height(mountain) for mountain in there}
            highest = max(heights.values(), default=0)
            tops = [mountain for mountain in there if heights[mountain.id] == highest]
            if len(tops) == 1:
                self._link(region, "summit", tops[0])

    def _height(self, mountain: Entity) -> int:
        fact = self.world.fact(mountain, "height")
        return 0 if fact is None else fact.number

    def _organisation(self, house: Entity) -> None:
        rng = self._rng
        self._year(house, "founded", house.born)
        self._number(house, "members", 14, 3000)
        self._number(house, "books", 300, 90_000)
        self._number(house, "portraits", 4, 300)
        self._number(house, "fee", 2, 250)
        if rng.per_cent(60):
            self._year(house, "fire", house.born + rng.between(3, 60))
        if rng.per_cent(60):
            self._value(house, "journal", f"{self._names.word('paper')} {rng.choice(_PAPERS)}")
        self._link(house, "founder", self._alive(house.born, 25, 70))
        self._link(house, "seat", self._any("town"))
        if rng.per_cent(75):
            self._link(house, "architect", self._alive(house.born + rng.between(0, 3), 26, 70))
        if rng.per_cent(30):
            # A successor of its own for each: "the successor of X" is one.
            self._link(
                house,
                "predecessor",
                self._any("organisation", lambda o: o.born < house.born - 10 and not self._has_been(o, "predecessor")),
            )
        begin = house.born + rng.between(0, 4)
        for _ in range(rng.between(2, 3)):
            end = begin + rng.between(5, 15)
            director = self._alive(begin, 30, 60, lambda p, end=end: p.died > end)  # type: ignore[misc]
            if director is not None:
                self._add(Fact("organisation.director", house, director, years=(begin, end)))
            begin = end

    def _event(self, event: Entity) -> None:
        rng = self._rng
        self._date(event, "opened", event.born)
        self._number(event, "visitors", 150, 80_000)
        self._number(event, "tents", 12, 900)
        self._number(event, "cost", 100, 70_000)
        self._value(event, "weather", rng.choice(_WEATHER))
        self._link(event, "place", self._any("town"))
        self._link(event, "chair", self._alive(event.born, 28, 78))
        if rng.per_cent(75):
            self._link(event, "medallist", self._alive(event.born, 22, 80))
        if rng.per_cent(75):
            self._link(event, "organiser", self._any("organisation", lambda o: o.born < event.born))

    def _works(self) -> None:
        """Give each work an author; about one in two is of an author with several, whom a list of works tells."""
        rng = self._rng
        rest = rng.shuffled(self.world.of_kind("work"))
        authors = rng.shuffled(self._people)
        while rest:
            author = authors.pop()
            count = rng.between(4, 6) if rng.per_cent(30) else 1
            works, rest = rest[:count], rest[count:]
            if len(works) >= 4:
                self.world.listed.add(author.id)
            # Different years, so that one is the earliest and one the latest.
            years = rng.shuffled(range(author.born + 22, author.died))[: len(works)]
            for work, year in zip(works, years, strict=True):
                work.born = year
                self._work(work, author)

    def _work(self, work: Entity, author: Entity) -> None:
        rng = self._rng
        self._year(work, "year", work.born)
        self._number(work, "pages", 40, 900)
        self._number(work, "copies", 100, 9000)
        self._number(work, "price", 4, 600)
        self._date(work, "finished", work.born - 1)
        if rng.per_cent(60):
            self._year(work, "reprint", work.born + rng.between(3, 50))
        self._link(work, "author", author)
        if rng.per_cent(80):
            self._link(work, "dedicatee", self._alive(work.born, 5, 80, lambda p: p is not author))
        if rng.per_cent(55):
            self._link(
                work, "translator", self._alive(work.born + rng.between(1, 12), 22, 75, lambda p: p is not author)
            )
        if rng.per_cent(75):
            self._link(work, "publisher", self._any("organisation", lambda o: o.born <= work.born))
        if rng.per_cent(65):
            self._link(work, "setting", self._any("town"))
        if rng.per_cent(40):
            self._link(work, "subject", self._any("event", lambda e: e.born <= work.born))

    # -- choosing ---------------------------------------------------------------------------

    def _any(self, kind: str, fits: Callable[[Entity], bool] = lambda _: True) -> Entity | None:
        if kind not in self._pools:
            self._pools[kind] = self.world.of_kind(kind)
        pool = self._pools[kind]
        for _ in range(40):
            entity = self._rng.choice(pool)
            if fits(entity):
                return entity
        return None

    def _alive(
        self, year: int, youngest: int, oldest: int, fits: Callable[[Entity], bool] = lambda _: True
    ) -> Entity | None:
        """Return a person who was of a certain age in a year, and alive; None if none is found."""
        first, last = bisect_left(self._births, year - oldest), bisect_right(self._births, year - youngest)
        if first == last:
            return None
        for _ in range(40):
            person = self._people[self._rng.between(first, last - 1)]
            if person.died > year and fits(person):
                return person
        return None

    def _is_school(self, house: Entity) -> bool:
        return house.name.endswith(_SCHOOLS)

    def _has_been(self, entity: Entity, name: str) -> bool:
        """Return whether a relation to the entity is there already."""
        return any(fact.relation.endswith(f".{name}") for fact in self.world.by_object[entity.id])

    # -- adding -----------------------------------------------------------------------------

    def _add(self, fact: Fact) -> None:
        self.world.facts.append(fact)
        self.world.by_subject[fact.subject.id].append(fact)
        if fact.object is not None:
            self.world.by_object[fact.object.id].append(fact)

    def _link(self, subject: Entity, name: str, target: Entity | None) -> None:
        if target is not None and target is not subject:
            self._add(Fact(f"{subject.kind}.{name}", subject, target))

    def _value(self, subject: Entity, name: str, value: str) -> None:
        self._add(Fact(f"{subject.kind}.{name}", subject, None, value))

    def _year(self, subject: Entity, name: str, year: int) -> None:
        self._add(Fact(f"{subject.kind}.{name}", subject, None, str(year), year))

    def _number(self, subject: Entity, name: str, low: int, high: int) -> None:
        # Of all magnitudes between, and never round, as counts are.
        doublings = (high // low).bit_length() - 1
        start = low << self._rng.between(0, doublings)
        number = self._rng.between(start, min(2 * start, high))
        number += number % 10 == 0
        self._add(Fact(f"{subject.kind}.{name}", subject, None, _written(number), number))

    def _date(self, subject: Entity, name: str, year: int) -> None:
        month = self._rng.below(12)
        day = self._rng.between(1, _DAYS[month])
        number = year * 10_000 + (month + 1) * 100 + day
        self._add(Fact(f"{subject.kind}.{name}", subject, None, f"{day} {MONTHS[month]} {year}", number))


def _written(number: int) -> str:
    return f"{number:,}"


def _words(entity: Entity) -> list[str]:
    """Return the words of an entity's names in lower case; none of a title, which has no words of its own."""
    if entity.kind == "work":
        return []
    return [word.lower() for name in (entity.name, *entity.aliases) for word in name.split()]


def make_world(name: str, size: int, apart_from: World | None = None) -> World:
    """Make a world.

    Args:
        name: the seed as text; equal names and sizes give equal worlds on every machine.
        size: number of entities.
        apart_from: a world to share no name with.

    Raises:
        InvalidOption: the world would be too small for its facts.
    """
    if size < _FEWEST:
        raise InvalidOption(f"the world has {size} entities; wanted at least {_FEWEST}.")
    maker = _Maker(name, size, apart_from)
    maker.entities()
    maker.facts()
    maker.summits()
    return maker.world
