"""Validation of settings: the fields of a frozen dataclass, checked by type annotation and range.

@dataclass(frozen=True, kw_only=True)
class Sampling:
    max_new_tokens: int = setting(512, low=1)
    temperature: float = setting(1.0, above=0)

    def __post_init__(self) -> None:
        check_settings(self)
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import types
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.storage import absolute_path

__all__ = [
    "absolute_paths",
    "check_names",
    "check_settings",
    "check_value",
    "path_setting",
    "setting",
    "value_kinds",
    "wanted_words",
]

_WORDS: Mapping[Any, str] = MappingProxyType(
    {bool: "true or false", str: "text", Mapping: "a section with settings", type(None): "null"}
)


SettingsT = TypeVar("SettingsT")


def setting(default: Any, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf) -> Any:
    """Dataclass field for a number in a range, which `check_settings` checks.

    Args:
        default: of the field.
        low: least value.
        high: greatest value.
        above: the value must be greater than this.
    """
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "above": above})


def path_setting(default: Any = dataclasses.MISSING, *, names: Collection[str] = ()) -> Any:
    """Dataclass field for a file or folder, or several, or for a name where there is no such file.

    Args:
        default: of the field; without one it must be given.
        names: texts that mean something else than a file of that name.
    """
    return dataclasses.field(default=default, metadata={"path": tuple(names)})


def absolute_paths(settings: SettingsT) -> SettingsT:
    """Return a dataclass instance with its `path_setting`s absolute, and those of the dataclasses nested in it.

    A value that is no file here, such as the name of a model on a hub, stays as it is.
    """
    changed = {}
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        value = getattr(settings, field.name)
        if "path" in field.metadata:
            changed[field.name] = absolute_path(value, field.metadata["path"])
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            changed[field.name] = absolute_paths(value)
    return dataclasses.replace(settings, **changed)  # type: ignore[type-var]


def check_names(owner: type, given: Mapping[str, Any]) -> None:
    """Check that names are fields of a dataclass.

    Raises:
        UnknownName: one is not; the message has the fields there are.
    """
    known = [field.name for field in dataclasses.fields(owner)]
    for name in given:
        if name not in known:
            raise UnknownName(
                f"{owner.__name__} has no setting {name!r}; it has {', '.join(known)}.{did_you_mean(name, known)}"
            )


def check_settings(owner: Any) -> None:
    """Check each field of a dataclass instance; called in its `__post_init__`.

    Raises:
        InvalidOption: a value does not have the annotated type or is out of range.
    """
    kind: Any = type(owner)
    hints = _hints(kind)
    for field in dataclasses.fields(owner):
        name = f"{kind.__name__}.{field.name}"
        limits = {key: value for key, value in field.metadata.items() if key in ("low", "high", "above")}
        check_value(name, getattr(owner, field.name), hints[field.name], **limits)


def check_value(
    name: str,
    value: object,
    hint: Any,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: float = -math.inf,
) -> None:
    """Check one value against a type annotation and, if it is a number, a range.

    Args:
        name: of the setting, for the message.
        value: to check.
        hint: `int`, `float`, `bool`, `str`, a `Literal`, `tuple[kind, ...]`, a class such as `Mapping`, or a union of
            those. Numbers must be finite; whole numbers are floats too; `True` is no number.
        low: least number.
        high: greatest number.
        above: a number must be greater than this.

    Raises:
        InvalidOption: the message has the name, the value and what was wanted.
    """
    kinds = value_kinds(hint)
    if any(_fits(value, kind, low, high, above) for kind in kinds):
        return
    wanted = wanted_words(hint, low=low, high=high, above=above)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    raise InvalidOption(f"{name} is {value!r}; wanted {wanted}.{did_you_mean(value, choices)}")


def wanted_words(hint: Any, *, low: float = -math.inf, high: float = math.inf, above: float = -math.inf) -> str:
    """Return the values that a setting takes, in words; the arguments are those of `check_value`."""
    return " or ".join(_words(kind, _range_words(low, high, above)) for kind in value_kinds(hint))


def value_kinds(hint: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the annotation itself."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


@functools.cache
def _hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner)


def _fits(value: Any, kind: Any, low: float, high: float, above: float) -> bool:
    if kind is Any:
        return True
    if kind in (int, float):
        is_number = isinstance(value, numbers.Integral if kind is int else numbers.Real)
        return is_number and not isinstance(value, bool) and low <= value <= high and above < value < math.inf
    if get_origin(kind) is Literal:
        return any(type(value) is type(choice) and value == choice for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(part, get_args(kind)[0], low, high, above) for part in value)
    return isinstance(value, get_origin(kind) or kind)


def _words(kind: Any, number_range: str) -> str:
    if kind in (int, float):
        return ("a whole number" if kind is int else "a number") + number_range
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple:
        return f"a list, each item {_words(get_args(kind)[0], number_range)}"
    plain = get_origin(kind) or kind
    return _WORDS.get(plain, f"a {plain.__name__}")


def _range_words(low: float, high: float, above: float) -> str:
    if low > -math.inf and high < math.inf:
        return f" from {low:g} to {high:g}"
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("above", above), ("of at least", low), ("of at most", high))
        if math.isfinite(bound)
    ]
    return f" {' and '.join(bounds)}" if bounds else ""
