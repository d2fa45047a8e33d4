"""Turns of two episodes beside each other."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from sdar_benchmarks.reports import differences
from sdar_benchmarks.reports.differences import aligned

TURNS = st.lists(st.sampled_from("abc"), max_size=12)


def turns(actions: Any) -> list[dict[str, str]]:
    return [{"action": action, "observation": f"saw {action}"} for action in actions]


@given(TURNS, TURNS)
def test_every_turn_stands_once_and_in_order(left: list[str], right: list[str]) -> None:
    pairs = aligned(turns(left), turns(right))
    assert [pair.left[0] for pair in pairs if pair.left] == list(range(1, len(left) + 1))
    assert [pair.right[0] for pair in pairs if pair.right] == list(range(1, len(right) + 1))
    for pair in pairs:
        assert pair.is_same == (bool(pair.left and pair.right) and pair.left[1] == pair.right[1])
    # What both begin with stands beside each other.
    for pair, one, other in zip(pairs, left, right, strict=False):
        if one != other:
            break
        assert pair.is_same


def test_what_one_did_more_stands_alone() -> None:
    pairs = aligned(turns("abcd"), turns("abxcd"))
    assert [pair.is_same for pair in pairs] == [True, True, False, True, True]
    assert pairs[2].left is None
    assert pairs[2].right == (3, {"action": "x", "observation": "saw x"})


def test_long_episodes_and_odd_turns(monkeypatch: Any) -> None:
    monkeypatch.setattr(differences, "_LONGEST", 3)
    pairs = aligned(turns("abcd"), turns("bcd"))
    assert [pair.is_same for pair in pairs] == [False] * 4
    [pair] = aligned([3], [{"observation": 3}])
    assert pair.is_seen_alike
