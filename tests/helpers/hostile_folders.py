"""Hostile run folders: a sound run in which values of fields, or whole files, are replaced by what nobody wrote."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from helpers.run_folders import HOSTILE, config, episode, trajectory, turn, write_run

_PLACE = "the place of a hostile value"

VALUES: Mapping[str, str] = {
    "1e9": "1000000000",
    "1e9 as a float": "1e9",
    "negative": "-5",
    "fraction": "0.5",
    "text": '"many"',
    "hostile text": json.dumps(f"{HOSTILE}[red]x[/red]\x1b]8;;http://example.org\x1b\\y\x9b2J\u2066"),
    "long text": json.dumps("x" * 20_000),
    "true": "true",
    "null": "null",
    "Infinity": "Infinity",
    "-Infinity": "-Infinity",
    "NaN": "NaN",
    "1e308": "1e308",
    "400 digits": "9" * 400,
    "5000 digits": "9" * 5000,
    "list": "[]",
    "list of lists": "[[1], {}]",
    "object": "{}",
    "object of objects": '{"a": {"b": [1]}}',
    "nested 60 deep": "[" * 60 + "]" * 60,
    "nested 100,000 deep": "[" * 100_000 + "]" * 100_000,
}
"""JSON texts by name."""

EPISODE_FIELDS = (*episode(), "data_set", "metrics", "data_flags")
TRAJECTORY_FIELDS = (*trajectory(episode()), "step", "group_id", "advantage")
TURN_FIELDS = (*turn(), "tokens", "skills", "advantage", "teacher_prompt")


def with_value(row: Mapping[str, Any], path: str, value: str) -> str:
    """Return a row as JSON with a raw JSON text in the place of a field; `a.b` is the field b of the object a."""
    copy: Any = json.loads(json.dumps(row))
    *outer, last = path.split(".")
    inner = copy
    for name in outer:
        inner = inner[int(name) if isinstance(inner, list) else name]
    inner[int(last) if isinstance(inner, list) else last] = _PLACE
    return json.dumps(copy).replace(json.dumps(_PLACE), value)


def sound_run(folder: Path, **changes: Any) -> Path:
    rows = [episode(task, is_success=task % 2 == 0, steps=2 + task) for task in range(4)]
    token = {"text": "look", "gap": 0.5, "gate": 0.5}
    turns = [turn(messages=[{"role": "user", "content": "Go."}], response="look", tokens=[token])]
    metrics = [{"step": step, "rollout/success": step / 4, "loss": 1.0} for step in range(4)]
    return write_run(
        folder, rows, [trajectory(row, turns) for row in rows], settings=config(**changes), metrics=metrics
    )


def add_lines(folder: Path, file: str, lines: Iterable[str]) -> None:
    with open(folder / file, "a", encoding="utf-8") as stream:
        stream.writelines(f"{line}\n" for line in lines)


def _replace(path: Path, put: Callable[[Path], object]) -> None:
    path.unlink()
    put(path)


FAULTS: Mapping[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "a folder": lambda path: _replace(path, Path.mkdir),
    "a named pipe": lambda path: _replace(path, os.mkfifo),
    "a link to nothing": lambda path: _replace(path, lambda there: there.symlink_to("nowhere")),
    "a device": lambda path: _replace(path, lambda there: there.symlink_to("/dev/zero")),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe{\x80}\n" * 3),
    "zeros": lambda path: path.write_bytes(bytes(10_000) + b"\n"),
    "a number": lambda path: path.write_bytes(b"5\n"),
    "text": lambda path: path.write_bytes(b"once upon a time\n"),
    "a list": lambda path: path.write_bytes(b"[1, 2]\n"),
    "an object": lambda path: path.write_bytes(b"{}\n"),
    "nested": lambda path: path.write_bytes(b'{"a": ' * 100_000 + b"1" + b"}" * 100_000 + b"\n"),
    "one long line": lambda path: path.write_bytes(b'{"a": "' + b"x" * 3_000_000 + b'"}\n'),
    "many brackets": lambda path: path.write_bytes(b"[" * 1_000_000 + b"\n"),
}
"""What may be in the place of a file, by name; each gets the path of a sound one."""
