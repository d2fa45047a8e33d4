"""Records of a leaderboard: their fields, where they are kept, their names, and reading and checking them.

`FIELDS` says what a record holds. `env_kwargs` are the arguments of the environment that differ from its defaults.
Shares are 0 to 1; intervals are of 95 %.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from sdar_benchmarks.records.schema import AMOUNT, COUNT, OBJECT, Kind, MayMiss, check_fields, json_schema, optional
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.files.foreign import read_foreign
from sdar_envs.files.json_text import parse_json

__all__ = [
    "FIELDS",
    "FORMAT",
    "Record",
    "check_record",
    "file_name",
    "find_records",
    "load_record",
    "load_records",
    "records_folder",
]

FORMAT = 2


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_day(value: Any) -> bool:
    try:
        return isinstance(value, str) and date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_TEXT = Kind("text", _is_text, {"type": "string", "pattern": r"\S"})
_SOME_AMOUNT = optional(AMOUNT)
_SHARE = Kind(
    "a number from 0 to 1",
    lambda value: AMOUNT.accepts(value) and value <= 1,
    {"type": "number", "minimum": 0, "maximum": 1},
)
_INTERVAL = {"value": _SHARE, "low": _SHARE, "high": _SHARE}


def _is_group(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"episodes", "success", "score"}
        and COUNT.accepts(value["episodes"])
        and all(_SHARE.accepts(value[name]) for name in ("success", "score"))
    )


_GROUPS = Kind(
    "an object of objects with episodes, success and score",
    lambda value: isinstance(value, dict) and all(map(_is_group, value.values())),
    {
        "type": "object",
        "additionalProperties": json_schema({"episodes": COUNT, "success": _SHARE, "score": _SHARE}),
    },
)
_SHARES = Kind(
    "an object of numbers from 0 to 1",
    lambda value: isinstance(value, dict) and all(map(_SHARE.accepts, value.values())),
    {"type": "object", "additionalProperties": _SHARE.schema},
)

_ACTIONS = Kind(
    "an object with bytes, a number, and sha256, 64 hexadecimal digits",
    lambda value: (
        isinstance(value, dict)
        and set(value) == {"bytes", "sha256"}
        and COUNT.accepts(value["bytes"])
        and isinstance(value["sha256"], str)
        and bool(re.fullmatch("[0-9a-f]{64}", value["sha256"]))
    ),
    json_schema({"bytes": COUNT, "sha256": Kind("", bool, {"type": "string", "pattern": "^[0-9a-f]{64}$"})}),
)

FIELDS: Mapping[str, Any] = {
    "format": Kind(f"{FORMAT}", lambda value: value == FORMAT and COUNT.accepts(value), {"const": FORMAT}),
    "env_id": _TEXT,
    "split": _TEXT,
    "env_kwargs": OBJECT,
    "panel": {
        "tasks": Kind(
            "a whole number from 1",
            lambda value: COUNT.accepts(value) and value > 0,
            {"type": "integer", "minimum": 1},
        ),
        "limit": Kind(
            "a whole number or null",
            lambda value: value is None or COUNT.accepts(value),
            {"anyOf": [COUNT.schema, {"type": "null"}]},
        ),
        "variant": Kind("text, which may be empty", lambda value: isinstance(value, str), {"type": "string"}),
        "fingerprint": Kind(
            "at least 16 hexadecimal digits",
            lambda value: isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{16,}", value)),
            {"type": "string", "pattern": "^[0-9a-f]{16,}$"},
        ),
        "data_flags": MayMiss(OBJECT),
        "name": MayMiss(_TEXT),
    },
    "agent": _TEXT,
    "model": Kind(
        "text or null", lambda value: value is None or _is_text(value), {"anyOf": [_TEXT.schema, {"type": "null"}]}
    ),
    "settings": OBJECT,
    "seeds": Kind(
        "a list of different whole numbers",
        lambda value: (
            isinstance(value, list) and bool(value) and all(map(COUNT.accepts, value)) and len(set(value)) == len(value)
        ),
        {"type": "array", "items": COUNT.schema, "minItems": 1, "uniqueItems": True},
    ),
    "episodes": COUNT,
    "metrics": {
        "success": _INTERVAL,
        "score": _INTERVAL,
        "steps": AMOUNT,
        "invalid": _SHARE,
        "malformed": MayMiss(optional(_SHARE)),
        "truncated": MayMiss(optional(_SHARE)),
        "tokens": _SOME_AMOUNT,
        "cost": _SOME_AMOUNT,
        "seconds": AMOUNT,
        "pass_at_k": _SHARES,
        "task_types": _GROUPS,
        "data_sets": _GROUPS,
    },
    "actions": MayMiss(optional(_ACTIONS)),
    "command": _TEXT,
    "revision": Kind(
        "the 40 digits of a commit, or sdar-envs==VERSION",
        lambda value: (
            isinstance(value, str) and bool(re.fullmatch(r"[0-9a-f]{40}|sdar-envs==[0-9][0-9A-Za-z.+!]*", value))
        ),
        {"type": "string", "pattern": "^([0-9a-f]{40}|sdar-envs==[0-9][0-9A-Za-z.+!]*)$"},
    ),
    "date": Kind("a day such as 2026-11-24", _is_day, {"type": "string", "format": "date"}),
    "hardware": OBJECT,
    "versions": OBJECT,
}
"""The fields of a record: a kind of value, or the fields of an object. No others may be there.

