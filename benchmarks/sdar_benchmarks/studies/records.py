"""Records of a study: a small file for each finished cell, and a folder for each start with its model.

    OUT/starts/0/model/...          the start, an ordinary model of Hugging Face
    OUT/starts/0/start.json         how it was made, what it can do, its digest
    OUT/cells/seed-00-grpo.json     metrics, configuration and digests of a finished cell

They are all that a report needs, and that another machine needs to go on. What they say of the code and the start must
be what is here and now: cells of other code do not compare.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from sdar_agents.settings.reader import merge, parse_overrides, to_plain
from sdar_agents.training.config import TrainConfig, changed_settings
from sdar_benchmarks.records.metrics import Point, read_metrics
from sdar_benchmarks.records.provenance import training_facts
from sdar_benchmarks.records.schema import make_row
from sdar_benchmarks.studies.design import Cell, Design
from sdar_benchmarks.studies.digest import code_digest
from sdar_benchmarks.studies.measures import CPU_SECONDS
from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.files.json_text import read_json_object
from sdar_envs.storage import write_atomic

__all__ = ["CURVES", "CellRecord", "StartRecord", "StudyFolder", "normalised_area", "record_of_run"]

CURVES = {
    "success": "rollout/success",
    "probe": "probe/plain",
    "probe_with_skills": "probe/with_skills",
    "gradient_ratio": "gradient/ratio",
    "greedy": "end/greedy",
    "with_skills": "end/with_skills",
    "cool": "end/sampled",
}
"""Paths of the metrics that are kept, by the name of the curve."""

_COSTS = ("student_tokens", "prompt_tokens", "teacher_tokens", "tokens", "environment_steps")


@dataclass(frozen=True, slots=True)
class StartRecord:
    """A start: how it was made, what it can do.

    Attributes:
        settings: of model, demonstrations and fine-tuning.
        fingerprint: of its weights.
        measured: see `sdar_benchmarks.studies.measures.measure_start`.
        measured_by: configuration of the panel, by which it was measured.
    """

    settings: Mapping[str, Any]
    fingerprint: str
    measured: Mapping[str, float]
    measured_by: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CellRecord:
    """A finished cell.

    Attributes:
        arm: name of the arm.
        seed: of the training.
        start: number of the start.
        fingerprint: of the start's weights.
        code: digest of the code, see `sdar_benchmarks.studies.digest`.
        config: of the training, without the model's path.
        curves: points (step, value) by name.
        costs: in all; tokens by kind, `environment_steps`, `cpu_seconds`.
        facts: versions, processor, date.
    """

    arm: str
    seed: int
    start: int
    fingerprint: str
    code: str
    config: Mapping[str, Any]
    curves: Mapping[str, Any]
    costs: Mapping[str, float]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def points(self, curve: str) -> list[Point]:
        """Return the points of a curve; none if it was not measured."""
        return [(float(step), float(value)) for step, value in self.curves.get(curve, ())]

    def mean_of_last(self, curve: str, count: int) -> float | None:
        """Return the mean of a curve's last points; None if there is none."""
        values = [value for _, value in self.points(curve)[-count:]]
        return sum(values) / len(values) if values else None


def normalised_area(points: list[Point]) -> float | None:
    """Return the area under a curve, by trapezoids, over its length: a mean over the steps; None without points."""
    if len(points) < 2:
        return points[0][1] if points else None
    area = sum((right[0] - left[0]) * (left[1] + right[1]) / 2 for left, right in pairwise(points))
    return area / (points[-1][0] - points[0][0])


def record_of_run(cell: Cell, config: TrainConfig, run: Path, fingerprint: str) -> CellRecord:
    """Return the record of a finished training run."""
    metrics = read_metrics(run)
    curves = {name: [list(point) for point in metrics[path]] for name, path in CURVES.items() if metrics.get(path)}
    costs = {name: metrics[f"cost_total/{name}"][-1][1] for name in _COSTS if metrics.get(f"cost_total/{name}")}
    costs["cpu_seconds"] = sum(value for _, value in metrics.get(CPU_SECONDS, ()))
    return CellRecord(
        cell.arm, cell.seed, cell.start, fingerprint, code_digest(config), _plain(config), curves, costs,
        training_facts(),
    )  # fmt: skip


