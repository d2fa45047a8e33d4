from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest

from sdar_agents.settings.checks import check_names, check_settings, check_value, setting
from sdar_envs.errors import InvalidOption, UnknownName


@dataclass(frozen=True)
class Nested:
    rank: int = 1


@dataclass(frozen=True, kw_only=True)
class Options:
    steps: int = setting(1, low=1)
    temperature: float = setting(1.0, above=0)
    gamma: float = setting(0.9, low=0, high=1)
    cap: float | None = setting(None, low=1)
    kind: Literal["old", "live"] | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 3),
        (int, np.int64(3)),
        (float, 3),
        (float, np.float32(0.5)),
        (float | None, None),
        (bool, False),
        (int | bool, True),
        (str | None, "a"),
        (Literal["old", 2], 2),
        (int | Literal["auto"], "auto"),
        (tuple[str, ...], ("a", "b")),
        (tuple[int, ...], ()),
        (Mapping[str, Any], {"a": 1}),
        (Nested | None, Nested()),
        (Any, object()),
    ],
)
def test_values_of_the_annotated_type_are_accepted(hint: Any, value: object) -> None:
    check_value("a.b", value, hint)


@pytest.mark.parametrize(
    ("hint", "value", "bounds", "message"),
    [
        (int, 1.5, {}, "a.b is 1.5; wanted a whole number."),
        (int, True, {}, "a.b is True; wanted a whole number."),
        (float, "3e-6", {"low": 0}, "a.b is '3e-6'; wanted a number of at least 0."),
        (float, -1, {"low": 0, "high": 1}, "a.b is -1; wanted a number from 0 to 1."),
        (float, 2, {"high": 1}, "a.b is 2; wanted a number of at most 1."),
        (float, 0, {"above": 0}, "a.b is 0; wanted a number above 0."),
        (float, 2, {"above": 0, "high": 1}, "a.b is 2; wanted a number above 0 and of at most 1."),
        (float, float("nan"), {}, "a.b is nan; wanted a number."),
        (float, float("inf"), {"low": 0}, "a.b is inf; wanted a number of at least 0."),
        (float, float("-inf"), {}, "a.b is -inf; wanted a number."),
        (int | None, 0, {"low": 1}, "a.b is 0; wanted a whole number of at least 1 or null."),
        (bool, "yes", {}, "a.b is 'yes'; wanted true or false."),
        (bool, 1, {}, "a.b is 1; wanted true or false."),
        (str, None, {}, "a.b is None; wanted text."),
        (Literal["old", "live"], "odl", {}, "a.b is 'odl'; wanted one of old, live. Did you mean 'old'?"),
        (
            int | Literal["auto"],
            "autto",
            {},
            "a.b is 'autto'; wanted a whole number or one of auto. Did you mean 'auto'?",
        ),
        (Literal[1, 2], True, {}, "a.b is True; wanted one of 1, 2."),
        (tuple[str, ...], ["a"], {}, "a.b is ['a']; wanted a list, each item text."),
        (tuple[str, ...], ("a", 1), {}, "a.b is ('a', 1); wanted a list, each item text."),
        (Mapping[str, Any], 3, {}, "a.b is 3; wanted a section with settings."),
        (Nested | None, 3, {}, "a.b is 3; wanted a Nested or null."),
    ],
)
def test_an_error_has_the_name_the_value_and_what_was_wanted(
    hint: Any, value: object, bounds: dict[str, float], message: str
) -> None:
    with pytest.raises(InvalidOption) as error:
        check_value("a.b", value, hint, **bounds)
    assert str(error.value) == message


def test_a_dataclass_checks_its_fields_when_it_is_constructed() -> None:
    assert Options(cap=2, kind="old", names=("a",)).temperature == 1.0
    for given, message in (
        ({"steps": 0}, "Options.steps is 0; wanted a whole number of at least 1."),
        ({"temperature": 0}, "Options.temperature is 0; wanted a number above 0."),
        ({"cap": 0.5}, "Options.cap is 0.5; wanted a number of at least 1 or null."),
        ({"kind": "liv"}, "Options.kind is 'liv'; wanted one of old, live or null. Did you mean 'live'?"),
    ):
        with pytest.raises(InvalidOption) as error:
            Options(**given)
        assert str(error.value) == message


def test_names_that_are_no_fields_are_refused_with_a_suggestion() -> None:
    check_names(Options, {"steps": 1, "gamma": 0})
    with pytest.raises(UnknownName, match=r"Options has no setting 'gama'; it has steps.*Did you mean 'gamma'\?"):
        check_names(Options, {"steps": 1, "gama": 0})
