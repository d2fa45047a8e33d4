"""Metrics of a training run: reader of `metrics.jsonl`, a row per step, `{"step": 3, "rollout/success": 0.25, ...}`.

Rows need not have the same metrics. Values that are no number from -1e100 to 1e100, and a torn last line, are left out.
If a resumed run wrote a step again, the last row of the step counts. In rows of format 1 the share of malformed
completions is called `invalid` (`rollout/invalid`, `eval/.../invalid`) and there is no `malformed`: it is read as
`malformed`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from sdar_benchmarks.records.schema import NAME, LeftOut, Number, make_row
from sdar_envs.errors import CorruptData
from sdar_envs.files.lines import numbered_rows

__all__ = ["METRICS", "read_metrics", "smoothed", "thinned"]

METRICS = "metrics.jsonl"

Point = tuple[float, float]

_MOST_METRICS = 1_000


@dataclass(frozen=True, slots=True)
class _Step:
    """Schema of a row; all other fields are metrics."""

    step: Number


def read_metrics(folder: Path, left_out: LeftOut | None = None) -> dict[str, list[Point]]:
    """Return the points (step, value) of each metric by its path, by rising step; empty if there is no file.

    Args:
        folder: of the run.
        left_out: counts the rows that cannot be read or have no step; None refuses them.

    Raises:
        CorruptData: a line other than a torn last one is no object with a step, or the file is no regular file.
    """
    path = folder / METRICS
    values: dict[str, dict[float, float]] = {}
    for number, row in numbered_rows(path, left_out.add if left_out else None):
        try:
            step = make_row(_Step, row).step
            if len(row) > _MOST_METRICS:
                raise CorruptData(f"the row has {len(row):,} fields; wanted at most {_MOST_METRICS:,}")
        except CorruptData as error:
            if left_out is None:
                raise CorruptData(f"{path}, line {number}, is no row of metrics ({error}): remove the line.") from error
            left_out.add(number, error)
            continue
        for name, value in _renamed(row).items():
            if name != "step" and _is_value(value) and NAME.accepts(name):
                values.setdefault(name, {})[step] = float(value)
    return {name: sorted(points.items()) for name, points in sorted(values.items())}


def _is_value(value: Any) -> bool:
    # The sums and squares of what is larger need not be finite.
    return isinstance(value, (int, float)) and abs(value) <= 1e100


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
