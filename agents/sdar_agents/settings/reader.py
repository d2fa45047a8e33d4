"""Strict configuration reader: YAML files and `--a.b value` overrides into nested frozen dataclasses.

`sdar_envs.files.yaml_text` reads the YAML. `build` constructs a dataclass and the dataclasses nested in it; it checks
names and types, and the dataclasses check ranges (`check_settings`). Unknown keys are errors, with a suggestion.
"""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, get_origin, get_type_hints

from sdar_agents.settings.checks import check_value, value_kinds
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.files.yaml_text import read_yaml

__all__ = ["Given", "build", "errors_at", "merge", "parse_overrides", "read_yaml", "to_plain"]

ConfigT = TypeVar("ConfigT")


@dataclasses.dataclass(frozen=True, slots=True)
class Given:
    """Unparsed command-line value: kept as text if the setting is a string, else parsed as YAML."""

    text: str


def parse_overrides(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse `--a.b value` and `--a.b=value` into nested dictionaries of `Given`.

    Raises:
        InvalidOption: an argument has another form, or a setting is given twice.
    """
    overrides: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or len(name) < 3:
            raise InvalidOption(f"{name!r} is no setting; wanted --a.b value, such as --learner.lr 3e-6.")
        if not equals:
            if not rest:
                raise InvalidOption(f"{name} has no value: write {name} VALUE.")
            value = rest.pop(0)
        *path, last = name[2:].replace("-", "_").split(".")
        section = overrides
        for part in path:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise InvalidOption(f"both {name} and --{part} have a value; wanted one of the two.")
        if last in section:
            raise InvalidOption(f"{name} is given twice.")
        section[last] = Given(value)
    return overrides


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Recursive dictionary merge: the values of `over` replace those of `base`, section by section."""
    merged = dict(base)
    for name, value in over.items():
        before = merged.get(name)
        merged[name] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged


def build(owner: type[ConfigT], given: Any, path: str = "") -> ConfigT:
    """Construct a dataclass, and the dataclasses nested in it, from a nested dictionary.

    Args:
        owner: the dataclass; its fields are the settings.
        given: values by field name; None or a missing field means the default.
        path: dotted path of this section in the configuration, for error messages.

    Raises:
        UnknownName: a key is no setting.
        InvalidOption: a value has a wrong type or is out of range, or a setting without default is missing.
    """
    if given is None:
        given = {}
    if not isinstance(given, Mapping):
        shown = given.text if isinstance(given, Given) else given
        raise InvalidOption(f"{path or 'the configuration'} is {shown!r:.80}; wanted a section with settings.")
    fields = {field.name: field for field in dataclasses.fields(owner)}  # type: ignore[arg-type]
    for name in given:
        if name not in fields:
            raise UnknownName(
                f"there is no setting {'.'.join(filter(None, (path, str(name))))!r}; "
                f"{path or 'the configuration'} has {', '.join(fields)}.{did_you_mean(name, fields)}"
            )
    for name, field in fields.items():
        if name not in given and field.default is field.default_factory is dataclasses.MISSING:
            raise InvalidOption(f"{'.'.join(filter(None, (path, name)))} is not given, and has no default: set it.")
    hints = get_type_hints(owner)
    values = {name: _value(hints[name], value, ".".join(filter(None, (path, name)))) for name, value in given.items()}
    with errors_at(path, owner):
        return owner(**values)


@contextmanager
def errors_at(path: str, owner: type | None = None) -> Iterator[None]:
    """Context in which errors name the path of a setting in the configuration.

    A dataclass that checks itself does not know where in a configuration it is: it says `reward is 3` or
    `RolloutSettings.reward is 3`, and here that becomes `rollout.reward is 3`.

    Args:
        path: dotted path of the section of a dataclass, empty for the whole configuration; or of one setting.
        owner: the dataclass; None for one setting, whose path is put before the message.
    """
    try:
        yield
    except (InvalidOption, UnknownName) as error:
        if owner is None or str(error).startswith(f"{owner.__name__} "):
            raise type(error)(f"{path}: {error}") from error
        begin, _, rest = str(error).partition(" ")
        first = begin.removeprefix(f"{owner.__name__}.")
        if first.partition(".")[0] in {field.name for field in dataclasses.fields(owner)}:
            begin = ".".join(filter(None, (path, first)))
        raise type(error)(f"{begin} {rest}") from error


def to_plain(value: Any) -> Any:
    """Convert a dataclass, recursively, to dictionaries, lists and plain values that YAML and JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(part) for part in value]
    if isinstance(value, numbers.Real) and not isinstance(value, bool):  # numpy's too, which YAML cannot represent
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


def _read(value: Any, where: str) -> Any:
    """Parse the command-line values in a value, at any depth."""
    if isinstance(value, Given):
        return read_yaml(value.text, f"--{where}")
    if isinstance(value, Mapping):
        return {name: _read(part, f"{where}.{name}") for name, part in value.items()}
    return value


def _value(hint: Any, value: Any, path: str) -> Any:
    """Convert one given value to the type of its field."""
    kinds = value_kinds(hint)
    nested = [kind for kind in kinds if dataclasses.is_dataclass(kind)]
    if nested and not (type(None) in kinds and _read(value, path) is None):
        return build(nested[0], value, path)  # type: ignore[arg-type]
    is_text = isinstance(value, Given) and str in kinds
    if is_text and not (type(None) in kinds and value.text in ("null", "~", "")):
        return value.text
    value = _read(value, path)
    if any(get_origin(kind) is tuple for kind in kinds) and isinstance(value, list):
        value = tuple(value)
    check_value(path, value, hint)
    return float(value) if float in kinds and type(value) is int else value
