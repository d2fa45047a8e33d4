from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.settings.reader import build, merge, parse_overrides, read_yaml, to_plain
from sdar_envs.errors import InvalidOption


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = setting(1.0, low=0)
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    other: Inner | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_settings(self)


def test_sections_become_nested_dataclasses() -> None:
    made = build(Outer, {"name": "a", "inner": {"rate": 3, "stop": ["x"]}, "other": {}, "options": {"k": 1}})
    assert made == Outer(name="a", inner=Inner(rate=3.0, stop=("x",)), other=Inner(), options={"k": 1})
    assert type(made.inner.rate) is float
    assert build(Outer, {"name": "a", "inner": None}).inner == Inner()


def test_an_item_of_a_list_with_a_wrong_type_is_refused_by_its_path() -> None:
    with pytest.raises(InvalidOption, match=r"^inner\.stop is \(1,\); wanted a list, each item text\.$"):
        build(Outer, {"name": "a", "inner": {"stop": [1]}})


def test_command_line_values_in_free_sections_are_parsed_as_yaml() -> None:
    given = merge({"name": "a", "options": {"k": 1, "l": 2}}, parse_overrides(["--options.k", "3e-6"]))
    assert build(Outer, given).options == {"k": 3e-6, "l": 2}


def test_merging_leaves_both_sides_as_they_were() -> None:
    base, over = {"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}
    assert merge(base, over) == {"a": {"b": 3, "c": 2}}
    assert (base, over) == ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}})


def test_plain_values_are_those_that_yaml_can_hold() -> None:
    plain = to_plain(Outer(name="a", inner=Inner(rate=np.float64(0.5)), options={"n": np.int64(3), "yes": True}))
    assert plain["inner"] == {"rate": 0.5, "stop": []}
    assert type(plain["inner"]["rate"]) is float
    assert type(plain["options"]["n"]) is int
    assert plain["options"]["yes"] is True


def test_a_value_of_a_section_is_what_yaml_1_2_says() -> None:
    assert read_yaml("a: [on, no, 0o7, 1e3]", "here") == {"a": ["on", "no", "0o7", 1000.0]}
