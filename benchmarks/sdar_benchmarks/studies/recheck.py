"""Records of a study are tested by doing their cells again: whole, or the first steps after a change of the code.

`repeat` trains the cells of a seed once more, and compares every value with the records.

`recheck` renews digests. The digest of a record's code changes with any line of the modules that it covers, also where
the numbers stay. For each arm one recorded cell of other code is trained again for some steps, in a folder of its own,
and its curves are compared with the record: to the last digit on the same processor and versions, within `TOLERANCE` on
others, whose rounding differs. If they are equal, all records of that arm with the same digest get the present one; the
old one is kept among their facts.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdar_agents.training.trainer import Trainer
from sdar_benchmarks.records.metrics import Point, read_metrics
from sdar_benchmarks.records.provenance import training_facts
from sdar_benchmarks.studies.design import Cell, Design
from sdar_benchmarks.studies.digest import code_digest
from sdar_benchmarks.studies.measures import CellMeasure
from sdar_benchmarks.studies.queue import Progress, StudyPaths, one_thread, train_cell
from sdar_benchmarks.studies.records import CURVES, CellRecord, StudyFolder
from sdar_envs.errors import InvalidOption, MissingData, RunStopped

__all__ = ["TOLERANCE", "Recheck", "recheck", "repeat"]

_PACKAGES = ("numpy", "torch", "transformers")

TOLERANCE = 1e-4
"""Of a curve's values where processor or versions are others than those of the record."""


@dataclass(frozen=True, slots=True)
class Recheck:
    """A cell that was repeated.

    Attributes:
        cell: which one.
        compared: number of values.
        is_exact: processor and versions are those of the record.
        renewed: number of records that got the present digest.
    """

    cell: Cell
    compared: int
    is_exact: bool
    renewed: int


def recheck(
    design: Design,
    paths: StudyPaths,
    *,
    steps: int = 4,
    progress: Callable[[str, int, int], None] = lambda *_: None,
) -> list[Recheck]:
    """Repeat the first steps of one cell of each arm and digest that is not the present one, and renew its records.

    Args:
        design: of the study.
        paths: its folders.
        steps: that are repeated.
        progress: called with a cell's name, the steps that are done and their number.

    Raises:
        RunStopped: a number differs; records of other arms may have been renewed.
    """
    folder = StudyFolder(paths.records, design)
    found: dict[tuple[str, str], list[tuple[Cell, CellRecord]]] = {}
    for cell in design.cells():
        record = folder.read_cell(cell, any_code=True)
        if record is not None and record.code != code_digest(folder.config(cell)):
            found.setdefault((cell.arm, record.code), []).append((cell, record))
    done = []
    for records in found.values():
        cell, record = records[0]
        curves = _repeated(folder, cell, paths.work / "recheck" / cell.name, steps, progress)
        is_exact = _machine(record.facts) == _machine(training_facts())
        compared = _compare(cell, record, curves, 0.0 if is_exact else TOLERANCE)
        for each, old in records:
            codes = [*old.facts.get("earlier_codes", ()), old.code]
            facts = {**old.facts, "earlier_codes": codes}
            folder.write_cell(each, replace(old, code=code_digest(folder.config(each)), facts=facts))
        done.append(Recheck(cell, compared, is_exact, len(records)))
    return done


