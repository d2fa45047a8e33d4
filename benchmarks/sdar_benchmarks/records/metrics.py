"""Metrics of a training run: reader of `metrics.jsonl`, a row per step, `{"step": 3, "rollout/success": 0.25, ...}`.

Rows need not have the same metrics. Values that are no finite number, and a torn last line, are left out. If a resumed
run wrote a step again, the last row of the step counts. In rows of format 1 the share of malformed completions is
called `invalid` (`rollout/invalid`, `eval/.../invalid`) and there is no `malformed`: it is read as `malformed`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from sdar_envs.errors import CorruptData

__all__ = ["METRICS", "read_metrics", "smoothed", "thinned"]

METRICS = "metrics.jsonl"

Point = tuple[float, float]


def read_metrics(folder: Path) -> dict[str, list[Point]]:
    """Return the points (step, value) of each metric by its path, by rising step; empty if there is no file.

    Raises:
        CorruptData: a line other than a torn last one is no object with a step.
    """
    try:
        lines = (folder / METRICS).read_bytes().split(b"\n")
    except FileNotFoundError:
        return {}
    values: dict[str, dict[float, float]] = {}
    for number, line in enumerate(lines[:-1], 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            step = row["step"]
            if isinstance(step, bool) or not isinstance(step, (int, float)) or not math.isfinite(step):
                raise TypeError(f"step is {step!r}")
        except (ValueError, LookupError, TypeError) as error:
            raise CorruptData(
                f"{folder / METRICS}, line {number}, is no object with a step ({error}): remove the line."
            ) from error
        for name, value in _renamed(row).items():
            if name != "step" and isinstance(value, (int, float)) and math.isfinite(value):
                values.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in sorted(values.items())}


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with the present names of its metrics."""
    renamed = {}
    for name, value in row.items():
        path, slash, last = name.rpartition("/")
        is_old = bool(slash) and last == "invalid" and f"{path}/malformed" not in row
        renamed[f"{path}/malformed" if is_old else name] = value
    return renamed


def smoothed(points: Sequence[Point], span: float) -> list[Point]:
    """Exponential moving average of unevenly spaced points.

    s_i = sum_j w^(x_i - x_j) y_j / sum_j w^(x_i - x_j) over j <= i, with w = exp(-1 / span): the weight of a value
    fades with its distance in steps, so sparse metrics are smoothed as far as dense ones.

    Args:
        points: (x, y), by rising x.
        span: in steps; 0 leaves the curve as it is.
    """
    if span <= 0:
        return list(points)
    result: list[Point] = []
    total = weight = 0.0
    before = points[0][0] if points else 0.0
    for x, y in points:
        fade = math.exp((before - x) / span)
        total, weight, before = total * fade + y, weight * fade + 1.0, x
        result.append((x, total / weight))
    return result


def thinned(points: Sequence[Point], most: int = 400) -> list[Point]:
    """Downsample a curve to at most `most` points: means of neighbours, and the last point unchanged."""
    if len(points) <= most:
        return list(points)
    ends = [len(points) * i // (most - 1) for i in range(most)]
    groups = (points[start:end] for start, end in pairwise(ends))
    means = [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
    return [*means, points[-1]]
