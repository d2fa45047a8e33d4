"""Validation of the embedded corpus and questions.

`check_rows` refuses questions that cannot be answered from their passages. `measure` runs searches: how often a search
for the question itself finds an answer, and whether an oracle that searches hop by hop finds every passage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from data_makers.search_qa_facts.table import contains, fold
from sdar_envs.bm25.index import SearchIndex
from sdar_envs.errors import CorruptData
from sdar_envs.search_qa.scoring import normalize

__all__ = ["HIGHEST_SHORTCUT", "LOWEST_ORACLE", "TOP_K", "Measured", "check_rows", "measure"]

TOP_K = 3
"""Passages that one search shows."""

HIGHEST_SHORTCUT = 0.35
"""Largest allowed share of multi-hop questions whose answer a search for the question itself shows."""

LOWEST_ORACLE = 0.97
"""Smallest allowed share of questions that the oracle solves."""

_Row = Mapping[str, Any]


def check_rows(passages: Sequence[_Row], questions: Sequence[_Row]) -> None:
    """Validate a corpus and its questions against each other.

    Raises:
        CorruptData: says which row breaks which rule.
    """
    contents = {passage["id"]: passage["contents"] for passage in passages}
    titles = Counter(passage["contents"].partition("\n")[0] for passage in passages)
    repeated = [title for title, count in titles.items() if count > 1]
    _require(len(contents) == len(passages), "passages: an id stands twice")
    _require(not repeated, f"passages: a title stands twice: {repeated[:3]}")
    _require(len({row["id"] for row in questions}) == len(questions), "questions: an id stands twice")
    asked = Counter(normalize(fold(row["question"])) for row in questions)
    _require(not questions or max(asked.values()) == 1, f"questions: asked twice: {asked.most_common(1)}")
    entities: dict[str, str] = {}
    for row in questions:
        _check_row(row, contents)
        for answer in row["golden_answers"]:
            split = entities.setdefault(normalize(answer), row["split"])
            _require(split == row["split"], f"{row['id']}: {answer!r} is an answer in two splits, {split} too")


def _check_row(row: _Row, contents: Mapping[str, str]) -> None:
    about = row["metadata"]
    question = normalize(fold(row["question"]))
    answers = [normalize(answer) for answer in row["golden_answers"]]
    _require(all(answers) and len(set(answers)) == len(answers), f"{row['id']}: an answer is empty or stands twice")
    _require(all(passage in contents for passage in about["supporting"]), f"{row['id']}: a passage is missing")
    _require(
        len(about["supporting"]) == len(about["queries"]) == len(about["bridges"]) + 1 == about["hops"],
        f"{row['id']}: its hops do not match",
    )
    texts = [normalize(contents[passage]) for passage in about["supporting"]]
    if about["type"] == "compare":
        _require(
            contains(question, normalize(fold(row["golden_answers"][0]))), f"{row['id']}: does not name its answer"
        )
        _require(any(contains(text, answers[0]) for text in texts), f"{row['id']}: no passage names the answer")
        return
    _require(contains(texts[-1], answers[0]), f"{row['id']}: the last passage does not give {answers[0]!r}")
    for answer in row["golden_answers"]:
        _require(not contains(question, normalize(fold(answer))), f"{row['id']}: the question gives {answer!r} away")
    for passage, bridge in zip(about["supporting"], about["bridges"], strict=False):
        text = normalize(fold(contents[passage]))
        _require(contains(text, normalize(fold(bridge))), f"{row['id']}: no passage leads to {bridge!r}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise CorruptData(message)


@dataclass(slots=True)
class Measured:
    """Search statistics of a set of questions.

    Attributes:
        asked: questions by template.
        shortcuts: by template, how many have an answer in the best passages for the question itself.
        solved: by template, how many the oracle solves.
        failures: ids of those that it does not.
    """

    asked: Counter[str] = field(default_factory=Counter)
    shortcuts: Counter[str] = field(default_factory=Counter)
    solved: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def oracle(self) -> float:
        """The share that the oracle solves."""
        return self.solved.total() / self.asked.total()

    def shortcut(self, templates: Iterable[str]) -> float:
        """Return the share of some templates' questions that need no second search."""
        chosen = list(templates)
        return sum(self.shortcuts[name] for name in chosen) / sum(self.asked[name] for name in chosen)


def measure(passages: Sequence[_Row], questions: Iterable[_Row]) -> Measured:
    """Search for each question as it stands, and hop by hop as the oracle does, with the corpus' own engine."""
    index = SearchIndex.build([(f"{i:08d}", row["contents"]) for i, row in enumerate(passages)], progress=False)
    numbers = {row["id"]: i for i, row in enumerate(passages)}
    texts = [normalize(row["contents"]) for row in passages]
    measured = Measured()
    for row in questions:
        about = row["metadata"]
        template = about["template"]
        answers = [normalize(answer) for answer in row["golden_answers"]]

        def shown(query: str, answers: list[str] = answers) -> tuple[tuple[int, ...], bool]:
            found = index.search(query, TOP_K)
            return found, any(contains(texts[number], answer) for number in found for answer in answers)

        measured.asked[template] += 1
        measured.shortcuts[template] += shown(row["question"])[1]
        hops = [shown(query) for query in about["queries"]]
        reached = all(numbers[passage] in found for passage, (found, _) in zip(about["supporting"], hops, strict=True))
        if reached and any(answered for _, answered in hops):
            measured.solved[template] += 1
        else:
            measured.failures.append(row["id"])
    return measured
