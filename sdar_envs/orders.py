"""Orders in which the tasks of a split are taken: `spread`, for samples, `Walk` and `SharedWalk`, for resets.

Both are the same on every machine and with every version of Python and numpy.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import Any

__all__ = ["SharedWalk", "Walk", "spread"]

_GOLDEN_RATIO = (math.sqrt(5) - 1) / 2


def spread(size: int, count: int | None = None) -> list[int]:
    """Return indices of a split in an order whose every prefix is spread evenly over the split.

    Each index is the one before plus a fixed step, modulo the size; the step is the number nearest to 0.618 times the
    size (the golden ratio) that has no common divisor with it. What a split is sorted by, such as the type of task, is
    therefore represented in about its proportion in the first 20, the next 100, ..., without reading a task.

    Args:
        size: number of tasks in the split.
        count: how many indices; None for all.

    Returns:
        Different numbers from 0 to `size - 1`.
    """
    target = round(size * _GOLDEN_RATIO)
    nearby = (target + sign * distance for distance in range(size) for sign in (1, -1))
    step = next((number for number in nearby if number > 0 and math.gcd(number, size) == 1), 1)
    return [place * step % size for place in range(size if count is None else min(count, size))]


class Walk:
    """Endless walk through the indices of a split: each once in a pass, in another random order in each pass.

    The order is a Feistel permutation of a grid of about `size` cells. Its random numbers, about four times the square
    root of `size`, are no part of the walk, because every environment may have one: those of a few walks are kept, and
    the others are drawn again for each index.

    Args:
        size: number of tasks.
        first: the index that the first pass begins with.
        seed: what the orders depend on.
        owner: the generator that `first` was drawn from; the walk ends when the environment has another.
    """

    __slots__ = ("_first", "_in_pass", "_pass", "_place", "_seed", "_shift", "owner", "size")

    def __init__(self, size: int, first: int, seed: int, owner: Any = None) -> None:
        self.size = size
        self.owner = owner
        self._first = first
        self._seed = seed
        self._pass = self._in_pass = self._place = self._shift = 0

    def __next__(self) -> int:
        """Return the next index."""
        if self._in_pass == self.size:
            self._pass += 1
            self._in_pass = self._place = self._shift = 0
        self._in_pass += 1
        if self._pass == 0 and self._in_pass == 1:
            # Nothing is drawn for an environment that gets a seed at every reset.
            return self._first
        numbers = _numbers(self._seed, self.size, self._pass)
        if self._pass == 0 and self._in_pass == 2:
            self._shift = (self._first - self._permuted(numbers)) % self.size
        index = self._permuted(numbers) + self._shift
        return index - self.size if index >= self.size else index

    def __iter__(self) -> Walk:
        return self

    def _permuted(self, numbers: bytes) -> int:
        """Return what the permutation has at the next place; the few cells beyond the size are passed over."""
        rows, columns = _grid(self.size)
        while True:
            row, column = divmod(self._place, columns)
            self._place += 1
            # Rows first: consecutive places lie in one row.
            row = (row + _number(numbers, column)) % rows
            column = (column + _number(numbers, columns + row)) % columns
            row = (row + _number(numbers, columns + rows + column)) % rows
            column = (column + _number(numbers, 2 * columns + rows + row)) % columns
            index = row * columns + column
            if index < self.size:
                return index


def _grid(size: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of a walk's grid."""
    rows = math.isqrt(size - 1) + 1
    return rows, -(-size // rows)


@lru_cache(maxsize=64)
def _numbers(seed: int, size: int, number_of_pass: int) -> bytes:
    """Return the random numbers of a walk's pass, four bytes each."""
    # SHAKE, not numpy: its streams may change from version to version.
    name = f"walk {seed} {size} {number_of_pass}"
    return hashlib.shake_128(name.encode()).digest(8 * sum(_grid(size)))


def _number(numbers: bytes, place: int) -> int:
    return int.from_bytes(numbers[4 * place : 4 * place + 4], "little")


class SharedWalk:
    """Part that one of several takers has in a walk: what one took, no other gets in the same pass.

    Takers of one group get the same indices, at whatever time each of them asks.

    Args:
        walk: shared by all groups.
        group: shared by the takers of a group: index and takers still to come, by place in the group's order.
        takers: how many takers the group has.
        owner: as of a `Walk`.
    """

    __slots__ = ("_group", "_place", "_takers", "_walk", "owner", "size")

    def __init__(self, walk: Walk, group: dict[int, list[int]], takers: int, owner: Any = None) -> None:
        self.size = walk.size
        self.owner = owner
        self._walk = walk
        self._group = group
        self._takers = takers
        self._place = 0

    def __next__(self) -> int:
        """Return the next index."""
        taken = self._group.get(self._place)
        if taken is None:
            taken = self._group[self._place] = [next(self._walk), self._takers]
        taken[1] -= 1
        if not taken[1]:
            del self._group[self._place]
        self._place += 1
        return taken[0]