def repeat(
    design: Design, paths: StudyPaths, seed: int, *, progress: Progress = lambda *_: None
) -> Iterator[tuple[Cell, int]]:
    """Train the recorded cells of a seed once more and compare curves and tokens, to the last digit.

    Cells that were interrupted go on from their checkpoints; the records stay as they are.

    Args:
        design: of the study.
        paths: its folders.
        seed: of the cells.
        progress: called with a cell's name, the steps that are done and their number.

    Yields:
        Each cell that is equal, with the number of values that were compared.

    Raises:
        MissingData: there is no record of this seed.
        InvalidOption: a record is of another processor or of other versions, whose rounding differs; or of other code.
        RunStopped: a number differs.
    """
    folder = StudyFolder(paths.records, design)
    records = [(cell, folder.read_cell(cell)) for cell in design.cells() if cell.seed == seed]
    known = [(cell, record) for cell, record in records if record is not None]
    if not known:
        raise MissingData(f"{paths.records} has no record of seed {seed}: choose another --repeat, or run the study.")
    here = _machine(training_facts())
    for cell, record in known:
        if (there := _machine(record.facts)) != here:
            raise InvalidOption(
                f"{cell.name} was computed on {_words(there)}; here it is {_words(here)}, where rounding differs, and "
                "so does the run. Choose another --out, and compare the results of whole studies."
            )
    work = paths.work / "repeat"
    for cell, record in known:
        with one_thread():
            found = train_cell(folder, cell, work / cell.name, progress)
        compared = _compare(cell, record, {name: found.points(name) for name in found.curves}, 0.0)
        if compared != (recorded := sum(map(len, record.curves.values()))):
            raise RunStopped(f"{cell.name}: the record has {recorded} values, and {compared} of them were found again.")
        for name, value in record.costs.items():
            if name != "cpu_seconds" and found.costs.get(name) != value:
                raise RunStopped(f"{cell.name}: {name} is {found.costs.get(name)!r}, and was {value!r}.")
        yield cell, compared
    shutil.rmtree(work)


class _EnoughError(Exception):
    """Raised by the measure to end a run."""


def _repeated(
    folder: StudyFolder, cell: Cell, run: Path, steps: int, progress: Callable[[str, int, int], None]
) -> dict[str, list[Point]]:
    """Train a cell's first steps in a new folder; return its curves."""
    if run.exists():
        shutil.rmtree(run)
    config = folder.config(cell)
    kept = CellMeasure(config, folder.design.measures)
    seen: dict[str, list[Point]] = {}

    def measure(trainer: Any) -> Mapping[str, float]:
        metrics = kept(trainer)
        for name, value in metrics.items():
            seen.setdefault(name, []).append((float(trainer.step), value))
        progress(cell.name, trainer.step, steps)
        if trainer.step == min(steps, config.all_steps):
            raise _EnoughError
        return metrics

    with one_thread():
        trainer = Trainer(config, run, facts=training_facts(), measure=measure)
        with suppress(_EnoughError):
            trainer.run()
    # The metrics of the last step are not written.
    written = read_metrics(run)
    shutil.rmtree(run)
    return {name: points for name, path in CURVES.items() if (points := seen.get(path) or written.get(path))}


def _compare(cell: Cell, record: CellRecord, curves: Mapping[str, Sequence[Point]], tolerance: float) -> int:
    """Return how many values are equal.

    Raises:
        RunStopped: one differs.
    """
    compared = 0
    for name, points in curves.items():
        recorded = dict(record.points(name))
        for step, value in points:
            if step not in recorded:
                continue
            compared += 1
            if not math.isclose(value, recorded[step], rel_tol=0, abs_tol=tolerance):
                raise RunStopped(
                    f"{cell.name} is no longer what its record says: {name} at step {step:g} is {value!r}, and was "
                    f"{recorded[step]!r}. The code gives other numbers: choose another --out, or check out "
                    f"{record.facts.get('revision') or 'the revision of the records'}."
                )
    if not compared:
        raise RunStopped(f"{cell.name} has no value within so few steps: repeat more of them.")
    return compared


def _machine(facts: Mapping[str, Any]) -> list[Any]:
    """Return what rounding depends on."""
    platform, versions = facts.get("platform", {}), facts.get("versions", {})
    return [platform.get("cpu"), platform.get("vectors"), *(versions.get(name) for name in _PACKAGES)]


def _words(machine: Sequence[Any]) -> str:
    cpu, vectors, *versions = machine
    return f"{cpu} ({vectors}) with {', '.join(map(' '.join, zip(_PACKAGES, map(str, versions), strict=True)))}"
