"""Schema of rows and configurations that are read from files: kinds of values, with ranges.

A row is a dataclass, and its annotations are its schema:

    @dataclass(frozen=True, slots=True)
    class Row:
        task_id: Name
        score: Number
        cost: Amount | None
        data_set: Name | None = None    # a field with a default may be missing

    make_row(Row, {"task_id": "t/1", "score": 0.5, "cost": None})

An annotation that is a dataclass, or a list of one, stands for an object. Numbers have bounds, so that sums, squares
and charts of whatever is accepted are finite. What does not fit raises `CorruptData`; readers that go on without it
count it in `LeftOut`.
"""

from __future__ import annotations

import math
import types
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from sdar_envs.errors import CorruptData, did_you_mean

__all__ = [
    "AMOUNT",
    "COUNT",
    "FLAG",
    "LIST",
    "NAME",
    "NUMBER",
    "OBJECT",
    "TEXT",
    "Amount",
    "Count",
    "Flag",
    "Kind",
    "LeftOut",
    "MayMiss",
    "Name",
    "Number",
    "Object",
    "Text",
    "check_fields",
    "check_row",
    "choice",
    "json_schema",
    "list_of",
    "make_row",
    "map_of",
    "optional",
]

RowT = TypeVar("RowT")

_LARGEST = 10**15
_LONGEST_NAME = 10_000
_NAMED_LINES = 5
# Characters that an error message shows of what a row holds.
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    Attributes:
        wanted: what it is, in words.
        accepts: whether a value is one.
        schema: the same as JSON Schema, as far as that can say it.
    """

    wanted: str
    accepts: Callable[[Any], bool]
    schema: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class MayMiss:
    """A field of `check_fields` that an object need not have, such as one that older files lack.

    Attributes:
        kind: of its value where it is there.
    """

    kind: Kind


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    # A comparison of an int of any size cannot overflow, as math.isfinite would.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -_LARGEST <= value <= _LARGEST


NAME = Kind(f"text of at most {_LONGEST_NAME:,} characters", _is_name, {"type": "string", "maxLength": _LONGEST_NAME})
TEXT = Kind("text", lambda value: isinstance(value, str), {"type": "string"})
FLAG = Kind("true or false", lambda value: isinstance(value, bool), {"type": "boolean"})
COUNT = Kind(
    "a whole number from 0 to 1e15",
    lambda value: _is_whole(value) and 0 <= value <= _LARGEST,
    {"type": "integer", "minimum": 0, "maximum": _LARGEST},
)
NUMBER = Kind("a number from -1e15 to 1e15", _is_number, {"type": "number", "minimum": -_LARGEST, "maximum": _LARGEST})
AMOUNT = Kind(
    "a number from 0 to 1e15",
    lambda value: _is_number(value) and value >= 0,
    {"type": "number", "minimum": 0, "maximum": _LARGEST},
)
OBJECT = Kind("an object", lambda value: isinstance(value, dict), {"type": "object"})
LIST = Kind("a list", lambda value: isinstance(value, list), {"type": "array"})

Name = Annotated[str, NAME]
"""Text that is shown in a table or names something: of bounded length."""
Text = Annotated[str, TEXT]
Flag = Annotated[bool, FLAG]
Count = Annotated[int, COUNT]
Number = Annotated[float, NUMBER]
Amount = Annotated[float, AMOUNT]
Object = Annotated[Mapping[str, Any], OBJECT]

_NULL = Kind("null", lambda value: value is None, {"type": "null"})
_ANY = Kind("any value", lambda value: True)
_PLAIN: Mapping[Any, Kind] = {
    str: TEXT,
    bool: FLAG,
    int: Kind(
        "a whole number from -1e15 to 1e15",
        lambda value: _is_whole(value) and abs(value) <= _LARGEST,
        {"type": "integer", "minimum": -_LARGEST, "maximum": _LARGEST},
    ),
    float: NUMBER,
    type(None): _NULL,
    Any: _ANY,
}


def optional(kind: Kind) -> Kind:
    """Return the kind of a value that may also be null."""
    return Kind(
        f"{kind.wanted}, or null",
        lambda value: value is None or kind.accepts(value),
        {"anyOf": [kind.schema, _NULL.schema]},
    )


def choice(*values: Any) -> Kind:
    """Return the kind of a value that is one of these."""
    # True would be 1 otherwise.
    known = {(type(value), value) for value in values}
    return Kind(
        f"one of {', '.join(map(str, values))}",
        lambda value: isinstance(value, (str, int)) and (type(value), value) in known,
        {"enum": list(values)},
    )


def list_of(kind: Kind) -> Kind:
    """Return the kind of a list."""
    return Kind(
        f"a list, each item {kind.wanted}",
        lambda value: isinstance(value, list) and all(map(kind.accepts, value)),
        {"type": "array", "items": kind.schema},
    )


def map_of(kind: Kind) -> Kind:
    """Return the kind of an object with any names."""
    return Kind(
        f"an object, each value {kind.wanted}",
        lambda value: isinstance(value, dict) and all(map(_is_name, value)) and all(map(kind.accepts, value.values())),
        {"type": "object", "propertyNames": NAME.schema, "additionalProperties": kind.schema},
    )


def make_row(owner: type[RowT], row: Mapping[str, Any], names: Mapping[str, str] | None = None) -> RowT:
    """Return the dataclass instance of a row; what else the row holds is ignored.

    Args:
        owner: the dataclass; a field with a default may be missing.
        row: as it was read.
        names: by field, its name in the row where that is another one.

    Raises:
        CorruptData: a field is missing, or is of another kind.
    """
    check_row(owner, row, names)
    names, hashable = names or {}, cast("type", owner)
    given = {name: row[names.get(name, name)] for name in _schema(hashable) if names.get(name, name) in row}
    return owner(**given)


def check_row(owner: type, row: Any, names: Mapping[str, str] | None = None, *, where: str = "") -> None:
    """Check an object against the annotations of a dataclass, and the objects in it against those of theirs.

    Args:
        owner: the dataclass.
        row: as it was read.
        names: as in `make_row`.
        where: what the object is called in messages; empty for a row.

    Raises:
        CorruptData: it is no object, or a field is missing or of another kind.
    """
    if not isinstance(row, Mapping):
        raise CorruptData(f"{where or 'the row'} is {_shown(row)}; wanted an object")
    for field_name, (kind, is_needed) in _schema(owner).items():
        name = (names or {}).get(field_name, field_name)
        place = f"{where}.{name}" if where else name
        if name not in row:
            if is_needed:
                raise CorruptData(f"{place} is missing")
        elif isinstance(kind, Kind):
            _check(place, row[name], kind)
        elif isinstance(kind, _ListOf):
            _check(place, row[name], LIST)
            for i, part in enumerate(row[name]):
                check_row(kind.owner, part, where=f"{place}[{i}]")
        else:
            check_row(kind, row[name], where=place)


def check_fields(value: Any, wanted: Mapping[str, Any], name: str, where: str) -> None:
    """Check an object, with the objects in it, which has these fields and no others.

    Args:
        value: the object.
        wanted: by name, a `Kind`, or the fields of an object; `MayMiss` of a kind for a field that may be missing.
        name: of the file, for the message.
        where: what the object is; `the record`, or the path of its field.

    Raises:
        CorruptData: it does not fit.
    """
    if not isinstance(value, dict):
        raise CorruptData(f"{name}: {where} is {_shown(value)}; wanted an object.")
    for key in value:
        if key not in wanted:
            raise CorruptData(f"{name}: {where} has a field {key!r}, which no record has.{did_you_mean(key, wanted)}")
    for key, kind in wanted.items():
        place = key if where == "the record" else f"{where}.{key}"
        if isinstance(kind, MayMiss):
            if key in value:
                _check_field(name, place, value[key], kind.kind)
        elif key not in value:
            raise CorruptData(f"{name}: {place} is missing.")
        elif isinstance(kind, Kind):
            _check_field(name, place, value[key], kind)
        else:
            check_fields(value[key], kind, name, place)


def json_schema(owner: type | Mapping[str, Any], names: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the JSON Schema of an object: that of a dataclass, or of fields as `check_fields` takes them.

    Args:
        owner: the dataclass, or the fields by name. An object of the latter has no others.
        names: as in `make_row`.
    """
    if isinstance(owner, Mapping):
        parts = {name: part.kind if isinstance(part, MayMiss) else part for name, part in owner.items()}
        return {
            "type": "object",
            "properties": {name: _part_schema(part) for name, part in parts.items()},
            "required": [name for name, part in owner.items() if not isinstance(part, MayMiss)],
            "additionalProperties": False,
        }
    named = {(names or {}).get(name, name): part for name, part in _schema(owner).items()}
    return {
        "type": "object",
        "properties": {name: _part_schema(part) for name, (part, _) in named.items()},
        "required": [name for name, (_, is_needed) in named.items() if is_needed],
    }


