"""Two episodes of one task side by side, from two runs: their turns, aligned by the actions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Any, NamedTuple

from sdar_benchmarks.records.trajectories import EpisodeEntry
from sdar_benchmarks.reports.episode_html import Part, observed, verdicts_of

__all__ = ["Counterparts", "Pair", "ShownPair", "ShownTurn", "aligned"]

# Longer episodes are paired by the number of the turn: aligning takes time by the square of it.
_LONGEST = 2_000

Turn = Mapping[str, Any]


class Pair(NamedTuple):
    """Turns that stand beside each other; None where one episode has none.

    Attributes:
        left: number, from 1, and turn of the first episode.
        right: of the second.
        is_same: the actions are the same.
        is_seen_alike: the observations are the same.
    """

    left: tuple[int, Turn] | None
    right: tuple[int, Turn] | None
    is_same: bool
    is_seen_alike: bool


def aligned(left: Sequence[Any], right: Sequence[Any]) -> list[Pair]:
    """Return the turns of two trajectories in pairs; those with the same actions stand beside each other.

    Args:
        left: turns of the first; what is no object is shown as an observation.
        right: of the second.
    """
    first, second = (
        [turn if isinstance(turn, Mapping) else {"observation": turn} for turn in turns] for turns in (left, right)
    )
    pairs: list[Pair] = []
    for i, j in _places(first, second):
        one = None if i is None else (i + 1, first[i])
        other = None if j is None else (j + 1, second[j])
        alike = [
            one is not None and other is not None and one[1].get(name) == other[1].get(name)
            for name in ("action", "observation")
        ]
        pairs.append(Pair(one, other, *alike))
    return pairs


def _objects(turns: Sequence[Any]) -> list[Turn]:
    return [turn if isinstance(turn, Mapping) else {"observation": turn} for turn in turns]


def _places(first: Sequence[Turn], second: Sequence[Turn]) -> list[tuple[int | None, int | None]]:
    if max(len(first), len(second)) > _LONGEST:
        return list(zip_longest(range(len(first)), range(len(second))))
    one, other = ([str(turn.get("action")) for turn in turns] for turns in (first, second))
    # The matcher looks for the longest common part, which need not be the beginning.
    unequal = (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    common = next(unequal, min(len(one), len(other)))
    places: list[tuple[int | None, int | None]] = [(i, i) for i in range(common)]
    matcher = SequenceMatcher(None, one[common:], other[common:], autojunk=False)
    for _, i, i_end, j, j_end in matcher.get_opcodes():
        places += zip_longest(range(common + i, common + i_end), range(common + j, common + j_end))
    return places


class Counterparts:
    """Episodes of another run by task: with the same seed if there is one, else the first; the last attempt."""

    def __init__(self, entries: Iterable[EpisodeEntry]) -> None:
        self._by_task: dict[tuple[str, str], dict[int, EpisodeEntry]] = {}
        for entry in entries:
            self._by_task.setdefault((entry.id.env_id, entry.id.task_id), {})[entry.id.seed] = entry

    def of(self, entry: EpisodeEntry) -> EpisodeEntry | None:
        """Return the episode that stands beside one of the first run; None if its task was not played."""
        found = self._by_task.get((entry.id.env_id, entry.id.task_id), {})
        return found.get(entry.id.seed) or next(iter(found.values()), None)


class ShownTurn(NamedTuple):
    """A turn in the form that the template `difference.html` shows; `is_open` unfolds what was seen."""

    number: int
    verdicts: Sequence[str]
    seen: Sequence[Part]
    is_open: bool
    response: str
    action: str

    @classmethod
    def of(cls, turn: tuple[int, Turn] | None, *, is_open: bool) -> ShownTurn | None:
        """Return a turn with its number; None stays None."""
        if turn is None:
            return None
        number, facts = turn
        texts = [value if isinstance(value := facts.get(name), str) else "" for name in ("response", "action")]
        return cls(number, verdicts_of(facts), observed(facts, None), is_open, *texts)


class ShownPair(NamedTuple):
    """A pair of turns in the form that the template `difference.html` shows."""

    left: ShownTurn | None
    right: ShownTurn | None
    is_same: bool

    @classmethod
    def of(cls, pair: Pair) -> ShownPair:
        """Return a pair of `aligned`."""
        # Observations are folded where they are alike.
        left, right = (ShownTurn.of(turn, is_open=not pair.is_seen_alike) for turn in (pair.left, pair.right))
        return cls(left, right, pair.is_same)
