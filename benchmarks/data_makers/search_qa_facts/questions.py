"""Questions from facts, of four types.

- `entity_attribute_lookup` asks for one attribute of a named subject, or for the subject that has a value.
- `direct_retrieval` asks the same in the few lower-case words that people type into a search engine.
- `multi_hop_reasoning` names the subject only by a description: two or three passages have to be found one after the
  other, because the name of each is in the one before.
- `compare` asks which of two named subjects has the larger or the smaller number.

A question goes to the split of its answer: answers that have a spelling in common are one entity, and an entity is in
one split only. The two subjects of a comparison are of one split as well.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data_makers.search_qa_facts.passages import FactGraph
from data_makers.search_qa_facts.table import REFERENCES, Fact, contains, fold
from data_makers.search_qa_facts.wording import CLUES, COMPARISONS, LINKS, RELATIONS, Clue, Comparison, Relation
from sdar_envs.bm25.analyzer import analyze
from sdar_envs.rng import Rng
from sdar_envs.search_qa.scoring import normalize

__all__ = ["question_rows"]

# Of a thousand entities, how many go to dev and to test.
_DEV, _TEST = 70, 115
# How many questions of a template, at most.
_LOOKUPS, _REVERSED, _TERSE = 150, 100, 36
_FROM_CLUE, _FROM_NAME, _THREE_HOPS = 120, 220, 72
_COMPARED: Mapping[str, int] = {"train": 160, "dev": 20, "test": 32}
# Cities and airports have more pairs than anything else.
_COMPARED_PLACES: Mapping[str, int] = {"train": 400, "dev": 48, "test": 80}
# Values so common among subjects that a search for the question brings one up by chance, or that no last hop is
# needed for.
_NOT_LAST = frozenset(
    {
        "city", "colours", "country", "farm_product", "import_partner", "neighbour_count", "only_neighbour", "state",
        "voting_age",
    }
)  # fmt: skip
_NUMBER_WORDS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen",
)  # fmt: skip
_UNIT_WORDS: Mapping[str, tuple[str, ...]] = {
    "m": ("m", "metres", "meters"),
    "km": ("km", "kilometres", "kilometers"),
}
_VAGUE_LEGISLATURES = frozenset(
    {"Congress", "House of Representatives", "Legislature", "National Assembly", "National Parliament", "Parliament"}
)
# The way to the last subject of three-hop questions: relations to follow from a clue or from a name.
_CLUED_PATHS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("airport", "iata"): ("country", "city", "state"),
    ("airport", "icao"): ("country", "city", "state"),
    ("element", "symbol_of_element"): ("found_in",),
    ("element", "atomic_number"): ("found_in",),
    ("element", "cas"): ("found_in",),
    ("county", "county_fips"): ("state",),
    ("country", "capital"): ("export_partner", "import_partner", "only_neighbour", "independent_from"),
    ("country", "calling_code"): ("export_partner", "import_partner", "capital"),
    ("country", "tld"): ("export_partner", "import_partner", "capital"),
    ("country", "iso3"): ("capital",),
    ("country", "aircraft_prefix"): ("export_partner", "capital"),
    ("country", "highest_point"): ("export_partner", "import_partner", "capital"),
    ("country", "anthem"): ("export_partner", "import_partner", "capital"),
    ("country", "former_name"): ("export_partner", "import_partner", "capital"),
}
_NAMED_PATHS: tuple[tuple[str, str, str], ...] = (
    ("airport", "city", "country"),
    ("airport", "country", "export_partner"),
    ("city", "country", "export_partner"),
    ("city", "country", "import_partner"),
    ("city", "country", "independent_from"),
    ("country", "export_partner", "capital"),
    ("country", "import_partner", "capital"),
    ("country", "export_partner", "import_partner"),
)
# Passages that a search cannot tell from others, because the words of a name (three more countries are called
# Guinea) or a code (`.de`) stand in many of them. Nothing is asked that needs them; `checks.measure` finds them.
_NOT_FOUND = frozenset(
    {
        "airport/BAY/iata", "airport/NEW/iata", "country/AG/tld", "country/DE/tld", "country/GN/highest_point_metres",
        "country/GN/tld", "country/LI/tld", "county/13183/state", "county/17197/state", "county/54009/state",
    }
)  # fmt: skip
# How a named subject of a kind is introduced.
_NAMED: Mapping[str, str] = {"city": "the city of {}", "state": "the U.S. state of {}"}
_Row = dict[str, Any]


def question_rows(graph: FactGraph) -> list[_Row]:
    """Return all questions, sorted by id."""
    maker = _Maker(graph)
    rows = [*maker.lookups(), *maker.reversed(), *maker.from_clues(), *maker.from_names(), *maker.three_hops()]
    rows += maker.terse()
    splits = _Splits([*(row["golden_answers"] for row in rows), *maker.compared_names()])
    for row in rows:
        row["split"] = splits.of(row["golden_answers"][0])
    rows += maker.comparisons(splits)
    seen: set[str] = set()
    kept = []
    for row in rows:
        words = normalize(fold(row["question"]))
        if words not in seen and _NOT_FOUND.isdisjoint(row["metadata"]["supporting"]):
            seen.add(words)
            kept.append(row)
    return sorted(kept, key=lambda row: str(row["id"]))


@dataclass(frozen=True, slots=True)
class _Hop:
    """One passage on the way.

    Attributes:
        passage: its id.
        query: finds it, given the hops before.
        name: what it leads to: the name that the next hop starts from.
    """

    passage: str
    query: str
    name: str


@dataclass(frozen=True, slots=True)
class _Trail:
    """A subject that is described: the hops to its name, and the description.

    Attributes:
        start: names the trail in ids.
        path: the relations followed.
        phrase: the description.
        subject: what is described.
        hops: to its name; none if it is named.
    """

    start: str
    path: tuple[str, ...]
    phrase: str
    subject: str
    hops: tuple[_Hop, ...]

    @property
    def kind(self) -> str:
        return self.subject.partition("/")[0]


class _Maker:
    """Makes questions from a graph."""

    def __init__(self, graph: FactGraph) -> None:
        self.graph = graph
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        for (_, relation), fact in graph.facts.items():
            self._counts.setdefault((fact.kind, relation), Counter())[normalize(fact.value)] += 1

    # -- single facts ---------------------------------------------------------------------------

    def lookups(self) -> Iterator[_Row]:
        """Yield questions for an attribute of a named subject."""
        for relation in self._asked:
            template = f"lookup/{relation.kind}.{relation.name}"
            subjects = Rng(f"facts/{template}").shuffled(self._having(relation))
            rows = (self._ask(self._named(subject), relation, template) for subject in subjects)
            yield from _first(rows, _LOOKUPS)

    def reversed(self) -> Iterator[_Row]:
        """Yield questions for the subject that has a value."""
        for clue in CLUES.values():
            template = f"which/{clue.kind}.{clue.relation}"
            subjects = Rng(f"facts/{template}").shuffled(self._told(clue))
            rows = (self._ask_which(subject, clue, template, clue.questions) for subject in subjects)
            yield from _first(rows, _REVERSED)

    def terse(self) -> Iterator[_Row]:
        """Yield the same in the words that people type."""
        for relation in self._asked:
            template = f"terse/{relation.kind}.{relation.name}"
            subjects = Rng(f"facts/{template}").shuffled(self._having(relation))
            rows = (self._ask(self._named(subject), relation, template) for subject in subjects)
            yield from map(_typed, _first(rows, _TERSE if relation.kind != "city" else 2 * _TERSE))
        for clue in CLUES.values():
            template = f"terse/which.{clue.kind}.{clue.relation}"
            subjects = Rng(f"facts/{template}").shuffled(self._told(clue))
            rows = (self._ask_which(subject, clue, template, clue.terse) for subject in subjects)
            yield from map(_typed, _first(rows, _TERSE))

    # -- several hops ---------------------------------------------------------------------------

    def from_clues(self) -> Iterator[_Row]:
        """Yield two-hop questions: the description is a value."""
        for clue in CLUES.values():
            yield from self._asking_all(self._clued(clue), _FROM_CLUE)

    def from_names(self) -> Iterator[_Row]:
        """Yield two-hop questions: the description is a relation to a named subject."""
        for kind, link in LINKS:
            yield from self._asking_all(self._linked(map(self._named, self.graph.subjects[kind]), link), _FROM_NAME)

    def three_hops(self) -> Iterator[_Row]:
        """Yield three-hop questions."""
        for key, links in _CLUED_PATHS.items():
            for link in links:
                yield from self._asking_all(self._linked(self._clued(CLUES[key]), link), _THREE_HOPS)
        for kind, first, second in _NAMED_PATHS:
            trails = self._linked(self._linked(map(self._named, self.graph.subjects[kind]), first), second)
            yield from self._asking_all(trails, _THREE_HOPS)

    def _asking_all(self, trails: Iterable[_Trail], most: int) -> Iterator[_Row]:
        """Yield questions about the described subjects, as many for each of their attributes."""
        trails = list(trails)
        if not trails:
            return
        path = trails[0].path
        template = "hops/" + ">".join(path)
        relations = [relation for relation in self._asked if relation.kind == trails[0].kind]
        relations = [r for r in relations if r.name not in _NOT_LAST and path[-1] != f"{r.kind}.{r.name}"]
        for relation in relations:
            shuffled = _spread(Rng(f"facts/{template}/{relation.name}").shuffled(trails))
            yield from _first((self._ask(trail, relation, template) for trail in shuffled), most // len(relations))

    def _named(self, subject: str) -> _Trail:
        kind, _, key = subject.partition("/")
        phrase = _NAMED.get(kind, "{}").format(self.graph.in_text(subject))
        return _Trail(key, (), phrase, subject, ())

    def _clued(self, clue: Clue) -> Iterator[_Trail]:
        for subject in self._told(clue):
            fact = self.graph.facts[subject, clue.relation]
            rng = Rng(f"facts/clue/{subject}/{clue.relation}")
            if not _alike(fact.value, self.graph.name(subject)) and not self._gives_away(subject, fact):
                phrase = rng.choice(clue.phrases).format(v=fact.value)
                hop = _Hop(f"{subject}/{clue.relation}", clue.query.format(v=fact.value), self.graph.name(subject))
                path = (f"{clue.kind}.{clue.relation}",)
                yield _Trail(subject.partition("/")[2], path, phrase, subject, (hop,))

    def _gives_away(self, subject: str, fact: Fact) -> bool:
        adjective = self.graph.facts.get((subject, "adjective"))
        return adjective is not None and _alike(fact.value, adjective.value)

    def _linked(self, trails: Iterable[_Trail], link: str) -> Iterator[_Trail]:
        for trail in trails:
            target = self.graph.target(trail.subject, link)
            if target is None or target == trail.subject:
                continue
            relation = RELATIONS[trail.kind, link]
            name = self.graph.name(target)
            if _alike(trail.phrase, name) or any(hop.name == name for hop in trail.hops):
                continue
            rng = Rng(f"facts/link/{trail.path}/{trail.subject}/{link}")
            phrase = rng.choice(LINKS[trail.kind, link]).format(x=trail.phrase)
            query = relation.query.format(s=self.graph.in_text(trail.subject))
            hop = _Hop(f"{trail.subject}/{link}", query, name)
            path = (*(trail.path or (trail.kind,)), link)
            yield _Trail(trail.start, path, phrase, target, (*trail.hops, hop))

    # -- comparisons ----------------------------------------------------------------------------

    def compared_names(self) -> Iterator[list[str]]:
        """Yield the spellings of everything that may be compared."""
        for kind in sorted({comparison.kind for comparison in COMPARISONS}):
            yield from map(self._spellings, self.graph.subjects[kind])

    def comparisons(self, splits: _Splits) -> Iterator[_Row]:
        """Yield comparisons within each split; the first named is right in every other one."""
        for comparison in COMPARISONS:
            places = comparison.kind in ("airport", "city")
            for split, most in (_COMPARED_PLACES if places else _COMPARED).items():
                subjects = [
                    subject
                    for subject in self.graph.subjects[comparison.kind]
                    if (subject, comparison.relation) in self.graph.facts
                    and splits.of(self.graph.name(subject)) == split
                ]
                rng = Rng(f"facts/compare/{comparison.kind}.{comparison.relation}/{split}")
                pairs = self._pairs(rng, comparison, subjects, most)
                for i, (small, large) in enumerate(pairs[: len(pairs) // 4 * 4]):
                    yield self._compare(comparison, small, large, split, i)

    def _pairs(self, rng: Rng, comparison: Comparison, subjects: Sequence[str], most: int) -> list[tuple[str, str]]:
        """Return pairs (smaller, larger), no pair twice."""

        def number(subject: str) -> float:
            return float(self.graph.facts[subject, comparison.relation].value)

        pairs: dict[tuple[str, str], None] = {}
        is_year = comparison.relation.endswith("_year")
        for _ in range(most * 30 if len(subjects) > 1 else 0):
            small, large = sorted((rng.choice(subjects), rng.choice(subjects)), key=number)
            apart = number(large) - number(small) if is_year else number(large) / max(number(small), 1e-9)
            names = self.graph.name(small), self.graph.name(large)
            if small != large and apart >= comparison.margin and not _alike(*names):
                pairs[small, large] = None
            if len(pairs) == most:
                break
        return list(pairs)

    def _compare(self, comparison: Comparison, small: str, large: str, split: str, i: int) -> _Row:
        winner, loser = (large, small) if i % 2 else (small, large)
        rng = Rng(f"facts/compare/{comparison.relation}/{small}/{large}")
        texts = comparison.more if i % 2 else comparison.less
        first, second = (winner, loser) if i // 2 % 2 else (loser, winner)
        question = rng.choice(texts).format(a=self.graph.in_text(first), b=self.graph.in_text(second))
        template = f"compare/{comparison.kind}.{comparison.relation}"
        relation = RELATIONS[comparison.kind, comparison.relation]
        hops = [
            _Hop(
                f"{subject}/{comparison.relation}",
                relation.query.format(s=self.graph.in_text(subject)),
                self.graph.name(subject),
            )
            for subject in (first, second)
        ]
        keys = "-".join(subject.partition("/")[2] for subject in (first, second))
        row = _row(template, keys, question, self._spellings(winner), kind="compare", hops=hops)
        return {**row, "split": split}

    # -- parts ----------------------------------------------------------------------------------

    @cached_property
    def _asked(self) -> list[Relation]:
        return [relation for relation in RELATIONS.values() if relation.questions]

    def _having(self, relation: Relation) -> list[str]:
        return [
            subject for subject in self.graph.subjects[relation.kind] if (subject, relation.name) in self.graph.facts
        ]

    def _told(self, clue: Clue) -> list[str]:
        """Return the subjects whose value no other has."""
        counts = self._counts.get((clue.kind, clue.relation), Counter())
        having = self._having(RELATIONS[clue.kind, clue.relation])
        values = {subject: self.graph.facts[subject, clue.relation].value for subject in having}
        # A stop word cannot be searched for, such as the internet domain of Italy.
        return [s for s, value in values.items() if counts[normalize(value)] == 1 and analyze(value)]

    def _spellings(self, subject: str) -> list[str]:
        fact = self.graph.facts[subject, "name"]
        return _distinct([fact.value, *fact.aliases])

    def _ask(self, trail: _Trail, relation: Relation, template: str) -> _Row | None:
        """Return a question for an attribute of a described subject, or None if it has none that can be asked for."""
        fact = self.graph.facts.get((trail.subject, relation.name))
        answers = self._answers(fact, relation) if fact else []
        if fact is None or not answers:
            return None
        key = f"{relation.name}/{trail.start}" if trail.hops else trail.start
        rng = Rng(f"facts/{template}/{key}")
        texts, phrase = relation.questions, trail.phrase
        if template.startswith("terse/"):
            texts, phrase = relation.terse, self.graph.in_text(trail.subject)
        elif trail.hops:
            # A long description reads best at the end.
            texts = tuple(text for text in texts if text.endswith("{x}?"))
        if not texts:
            return None
        question = rng.choice(texts).format(x=phrase)
        name = answers[0]
        query = relation.query.format(s=self.graph.in_text(trail.subject))
        hops = [*trail.hops, _Hop(f"{fact.subject}/{relation.name}", query, name)]
        kind = "multi_hop_reasoning" if trail.hops else "entity_attribute_lookup"
        return _checked(_row(template, key, question, answers, kind=kind, hops=hops))

    def _ask_which(self, subject: str, clue: Clue, template: str, texts: Sequence[str]) -> _Row | None:
        fact = self.graph.facts[subject, clue.relation]
        if not texts:
            return None
        key = subject.partition("/")[2]
        question = Rng(f"facts/{template}/{key}").choice(texts).format(v=fact.value)
        hop = _Hop(f"{subject}/{clue.relation}", clue.query.format(v=fact.value), self.graph.name(subject))
        return _checked(
            _row(template, key, question, self._spellings(subject), kind="entity_attribute_lookup", hops=[hop])
        )

    def _answers(self, fact: Fact, relation: Relation) -> list[str]:
        """Return the right answers, the best first; none if the fact is not asked for."""
        value = fact.value
        if fact.relation in REFERENCES:
            return self._spellings(value)
        if relation.unit:
            amount = self.graph.value(fact, relation)
            return _distinct([amount, *(f"{amount} {unit}" for unit in _UNIT_WORDS[relation.unit])])
        match fact.relation:
            case "voting_age":
                return [] if value == "18" else [value]
            case "legislature" if value in _VAGUE_LEGISLATURES:
                return []
            case "colours":
                both = value.split(" and ")
                if "," in value:
                    return []
                return [f"{a}{joint}{b}" for a, b in (both, both[::-1]) for joint in (" and ", ", ")]
            case "neighbour_count":
                words = [_NUMBER_WORDS[int(value)]] if int(value) < len(_NUMBER_WORDS) else []
                return [value, *words]
            case "national_day":
                day, month = value.split(" ")
                return [value, f"{month} {day}"]
            case "calling_code":
                return _distinct([f"+{value}", f"+{value.replace('-', ' ')}"])
        return _distinct([value, *fact.aliases])


# -- rows ---------------------------------------------------------------------------------------


def _row(template: str, key: str, question: str, answers: list[str], *, kind: str, hops: Sequence[_Hop]) -> _Row:
    return {
        "id": f"facts/{template}/{key}",
        "question": question,
        "golden_answers": answers,
        "data_source": "facts",
        "split": "",
        "metadata": {
            "type": kind,
            "template": template,
            "hops": len(hops),
            "supporting": [hop.passage for hop in hops],
            "queries": [hop.query for hop in hops],
            "bridges": [hop.name for hop in hops[:-1]],
        },
    }


def _checked(row: _Row) -> _Row | None:
    """Return the row, or None if its question or its way names the answer, or the question a name on the way."""
    question = normalize(fold(row["question"]))
    bridges = row["metadata"]["bridges"]
    told = [*row["golden_answers"], *bridges]
    if any(normalize(bridge) == normalize(answer) for bridge in bridges for answer in row["golden_answers"]):
        return None
    return None if any(contains(question, normalize(fold(name))) for name in told) else row


def _typed(row: _Row) -> _Row:
    question = re.sub(r"[?\"]", "", row["question"]).lower()
    return {**row, "question": question, "metadata": {**row["metadata"], "type": "direct_retrieval"}}


def _first(rows: Iterable[_Row | None], most: int) -> Iterator[_Row]:
    """Yield the first rows that could be made."""
    for row in rows:
        if most == 0:
            return
        if row is not None:
            most -= 1
            yield row


def _spread(trails: Iterable[_Trail]) -> list[_Trail]:
    """Return trails in such an order that no subject comes again before all have come."""
    seen: Counter[str] = Counter()
    turns = []
    for trail in trails:
        turns.append((seen[trail.subject], trail))
        seen[trail.subject] += 1
    return [trail for _, trail in sorted(turns, key=lambda turn: turn[0])]


def _distinct(answers: Iterable[str]) -> list[str]:
    """Return answers and their forms without accents, each normal form once."""
    found: dict[str, str] = {}
    for answer in answers:
        for form in (answer, fold(answer)):
            if normalize(form):
                found.setdefault(normalize(form), form)
    return list(found.values())


def _alike(text: str, name: str) -> bool:
    """Tell whether a word of the text begins as a word of the name does: then a search for the text finds the name."""

    def beginnings(words: str) -> set[str]:
        return {word[:5] for word in re.findall(r"[a-z]{4,}", fold(words).lower())}

    return bool(beginnings(text) & (beginnings(name) - _COMMON))


_COMMON = frozenset({"airpo", "city", "count", "repub", "state", "unite", "inter", "regio", "munic", "natio", "domes"})


class _Splits:
    """Which split each answer is in."""

    def __init__(self, groups: Iterable[Sequence[str]]) -> None:
        self._parents: dict[str, str] = {}
        for group in groups:
            first = self._find(normalize(group[0]))
            for other in group[1:]:
                a, b = sorted((first, self._find(normalize(other))))
                self._parents[b] = first = a

    def _find(self, word: str) -> str:
        self._parents.setdefault(word, word)
        while self._parents[word] != word:
            word = self._parents[word]
        return word

    def of(self, answer: str) -> str:
        """Return the split of an answer."""
        entity = self._find(normalize(answer))
        share = int.from_bytes(hashlib.sha256(f"facts/split/{entity}".encode()).digest()[:8], "big") % 1000
        return "dev" if share < _DEV else "test" if share < _DEV + _TEST else "train"