def _part_schema(part: Any) -> Mapping[str, Any]:
    if isinstance(part, Kind):
        return part.schema
    return {"type": "array", "items": json_schema(part.owner)} if isinstance(part, _ListOf) else json_schema(part)


def _check_field(name: str, place: str, value: Any, kind: Kind) -> None:
    if not kind.accepts(value):
        raise CorruptData(f"{name}: {place} is {_shown(value)}; wanted {kind.wanted}.")


@dataclass(slots=True)
class LeftOut:
    """Count of the rows of a file that cannot be read or do not fit, and the reason of the first.

    Attributes:
        file: name of the file.
        numbers: of the lines that are left out, from 1, in rising order.
        reason: of the first.
    """

    file: str
    numbers: list[int] = field(default_factory=list)
    reason: str = ""

    def add(self, number: int, error: Exception) -> None:
        """Count a line."""
        if not self.numbers or number < self.numbers[0]:
            self.reason = " ".join(str(error).split()).removesuffix(".").removesuffix(": remove the line")
        insort(self.numbers, number)

    def clear(self) -> None:
        """Forget all lines: the file is read again."""
        self.numbers.clear()
        self.reason = ""

    def sentence(self) -> str:
        """Return what is left out and why, or nothing if there is nothing."""
        if not self.numbers:
            return ""
        one = len(self.numbers) == 1
        lines = "1 line" if one else f"{len(self.numbers):,} lines"
        left_out = "is left out: number" if one else "are left out: numbers"
        named = ", ".join(map(str, self.numbers[:_NAMED_LINES])) + (", …" if len(self.numbers) > _NAMED_LINES else "")
        which = "" if one else "the first: "
        return f"{lines} of {self.file} cannot be read and {left_out} {named} ({which}{self.reason})."


