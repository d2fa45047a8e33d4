"""Passages from facts: one passage for each attribute of each subject.

`FactGraph` indexes the facts and resolves references between subjects; `passage_rows` puts them into words. Which of
several phrasings a passage has is drawn from its id, so that one fact more or less changes no other passage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from data_makers.search_qa_facts.table import REFERENCES, Fact, fold
from data_makers.search_qa_facts.wording import RELATIONS, Relation, subject_in_text
from sdar_envs.rng import Rng

__all__ = ["FactGraph", "passage_rows"]

# Amounts without a unit; the other numbers are names (years, codes, atomic numbers).
_COUNTS = frozenset({"population", "city_population", "airport_count", "merchant_ships"})


class FactGraph:
    """Facts indexed by subject, with references between subjects resolved.

    Attributes:
        facts: by subject and relation, in the order of the table.
        subjects: by kind, in the order of the table.
    """

    def __init__(self, facts: Iterable[Fact]) -> None:
        self.facts: dict[tuple[str, str], Fact] = {}
        self.subjects: dict[str, list[str]] = {}
        for fact in facts:
            self.facts[fact.subject, fact.relation] = fact
            if fact.relation == "name":
                self.subjects.setdefault(fact.kind, []).append(fact.subject)
        cities = {
            (fold(self.name(city)), self.facts[city, "country"].value): city for city in self.subjects.get("city", ())
        }
        self._capitals = {
            country: cities[fold(fact.value), country]
            for (country, relation), fact in self.facts.items()
            if relation == "capital" and (fold(fact.value), country) in cities
        }

    def name(self, subject: str) -> str:
        """Return a subject's name."""
        return self.facts[subject, "name"].value

    def in_text(self, subject: str) -> str:
        """Return a subject's name as it stands within a sentence."""
        return subject_in_text(subject.partition("/")[0], self.name(subject))

    def target(self, subject: str, relation: str) -> str | None:
        """Return the subject that a relation leads to, if there is one."""
        if relation == "capital":
            return self._capitals.get(subject)
        fact = self.facts.get((subject, relation))
        return fact.value if fact and relation in REFERENCES else None

    def value(self, fact: Fact, relation: Relation) -> str:
        """Return a fact's value as it stands in a passage."""
        if fact.relation in REFERENCES:
            return self.in_text(fact.value)
        if relation.unit or fact.relation in _COUNTS:
            whole, _, rest = fact.value.partition(".")
            return f"{int(whole):,}" + (f".{rest}" if rest else "")
        return fact.value


def passage_rows(graph: FactGraph) -> Iterator[dict[str, Any]]:
    """Yield the corpus: `id` and `contents`, in the order of the facts."""
    for (subject, name), fact in graph.facts.items():
        relation = RELATIONS.get((fact.kind, name))
        if relation is None:
            continue
        rng = Rng(f"facts/passage/{subject}/{name}")
        s = graph.in_text(subject)
        v = graph.value(fact, relation)
        words = {"s": s, "S": s[0].upper() + s[1:], "v": v, "av": f"{'an' if v[0] in 'aeiou' else 'a'} {v}"}
        words["tv"] = v if v.startswith("Mount ") else f"the {v}"
        text = _sentence(rng.choice(relation.heads).format(**words))
        if relation.tails and not rng.per_cent(25):
            text += " " + rng.choice(relation.tails)
        yield {"id": f"{subject}/{name}", "contents": f'"{relation.title.format(**words)}"\n{text}'}


def _sentence(text: str) -> str:
    """Return a sentence with a capital at its beginning, and no second stop after `D.C.` or before a quote's end."""
    text = re.sub(r"([.!?])\.$", r"\1", text)
    return text[0].upper() + text[1:] if text[0].isascii() else text
