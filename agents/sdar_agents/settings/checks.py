"""Settings are the fields of a frozen dataclass: checked by their annotation and their range."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean

__all__ = ["check_names", "check_settings", "check_value", "setting"]


def setting(default: Any, *, low: float = -math.inf, high: float = math.inf) -> Any:
    """Return a dataclass field for a number from `low` to `high`, both included."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high})


def check_names(owner: type, given: Mapping[str, Any]) -> None:
    """Refuse what is not a setting of this class.

    Raises:
        UnknownName: there is no such setting.
    """
    known = [field.name for field in dataclasses.fields(owner)]
    for name in given:
        if name not in known:
            raise UnknownName(
                f"{owner.__name__} has no setting {name!r}; it has {', '.join(known)}.{did_you_mean(name, known)}"
            )


def check_settings(owner: Any) -> None:
    """Refuse values that do not have the annotated type or are out of range.

    Raises:
        InvalidOption: says which, what came and what was wanted.
    """
    hints = get_type_hints(type(owner))
    for field in dataclasses.fields(owner):
        low, high = field.metadata.get("low", -math.inf), field.metadata.get("high", math.inf)
        name = f"{type(owner).__name__}.{field.name}"
        check_value(name, getattr(owner, field.name), hints[field.name], low=low, high=high)


def check_value(name: str, value: object, hint: Any, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse a value that does not have the annotated type or is out of range.

    Args:
        name: in the message.
        value: what came.
        hint: numbers, truth values, text, choices, lists, mappings or dataclasses, optional or not.
        low: of numbers.
        high: of numbers.

    Raises:
        InvalidOption: says which, what came and what was wanted.
    """
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in kinds:
        return
    if isinstance(value, bool) and bool in kinds:
        return
    is_number = isinstance(value, (int, float) if float in kinds else int) and not isinstance(value, bool)
    if is_number and (float in kinds or int in kinds) and math.isfinite(value) and low <= value <= high:  # type: ignore[arg-type, operator]
        return
    choices = tuple(choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind))
    if isinstance(value, str) and value in choices:
        return
    classes = [get_origin(kind) or kind for kind in kinds if get_origin(kind) is not Literal]
    others = [kind for kind in classes if isinstance(kind, type) and kind not in (float, int, bool, type(None))]
    if any(isinstance(value, kind) for kind in others):
        return
    wanted = []
    if float in kinds or int in kinds:
        wanted.append(("a number" if float in kinds else "a whole number") + _range(low, high))
    if choices:
        wanted.append(f"one of {', '.join(map(str, choices))}")
    if bool in kinds:
        wanted.append("true or false")
    wanted += [_WORDS.get(kind, f"a {kind.__name__}") for kind in others]
    if type(None) in kinds:
        wanted.append("null")
    raise InvalidOption(f"{name} is {value!r}; wanted {' or '.join(wanted)}.{did_you_mean(value, choices)}")


_WORDS: Mapping[type, str] = MappingProxyType({str: "text", tuple: "a list", Mapping: "a section with settings"})


def _range(low: float, high: float) -> str:
    if low == -math.inf and high == math.inf:
        return ""
    if high == math.inf:
        return f" of at least {low:g}"
    return f" of at most {high:g}" if low == -math.inf else f" from {low:g} to {high:g}"
