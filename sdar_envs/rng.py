"""Random numbers that are reproducible across machines and Python versions, and seed derivation.

`random.Random.random` is the one method whose numbers the language guarantees for a seed, and text seeds
are hashed with SHA-256, so PYTHONHASHSEED does not matter. For the generators of embedded tasks; not for secrets.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Generic, TypeVar

__all__ = ["Rng", "Weights", "derive_seed"]

ItemT = TypeVar("ItemT")


def derive_seed(seed: int, name: str) -> int:
    """Return a seed for one purpose, derived from a seed and the purpose's name.

    Args:
        seed: the seed of the whole, such as a run's.
        name: what the derived seed is for, such as a task id.

    Returns:
        0 to 2**32 - 1; the same on every machine.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


class Weights(Generic[ItemT]):
    """Discrete distribution: items with integer weights."""

    __slots__ = ("items", "sums")

    def __init__(self, weights: Mapping[ItemT, int]) -> None:
        self.items = tuple(weights)
        self.sums = tuple(accumulate(weights.values()))


class Rng:
    """Random number generator, seeded by a name.

    Args:
        name: the seed as text, such as `alfworld/1/train/17`.
    """

    def __init__(self, name: str) -> None:
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        self._random = random.Random(seed).random

    def share(self) -> float:
        """Return a number from 0 to below 1."""
        return self._random()

    def below(self, n: int) -> int:
        """Return a whole number from 0 to n - 1."""
        return int(self._random() * n)

    def between(self, low: int, high: int) -> int:
        """Return a whole number from low to high, both included."""
        return low + int(self._random() * (high - low + 1))

    def per_cent(self, share: int) -> bool:
        """Return True with a probability of `share` per cent."""
        return self._random() * 100 < share

    def choice(self, items: Sequence[ItemT]) -> ItemT:
        """Return one of the items."""
        return items[int(self._random() * len(items))]

    def weighted(self, weights: Weights[ItemT]) -> ItemT:
        """Return one of the items, with probability proportional to its weight."""
        return weights.items[bisect_right(weights.sums, int(self._random() * weights.sums[-1]))]

    def shuffled(self, items: Iterable[ItemT]) -> list[ItemT]:
        """Return the items in a random order."""
        result = list(items)
        for i in range(len(result) - 1, 0, -1):
            j = int(self._random() * (i + 1))
            result[i], result[j] = result[j], result[i]
        return result
