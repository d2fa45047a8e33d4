"""What a retriever may be asked: refused here, in one place and in the same words by all engines."""

from __future__ import annotations

from collections.abc import Sequence

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption

__all__ = ["check_request"]


def check_request(queries: Sequence[str], k: int) -> None:
    """Refuse queries that are no list of texts, and a `k` below 1.

    Raises:
        InvalidOption: it is one of these.
    """
    if isinstance(queries, str) or not all(isinstance(query, str) for query in queries):
        raise InvalidOption(f"the queries are {str(queries)[:200]!r}; wanted a list of texts, such as [query].")
    if not (is_integer(k) and k >= 1):
        raise InvalidOption(f"k is {k!r}; wanted how many passages to return, from 1.")
