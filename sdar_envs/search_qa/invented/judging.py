"""Filters of drafts by search: what one search solves leaves, and what no search of an oracle finds.

A draft stays if for each hop one of its queries shows the passage among the best three, and, where it has several hops,
if none of five queries that can be made from the question alone shows all of them, and, of a chain, if a search for the
question itself does not show the answer.

Searching takes most of the time of making a world. Verdicts of named levels are therefore part of the package
(`data/invented_verdicts.json.gz`); a test makes them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from sdar_envs.bm25.index import SearchIndex
from sdar_envs.errors import CorruptData
from sdar_envs.search_qa.invented.drafts import Draft
from sdar_envs.search_qa.retrieval.retriever import Passage
from sdar_envs.search_qa.scoring import contains_whole_answer
from sdar_envs.search_qa.single_search import one_search_queries

__all__ = ["TOP_K", "Judge", "Recorded", "Searching", "found_by", "kept"]

TOP_K = 3
"""Passages that one search shows."""

LOOSE = frozenset({"which of several", "bridged comparison", "intersection", "first or last work"})
"""Kinds whose answer a search for the question may show without its evidence: among named or listed things."""


class Judge(Protocol):
    """Protocol of what decides about drafts."""

    def verdict(self, draft: Draft) -> str:
        """Return for each hop the digit of the query that finds it; or why the draft leaves: `o` or `n`.

        `o`: one search solves it. `n`: no query finds a hop.
        """
        ...


class Searching:
    """Judge that searches the passages with the built-in engine.

    Args:
        passages: of the world.
    """

    def __init__(self, passages: Sequence[Passage]) -> None:
        self._ids = [passage.id for passage in passages]
        self._contents = {passage.id: passage.contents for passage in passages}
        documents = [(place, passage.contents) for place, passage in enumerate(passages)]
        self._index = SearchIndex.build(documents, progress=False)

    def found(self, query: str) -> list[str]:
        """Return the ids of the passages that a search shows."""
        return [self._ids[place] for place in self._index.search(query, TOP_K)]

    def verdict(self, draft: Draft) -> str:
        """Return the verdict about a draft; see `Judge.verdict`."""
        digits = ""
        for hop in draft.hops:
            digit = next((str(i) for i, query in enumerate(hop.queries) if hop.passage in self.found(query)), None)
            if digit is None:
                return "n"
            digits += digit
        if len(draft.hops) > 1:
            needed = {hop.passage for hop in draft.hops}
            queries = found_by(draft, digits)
            names = [hop.queries[-1] for hop in draft.hops]
            if any(needed <= set(self.found(query)) for query in one_search_queries(draft.text, queries, names)):
                return "o"
            shown = [self._contents[name] for name in self.found(draft.text)]
            if draft.kind not in LOOSE and any(contains_whole_answer(text, draft.answers) for text in shown):
                return "o"
        return digits


class Recorded:
    """Judge that repeats verdicts in the order in which they were made.

    Args:
        verdicts: of one world.
    """

    def __init__(self, verdicts: Sequence[str]) -> None:
        self._rest = iter(verdicts)

    def verdict(self, draft: Draft) -> str:
        """Return the next verdict; see `Judge.verdict`."""
        for verdict in self._rest:
            return verdict
        raise CorruptData("the recorded verdicts about the invented world are too few: reinstall sdar-envs.")


def kept(
    drafts: Iterator[Draft], judge: Judge, wanted: int, note: Callable[[Draft, str], None]
) -> Iterator[tuple[Draft, tuple[str, ...]]]:
    """Yield so many drafts that stay, each with a query for each hop.

    Args:
        drafts: of one kind, without end.
        judge: decides about them.
        wanted: how many are to stay.
        note: gets every draft and its verdict.
    """
    count = 0
    while count < wanted:
        draft = next(drafts)
        verdict = judge.verdict(draft)
        note(draft, verdict)
        if verdict.isdigit():
            count += 1
            yield draft, found_by(draft, verdict)


def found_by(draft: Draft, verdict: str) -> tuple[str, ...]:
    """Return for each hop the query that finds it, as the digits of a verdict say."""
    return tuple(hop.queries[int(digit)] for hop, digit in zip(draft.hops, verdict, strict=True))