`metrics.malformed` and `metrics.truncated` are shares of a model's answers: those that did not keep the format, and
those that the token limit cut. `panel.data_flags` says how the data depart from the reference ones, if they do.
`panel.name` is what tables call its tasks beside the split, such as the corpus of embedded questions.
`actions` is about the file beside the record (see `actions`); null if the actions were too large to be kept.
"""

Record = Mapping[str, Any]


def records_folder(root: Path) -> Path:
    """Return the folder of a leaderboard's records: `benchmarks/results` if it exists, else `results`.

    Args:
        root: folder of the leaderboard.
    """
    inner = root / "benchmarks" / "results"
    return inner if inner.is_dir() else root / "results"


def find_records(path: Path) -> list[Path]:
    """Return the files of the records that a path names: one, those of a leaderboard's folder, or those in a folder.

    Raises:
        MissingData: there is none.
    """
    if not path.is_dir():
        return [path]
    inner = records_folder(path)
    folder = inner if inner.is_dir() else path
    if not (found := sorted(folder.glob("*.json"))):
        raise MissingData(f"there is no record in {folder}: `sdar leaderboard add RUN` makes one.")
    return found


def load_record(path: Path) -> Record:
    """Read a record.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is no record; the message names the field, what it holds and what was wanted.
    """
    try:
        record = parse_json(read_foreign(path), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except MissingData:
        raise
    except (OSError, ValueError) as error:
        raise CorruptData(f"{path} is no JSON ({error}): make the record again by `sdar leaderboard add`.") from error
    check_record(record, path.name)
    if path.name != file_name(record):
        raise CorruptData(f"{path} should be called {file_name(record)}, which follows from what is in it: rename it.")
    checked: Record = record
    return checked


def load_records(root: Path) -> list[Record]:
    """Read all records, sorted by the names of their files.

    Raises:
        CorruptData: a file is no record.
    """
    return [load_record(path) for path in sorted(records_folder(root).glob("*.json"))]


def check_record(record: Any, name: str) -> None:
    """Check a record against `FIELDS`, and its numbers against one another.

    Args:
        record: what a file holds.
        name: of the file, for the message.

    Raises:
        CorruptData: it is no record.
    """
    if isinstance(record, dict) and not FIELDS["format"].accepts(record.get("format")):
        raise CorruptData(
            f"{name}: format is {record.get('format')!r}; wanted {FORMAT}: delete the file and add the run again."
        )
    check_fields(record, FIELDS, name, "the record")
    try:
        json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise CorruptData(f"{name}: a text has half of a surrogate pair ({error}); no table can show it.") from error
    for metric in ("success", "score"):
        numbers = record["metrics"][metric]
        if not numbers["low"] <= numbers["value"] <= numbers["high"]:
            raise CorruptData(f"{name}: metrics.{metric} is {numbers}; wanted low <= value <= high.")
    wanted = record["panel"]["tasks"] * len(record["seeds"])
    if record["episodes"] != wanted:
        raise CorruptData(f"{name}: episodes is {record['episodes']}; wanted tasks times seeds, {wanted}.")


def file_name(record: Record) -> str:
    """Return the name of a record's file: readable, and unique for each agent on each panel."""
    identity = {name: record[name] for name in ("env_id", "split", "env_kwargs", "panel", "agent", "settings", "seeds")}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    words = [record["env_id"].rpartition("/")[2], record["split"], record["agent"], record["model"] or ""]
    readable = "-".join(re.sub(r"[^a-z0-9.]+", "-", word.lower()).strip("-.")[:40] for word in words if word)
    return f"{readable}-{digest}.json"


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"a name is given twice: {next(name for name in names if names.count(name) > 1)!r}")
    return dict(pairs)