class StudyFolder:
    """Folder of a study's records.

    Args:
        path: the folder; it need not exist.
        design: of the study.
    """

    def __init__(self, path: Path, design: Design) -> None:
        self.path = path
        self.design = design

    def model(self, start: int) -> Path:
        """Return the folder of a start's model."""
        return self.path / "starts" / str(start) / "model"

    def start_path(self, start: int) -> Path:
        """Return the file of a start's record."""
        return self.path / "starts" / str(start) / "start.json"

    def cell_path(self, cell: Cell) -> Path:
        """Return the file of a cell's record."""
        return self.path / "cells" / f"{cell.name}.json"

    def config(self, cell: Cell) -> TrainConfig:
        """Return the configuration of a cell's training."""
        return self.design.config(cell.arm, cell.seed, str(self.model(cell.start)))

    def start_name(self, start: int) -> str:
        """Return the name of a start's folder of work: with other settings it is another one."""
        settings = json.dumps(self.start_settings(start), sort_keys=True)
        return f"start-{start}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"

    def start_settings(self, start: int) -> dict[str, Any]:
        """Return the settings that decide a start."""
        settings = self.design.start
        config = self.design.config(self.design.baseline, 0, str(self.model(start)))
        demonstrations = settings.demonstrations(start, config)
        return {
            "model": settings.model,
            "demonstrations": {name: to_plain(asdict(shown)) for name, shown in demonstrations.items()},
            "sft": to_plain(asdict(settings.fine_tuning(start))),
        }

    def read_start(self, start: int) -> StartRecord | None:
        """Return a start's record; None if there is none.

        Raises:
            CorruptData: the file is damaged.
            InvalidOption: it was made with other settings.
        """
        path = self.start_path(start)
        if not path.exists():
            return None
        record = make_row(StartRecord, read_json_object(path))
        if changed := _changed(record.settings, self.start_settings(start), {}):
            raise InvalidOption(f"{path} was made with other settings ({', '.join(changed)}): choose another --out.")
        if changed := _changed(record.measured_by, self._measured_by(start), self._given(self.design.baseline)):
            raise InvalidOption(f"{path} was measured otherwise ({', '.join(changed)}): choose another --out.")
        if not self.model(start).is_dir():
            raise CorruptData(f"{path} is there and {self.model(start)} is not: restore it, or delete the first.")
        return record

    def write_start(self, start: int, fingerprint: str, measured: Mapping[str, float]) -> None:
        """Write a start's record."""
        record = StartRecord(self.start_settings(start), fingerprint, dict(measured), self._measured_by(start))
        write_atomic(self.start_path(start), json.dumps(asdict(record), indent=1) + "\n")

    def read_cell(self, cell: Cell, *, any_code: bool = False) -> CellRecord | None:
        """Return a cell's record; None if there is none.

        Args:
            cell: of the design.
            any_code: also a record of other code.

        Raises:
            CorruptData: the file is damaged.
            InvalidOption: it is of other code, settings or another start.
        """
        path = self.cell_path(cell)
        if not path.exists():
            return None
        record = make_row(CellRecord, read_json_object(path))
        config = self.config(cell)
        if record.code != (code := code_digest(config)) and not any_code:
            raise InvalidOption(
                f"{path} is of other code (digest {record.code}, here {code}), so it does not compare: see with "
                f"--recheck whether the numbers are still the same, check out "
                f"{record.facts.get('revision') or 'its revision'}, or choose another --out."
            )
        if changed := _changed(record.config, _plain(config), self._given(cell.arm)):
            raise InvalidOption(f"{path} was trained with other settings ({', '.join(changed)}): choose another --out.")
        start = self.read_start(cell.start)
        if start is None or start.fingerprint != record.fingerprint:
            raise InvalidOption(f"{path} began from another model than {self.model(cell.start)}: restore its start.")
        return record

    def write_cell(self, cell: Cell, record: CellRecord) -> None:
        """Write a cell's record."""
        write_atomic(self.cell_path(cell), json.dumps(asdict(record)) + "\n")

    def cells(self) -> list[CellRecord]:
        """Return the records of the finished cells, in the order of the design."""
        found = (self.read_cell(cell) for cell in self.design.cells())
        return [record for record in found if record is not None]

    def complete_seeds(self) -> list[int]:
        """Return the seeds of which all cells are finished."""
        cells = self.design.cells()
        missing = {cell.seed for cell in cells if not self.cell_path(cell).exists()}
        return [seed for seed in range(self.design.seeds) if seed not in missing]

    def _given(self, arm: str) -> dict[str, Any]:
        return merge(self.design.given(arm), parse_overrides(self.design.overrides))

    def _measured_by(self, start: int) -> dict[str, Any]:
        config = self.design.config(self.design.baseline, 0, str(self.model(start)))
        plain = _plain(config)
        return {
            **{name: plain[name] for name in ("rollout", "evaluation", "skills")},
            "probe": self.design.measures.probe,
        }


def _plain(config: TrainConfig) -> dict[str, Any]:
    """Return a configuration without what differs between machines and decides nothing."""
    plain = to_plain(config.resolved())
    del plain["model"]["path"]
    for name in ("log", "checkpoints"):
        del plain[name]
    return dict(plain)


def _changed(before: Any, after: Any, given: Mapping[str, Any]) -> list[str]:
    """Return the settings in which two plain configurations differ, those apart that are new and left at their default.

    Args:
        before: of a record.
        after: of the study.
        given: what the study sets.
    """
    return [path for path in changed_settings(before, after) if _has(before, path) or _has(given, path)]


def _has(settings: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(settings, Mapping) or name not in settings:
            return False
        settings = settings[name]
    return True
