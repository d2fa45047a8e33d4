"""Queries that can be made from a question alone, without what its passages tell."""

from __future__ import annotations

from collections.abc import Sequence

from sdar_envs.search_qa.scoring import normalize

__all__ = ["one_search_queries"]


def one_search_queries(text: str, queries: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return five queries for a question: itself, the names in it, its first hop, and names with words of the hops.

    Args:
        text: the question.
        queries: an oracle's, one for each hop, with names that the question need not tell.
        names: the same without further words; empty if unknown.

    Returns:
        Up to five different ones. A name that the question does not tell is in none of them.
    """
    asked = f" {normalize(text)} "
    told = [name for name in dict.fromkeys(names) if f" {normalize(name)} " in asked]
    words = [" ".join(word for word in query.split() if word.islower()) for query in queries]
    all_names = " ".join(told) or queries[0]
    start = told[0] if told else queries[0]
    five = (text, all_names, queries[0], f"{start} {words[-1]}", f"{all_names} {' '.join(words)}")
    return tuple(dict.fromkeys(query.strip() for query in five))
