"""The JSON Schemas of rows and records say what the readers check."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from helpers.run_folders import config, episode

from sdar_benchmarks.leaderboard.records import FIELDS, check_record
from sdar_benchmarks.records.runs import ROW_NAMES, Episode, RunConfig
from sdar_benchmarks.records.schema import check_row, json_schema
from sdar_envs.errors import CorruptData

RECORDS = sorted((Path(__file__).parents[3] / "benchmarks" / "results").glob("*.json"))
TYPES = {"string": str, "object": dict, "array": list, "null": type(None), "boolean": bool}
KNOWN = {
    *("type", "properties", "required", "additionalProperties", "propertyNames", "items", "anyOf", "enum", "const"),
    *("minimum", "maximum", "maxLength", "pattern", "minItems", "uniqueItems", "format"),
}


def fits(value: Any, schema: Mapping[str, Any]) -> bool:
    """Whether a value fits a schema of these keywords."""
    assert set(schema) <= KNOWN, set(schema) - KNOWN
    kind = schema.get("type")
    if kind in ("number", "integer"):
        is_number = isinstance(value, int if kind == "integer" else (int, float)) and not isinstance(value, bool)
        if not is_number or not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            return False
    elif kind is not None and not isinstance(value, TYPES[kind]):
        return False
    if isinstance(value, dict):
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        known = all(fits(value[name], part) for name, part in properties.items() if name in value)
        rest = [name for name in value if name not in properties]
        if not known or not set(schema.get("required", ())) <= set(value):
            return False
        if rest and (others is False or (others is not True and not all(fits(value[name], others) for name in rest))):
            return False
    if isinstance(value, list):
        if not all(fits(part, schema.get("items", {})) for part in value) or len(value) < schema.get("minItems", 0):
            return False
        if schema.get("uniqueItems") and len(set(value)) < len(value):
            return False
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        return False
    if "anyOf" in schema and not any(fits(value, part) for part in schema["anyOf"]):
        return False
    return value in schema.get("enum", [value]) and value == schema.get("const", value)


def agrees(check: Any, value: Any, schema: Mapping[str, Any]) -> bool:
    """Return whether a value fits; reader and schema must say the same."""
    try:
        check(value)
        is_read = True
    except CorruptData:
        is_read = False
    assert fits(value, schema) == is_read
    return is_read


def changes(row: Mapping[str, Any]):
    """A row with one field changed or missing, for each field and some values."""
    for name in row:
        for value in (None, True, -1, 0.5, 10**16, "", "x", [], {}, [1, "a"], {"a": 1}):
            yield {**row, name: value}
        yield {key: value for key, value in row.items() if key != name}


def test_rows_of_episodes() -> None:
    schema = json_schema(Episode, ROW_NAMES)
    row = episode(0)
    answers = [agrees(lambda value: check_row(Episode, value, ROW_NAMES), changed, schema) for changed in changes(row)]
    assert agrees(lambda value: check_row(Episode, value, ROW_NAMES), row, schema)
    assert True in answers
    assert False in answers


def test_configurations() -> None:
    schema = json_schema(RunConfig)
    answers = [agrees(lambda value: check_row(RunConfig, value), changed, schema) for changed in changes(config())]
    assert agrees(lambda value: check_row(RunConfig, value), config(), schema)
    assert False in answers


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_records_of_the_leaderboard(path: Path) -> None:
    schema = json_schema(FIELDS)
    record = json.loads(path.read_text())
    assert agrees(lambda value: check_record(value, "record"), record, schema)


def test_damaged_records() -> None:
    schema = json_schema(FIELDS)
    record = json.loads(RECORDS[0].read_text())
    for changed in changes(record):
        # What depends on another field, such as the number of episodes, and days that no calendar has, no schema says.
        if changed.get("date") == record["date"] and changed.get("episodes") == record["episodes"]:
            deep = copy.deepcopy(changed)
            if not fits(deep, schema):
                with pytest.raises(CorruptData):
                    check_record(deep, "record")
    assert not fits({**record, "more": 1}, schema)
