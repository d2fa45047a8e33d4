"""Settings of an algorithm are the fields of its frozen dataclass: checked by their annotation and their range."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean

__all__ = ["check_names", "check_settings", "setting"]


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
        value, hint = getattr(owner, field.name), hints[field.name]
        choices = _choices(hint)
        if choices is not None:
            if not isinstance(value, str) or value not in choices:
                _refuse(owner, field.name, value, f"one of {', '.join(map(str, choices))}", choices)
            continue
        kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
        if value is None and type(None) in kinds:
            continue
        if bool in kinds:
            if not isinstance(value, bool):
                _refuse(owner, field.name, value, "true or false")
            continue
        low, high = field.metadata.get("low", -math.inf), field.metadata.get("high", math.inf)
        wanted = "a whole number" if float not in kinds else "a number"
        is_number = isinstance(value, (int, float) if float in kinds else int) and not isinstance(value, bool)
        if not is_number or not math.isfinite(value) or not low <= value <= high:
            _refuse(owner, field.name, value, wanted + _range(low, high) + (" or null" if type(None) in kinds else ""))


def _choices(hint: Any) -> tuple[str, ...] | None:
    return get_args(hint) if get_origin(hint) is Literal else None


def _range(low: float, high: float) -> str:
    if low == -math.inf and high == math.inf:
        return ""
    if high == math.inf:
        return f" of at least {low:g}"
    return f" of at most {high:g}" if low == -math.inf else f" from {low:g} to {high:g}"


def _refuse(owner: Any, name: str, value: object, wanted: str, choices: tuple[str, ...] = ()) -> None:
    raise InvalidOption(f"{type(owner).__name__}.{name} is {value!r}; wanted {wanted}.{did_you_mean(value, choices)}")
