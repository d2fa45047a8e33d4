"""Returns to go of an episode, and the tokens of the command in an answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

__all__ = ["action_span", "returns_to_go"]

_BLOCK = re.compile(r"<(action|search|answer)>.*?</\1>", re.DOTALL | re.IGNORECASE)


def returns_to_go(rewards: Sequence[float], gamma: float) -> list[float]:
    """Return `G_t = r_t + gamma G_(t+1)` of each turn."""
    values: list[float] = []
    for reward in reversed(rewards):
        values.append(reward + gamma * (values[-1] if values else 0.0))
    return values[::-1]


def action_span(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> tuple[int, int]:
    """Return the tokens of the last command's block in an answer, as the first and the one behind the last.

    A token belongs to the block if a part of its text does. Without a block the span is empty.
    """
    blocks = list(_BLOCK.finditer(decode(ids)))
    if not blocks:
        return 0, 0
    begin, end = blocks[-1].span()
    return _tokens_before(ids, decode, begin + 1) - 1, _tokens_before(ids, decode, end)


def _tokens_before(ids: Sequence[int], decode: Callable[[Sequence[int]], str], characters: int) -> int:
    """Return the fewest tokens whose text has so many characters."""
    low, high = 1, len(ids)
    while low < high:
        middle = (low + high) // 2
        if len(decode(ids[:middle])) >= characters:
            high = middle
        else:
            low = middle + 1
    return low
