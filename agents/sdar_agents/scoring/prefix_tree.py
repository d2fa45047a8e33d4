"""Prefix trees (tries) of token sequences: tokens that rows have in common at their beginning are there once.

    tree = prefix_tree(input_ids, lengths)
    states = backbone(input_ids[tree.rows, tree.positions], ...)
    states[tree.index]      # of each token of each row

The segments of a tree stand in depth-first order, so those below a segment follow it without a gap. A token sees the
tokens of its own segment up to itself, and all of the segments above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sdar_envs.errors import InvalidOption

__all__ = ["LEAST_SHARED", "PrefixTree", "Segment", "pack_by_prefix", "prefix_tree"]

LEAST_SHARED = 16
"""Tokens that a segment of several rows must save: a smaller one costs more than that."""


class Segment(NamedTuple):
    """Segment of a prefix tree.

    Attributes:
        start: of its tokens in the packed row.
        end: behind its own tokens.
        last: behind the tokens of all segments below it; `end` if there are none.
    """

    start: int
    end: int
    last: int


@dataclass(frozen=True, slots=True, eq=False)
class PrefixTree:
    """Prefix tree of the rows of a batch, with N tokens.

    Attributes:
        segments: in depth-first order.
        rows: `(N,)`, a row that has the token.
        positions: `(N,)`, where it has it.
        index: the token's number for each token of each row, row by row without padding.
    """

    segments: tuple[Segment, ...]
    rows: Tensor
    positions: Tensor
    index: Tensor

    def to(self, device: torch.device | str) -> PrefixTree:
        """Return the tree on a device."""
        return PrefixTree(self.segments, self.rows.to(device), self.positions.to(device), self.index.to(device))


def prefix_tree(input_ids: Tensor, lengths: Tensor, *, least: int | None = LEAST_SHARED) -> PrefixTree:
    """Return the prefix tree of padded sequences.

    Args:
        input_ids: `(B, T)`, padded on the right.
        lengths: `(B,)`, from 1.
        least: tokens that a segment of several rows must save; None for a segment for each row.
    """
    sizes = lengths.tolist()
    starts = [0] * len(sizes)
    for i in range(1, len(sizes)):
        starts[i] = starts[i - 1] + sizes[i - 1]
    index = torch.empty(sum(sizes), dtype=torch.long)
    segments: list[Segment] = []
    rows: list[Tensor] = []
    positions: list[Tensor] = []
    total = 0
    if least is None:
        order, common = list(range(len(sizes))), [0] * len(sizes)
    else:
        order, common = _sorted_rows(input_ids, sizes)
    # Rows `order[first:behind]`, of which the first `depth` tokens are in segments; None closes a segment.
    todo: list[tuple[int, int, int] | int] = [(0, len(order), 0)] if order else []
    while todo:
        step = todo.pop()
        if isinstance(step, int):
            segments[step] = segments[step]._replace(last=total)
            continue
        first, behind, depth = step
        shared = sizes[order[first]] if behind == first + 1 else min(common[first + 1 : behind])
        if behind - first > 1 and (shared - depth) * (behind - first - 1) < (least or 0):
            own = depth
        else:
            own = shared
            numbers = torch.arange(total, total + own - depth)
            places = torch.arange(depth, own)
            for row in order[first:behind]:
                index[starts[row] + depth : starts[row] + own] = numbers
            rows.append(torch.full_like(places, order[first]))
            positions.append(places)
            if own > depth:
                segments.append(Segment(total, total + own - depth, total + own - depth))
                total += own - depth
                todo.append(len(segments) - 1)
        if behind - first == 1:
            continue
        # Rows that end here come first, as they are the shortest; the others are grouped by their next token.
        cuts = [first] + [i for i in range(first + 1, behind) if common[i] == shared] + [behind]
        for left, right in reversed(list(pairwise(cuts))):
            if right - left > 1 or sizes[order[left]] > own:
                todo.append((left, right, own))
    return PrefixTree(tuple(segments), torch.cat(rows), torch.cat(positions), index)


def pack_by_prefix(input_ids: Tensor, lengths: Tensor, max_tokens: int) -> list[list[int]]:
    """Pack rows into groups of at most `max_tokens` tokens, rows that begin alike together.

    Tokens are counted as in the group's tree, or as a few more. A longer row is a group of its own.
    """
    if max_tokens < 1:
        raise InvalidOption(f"max_tokens is {max_tokens}; wanted a number from 1.")
    sizes = lengths.tolist()
    order, common = _sorted_rows(input_ids, sizes)
    groups: list[list[int]] = []
    total = 0
    for row, shared in zip(order, common, strict=True):
        # Where rows part, fewer than that many tokens may be there more than once.
        new = min(sizes[row], sizes[row] - shared + LEAST_SHARED - 1)
        if groups and total + new <= max_tokens:
            groups[-1].append(row)
            total += new
        else:
            groups.append([row])
            total = sizes[row]
    return groups


def _sorted_rows(input_ids: Tensor, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return the rows in lexicographic order, and how many tokens each has in common with the one before it."""
    ids = input_ids.tolist()
    order = sorted(range(len(sizes)), key=lambda row: ids[row][: sizes[row]])
    common = [0] * len(order)
    for i in range(1, len(order)):
        left, right = order[i - 1], order[i]
        limit = min(sizes[left], sizes[right])
        differs = (input_ids[left, :limit] != input_ids[right, :limit]).nonzero()
        common[i] = int(differs[0, 0]) if len(differs) else limit
    return order, common