def _check(name: str, value: Any, kind: Kind) -> None:
    if not kind.accepts(value):
        raise CorruptData(f"{name} is {_shown(value)}; wanted {kind.wanted}")


def _shown(value: Any) -> str:
    if isinstance(value, int) and abs(value) > 10**_SHOWN:
        return f"a number of {int(math.log10(abs(value))) + 1} digits"
    text = f"{value!r:.{_SHOWN}}"
    return text if len(text) < _SHOWN else f"{text}…"


@cache
def _schema(owner: Any) -> dict[str, tuple[Any, bool]]:
    """Return by field its kind, or the dataclass of an object, and whether it must be there."""
    hints = get_type_hints(owner, include_extras=True)
    return {
        part.name: (_part(hints[part.name]), part.default is part.default_factory is MISSING) for part in fields(owner)
    }


class _ListOf(NamedTuple):
    """A list of objects, each of a dataclass."""

    owner: type


def _part(hint: Any) -> Any:
    if is_dataclass(hint):
        return hint
    if get_origin(hint) in (list, tuple) and is_dataclass(get_args(hint)[0]):
        return _ListOf(get_args(hint)[0])
    return _kind(hint)


def _kind(hint: Any) -> Kind:
    """Return the kind of value that an annotation stands for."""
    if hint in _PLAIN:
        return _PLAIN[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind: Kind = parts[1]
        return kind
    if origin is Literal:
        return choice(*parts)
    if origin in (Union, types.UnionType):
        kinds = [_kind(part) for part in parts]
        return Kind(
            ", or ".join(kind.wanted for kind in kinds),
            lambda value: any(kind.accepts(value) for kind in kinds),
            {"anyOf": [kind.schema for kind in kinds]},
        )
    if origin is Mapping:
        return map_of(_kind(parts[1]))
    if origin in (list, tuple):
        return list_of(_kind(parts[0]))
    raise TypeError(f"no schema is known for the annotation {hint!r}")
