"""The schema of rows: what annotations stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from sdar_benchmarks.records.schema import Amount, Count, LeftOut, Name, check_row, make_row
from sdar_envs.errors import CorruptData


@dataclass(frozen=True)
class Part:
    tasks: Count


@dataclass(frozen=True)
class Row:
    name: Name
    kind: Literal["ok", 1]
    ratio: float
    parts: list[Part]
    cost: Amount | None = None
    shares: Mapping[str, float] | None = None


SOUND: dict[str, Any] = {"name": "a", "kind": "ok", "ratio": 0.5, "parts": [{"tasks": 1}]}


def test_a_row_becomes_an_instance() -> None:
    assert make_row(Row, {**SOUND, "more": 1}) == Row("a", "ok", 0.5, [{"tasks": 1}])  # type: ignore[list-item]
    assert make_row(Row, {"theirs": "b", **SOUND, "name": 3}, {"name": "theirs"}).name == "b"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": 5}, "name is 5; wanted text of at most 10,000 characters"),
        ({"kind": True}, "kind is True; wanted one of ok, 1"),
        ({"kind": []}, r"kind is \[\]; wanted one of"),
        ({"ratio": True}, "ratio is True; wanted a number from -1e15 to 1e15"),
        ({"ratio": float("nan")}, "ratio is nan"),
        ({"ratio": 10**400}, "ratio is a number of 401 digits"),
        ({"ratio": -(10**4000)}, "ratio is a number of 4001 digits"),
        ({"cost": -1}, "cost is -1; wanted a number from 0 to 1e15, or null"),
        ({"shares": {"a": None}}, "shares is .*wanted an object, each value a number"),
        ({"parts": {}}, "parts is {}; wanted a list"),
        ({"parts": [3]}, r"parts\[0\] is 3; wanted an object"),
        ({"parts": [{"tasks": 1}, {}]}, r"parts\[1\]\.tasks is missing"),
        ({"parts": [{"tasks": 0.5}]}, r"parts\[0\]\.tasks is 0\.5; wanted a whole number"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(CorruptData, match=says):
        check_row(Row, {**SOUND, **change})


def test_left_out_names_the_first_by_its_number() -> None:
    left_out = LeftOut("rows.jsonl")
    assert left_out.sentence() == ""
    for number in (9, 2, 7, 4, 5, 6):
        left_out.add(number, CorruptData(f"reason {number}: remove the line."))
    assert left_out.sentence() == (
        "6 lines of rows.jsonl cannot be read and are left out: numbers 2, 4, 5, 6, 7, … (the first: reason 2)."
    )
