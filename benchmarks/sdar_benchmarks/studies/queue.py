"""Queue of a study: starts and cells are claimed one by one, by any number of processes, and finished ones are kept.

    run_study(load_design("alfworld"), StudyPaths(Path("benchmarks/studies/alfworld"), Path("runs/studies/alfworld")))

A process takes the first cell that is not finished and that no other process works on; the operating system's lock on
the cell's folder is the claim, so it ends with its process. A cell that was begun goes on from its last checkpoint, and
ends in the numbers of one that was never interrupted. Each process uses one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sdar_agents.engines.transformers import TransformersPolicy, load_model
from sdar_agents.learner.weights import fingerprint
from sdar_agents.sft.demonstrations import demonstrate, row_line
from sdar_agents.sft.warm_start import warm_start
from sdar_agents.training.trainer import CONFIG, Trainer
from sdar_benchmarks.records.provenance import training_facts
from sdar_benchmarks.studies.design import Cell, Design
from sdar_benchmarks.studies.measures import CellMeasure, measure_start
from sdar_benchmarks.studies.records import CellRecord, StartRecord, StudyFolder, record_of_run
from sdar_envs.errors import RunStopped, SdarError
from sdar_envs.files.locks import Taken, writing_folder, writing_path
from sdar_envs.files.replacing import new_folder, sweep
from sdar_envs.storage import write_atomic

__all__ = ["Progress", "StudyPaths", "check_gates", "one_thread", "run_study", "train_cell", "work"]

_SECONDS_BETWEEN_LOOKS = 1.0

Progress = Callable[[str, int, int | None], None]
"""Called with the stage, how much of it is done, and how much there is to do."""


class StudyPaths(NamedTuple):
    """Folders of a study.

    Attributes:
        records: what is kept, see `sdar_benchmarks.studies.records`.
        work: demonstrations, checkpoints, logs; may be deleted when the study is finished.
    """

    records: Path
    work: Path


@dataclass(frozen=True, slots=True)
class _Study:
    """A study at work."""

    design: Design
    paths: StudyPaths
    progress: Progress

    @property
    def folder(self) -> StudyFolder:
        return StudyFolder(self.paths.records, self.design)


def run_study(
    design: Design,
    paths: StudyPaths,
    *,
    jobs: int = 1,
    progress: Progress = lambda *_: None,
    seed_done: Callable[[int], None] = lambda _: None,
) -> None:
    """Run what is missing of a study, and wait for what other processes work on.

    Args:
        design: of the study.
        paths: its folders.
        jobs: number of processes; this one is among them.
        progress: of this process.
        seed_done: called with a seed when all of its cells are finished, by whichever process.

    Raises:
        RunStopped: a start does not pass the gates, or a process failed; finished cells are kept.
        InvalidOption: a record is of other code or other settings.
    """
    StudyFolder(paths.records, design).cells()  # what does not compare is refused before hours of work
    context = multiprocessing.get_context("spawn")
    helpers = [context.Process(target=_help, args=(design, paths)) for _ in range(jobs - 1)]
    for helper in helpers:
        helper.start()
    try:
        work(design, paths, progress=progress, seed_done=seed_done)
        for helper in helpers:
            helper.join()
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()
    if any(helper.exitcode for helper in helpers):
        raise RunStopped("a process of the study failed; its error is printed above. Run the same command again.")


def work(
    design: Design,
    paths: StudyPaths,
    *,
    progress: Progress = lambda *_: None,
    seed_done: Callable[[int], None] = lambda _: None,
) -> None:
    """Take starts and cells from the queue until none is left; see `run_study`."""
    study = _Study(design, paths, progress)
    told = set(study.folder.complete_seeds())
    with one_thread():
        while waiting := [item for item in _items(design) if not _is_done(study, item)]:
            if not any(_take(study, item) for item in waiting):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
            for seed in study.folder.complete_seeds():
                if seed not in told:
                    told.add(seed)
                    seed_done(seed)


def check_gates(design: Design, start: int, record: StartRecord) -> None:
    """Check that a start can show something.

    Raises:
        RunStopped: it does not pass a gate; the message names all of them.
    """
    if failures := design.gates.failures(record.measured):
        raise RunStopped(
            f"start {start} of {design.name} cannot show a difference: {'; '.join(failures)}. Nothing was trained "
            "from it. Change the start or the tasks, or the gates of the design."
        )


def _items(design: Design) -> Iterator[int | Cell]:
    """Yield the starts, whose gates open the way for all others, and the cells in order."""
    yield from sorted({cell.start for cell in design.cells()})
    yield from design.cells()


def _is_done(study: _Study, item: int | Cell) -> bool:
    folder = study.folder
    return (folder.cell_path(item) if isinstance(item, Cell) else folder.start_path(item)).exists()


def _take(study: _Study, item: int | Cell) -> bool:
    """Do a start or a cell if it can be done and is free; return whether it was done."""
    name = item.name if isinstance(item, Cell) else f"start-{item}"
    if isinstance(item, Cell) and not _are_gates_passed(study):
        return False
    claims = study.paths.work / "claims"
    with ExitStack() as claim:
        try:
            claim.enter_context(writing_path(claims / name))
        except Taken:
            return False
        if _is_done(study, item):
            return True
        if isinstance(item, Cell):
            run = study.paths.work / item.name
            study.folder.write_cell(item, train_cell(study.folder, item, run, study.progress))
        else:
            _start(study, item)
    return True


def _are_gates_passed(study: _Study) -> bool:
    """Return whether all starts are there; they pass the gates then."""
    for number in {cell.start for cell in study.design.cells()}:
        record = study.folder.read_start(number)
        if record is None:
            return False
        check_gates(study.design, number, record)
    return True


# -- a start --------------------------------------------------------------------------------


def _start(study: _Study, number: int) -> None:
    """Make a start and measure it."""
    design, folder = study.design, study.folder
    work_folder = study.paths.work / folder.start_name(number)
    work_folder.mkdir(parents=True, exist_ok=True)
    config = design.config(design.baseline, 0, str(folder.model(number)))
    files = []
    for kind, shown in design.start.demonstrations(number, config).items():
        path = work_folder / f"{kind}.jsonl"
        files.append(path)
        if not path.exists():

            def lines(kind: str = kind, shown: Any = shown) -> Iterator[str]:
                for done, played in enumerate(demonstrate(shown), 1):
                    study.progress(f"start {number}, {kind}", done, shown.episodes)
                    yield from map(row_line, played.rows)

            write_atomic(path, lines())
    model = warm_start(
        design.start.model,
        files,
        work_folder / "sft",
        design.start.fine_tuning(number),
        device="cpu",
        resume=(work_folder / "sft" / "config.json").is_file(),
        log=lambda measures: study.progress(
            f"start {number}, fine-tuning", int(measures["step"]), int(measures["steps"])
        ),
    )
    kept = folder.model(number)
    if not kept.is_dir():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with writing_folder(kept.parent):
            sweep(kept.parent)
            with new_folder(kept) as temporary:
                shutil.copytree(model, temporary)
    loaded, tokenizer = load_model(str(kept), device="cpu", dtype=config.model.dtype)
    policy = TransformersPolicy(loaded, tokenizer, max_batch_tokens=config.model.max_batch_tokens)

    def say(what: str) -> None:
        study.progress(f"start {number}, {what}", 0, None)

    measured = measure_start(config, loaded, policy, design.measures, say)
    folder.write_start(number, fingerprint(loaded), measured)


# -- a cell ---------------------------------------------------------------------------------


def train_cell(folder: StudyFolder, cell: Cell, run: Path, progress: Progress) -> CellRecord:
    """Train a cell, or go on with it, and return its record.

    Args:
        folder: of the study, with the cell's start.
        cell: which one.
        run: folder of the training run.
        progress: called with the cell's name, the steps that are done and their number.

    Raises:
        RunStopped: the start is missing, or its model is not that of its record; or the training stops.
    """
    start = folder.read_start(cell.start)
    if start is None:
        raise RunStopped(f"{folder.start_path(cell.start)} is missing: restore it, or run the study.")
    config = folder.config(cell)
    measure = CellMeasure(config, folder.design.measures, lambda step, steps: progress(cell.name, step, steps))
    trainer = Trainer(config, run, resume=(run / CONFIG).exists(), facts=training_facts(), measure=measure)
    loaded = fingerprint(trainer.model)
    if trainer.step == 0 and loaded != start.fingerprint:
        trainer.close()
        raise RunStopped(f"{folder.model(cell.start)} is not the model of {folder.start_path(cell.start)}: restore it.")
    measure.start_clock()
    trainer.run()
    return record_of_run(cell, config, run, start.fingerprint)


# -- processes ------------------------------------------------------------------------------


def _help(design: Design, paths: StudyPaths) -> None:
    """Work in a process of its own; an error is one line."""
    _end_with_parent()
    try:
        work(design, paths)
    except SdarError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with_parent() -> None:
    """Let this process end when the one that started it is killed: nobody would know that it goes on."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        sentinel = parent.sentinel

        def watch() -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_thread() -> Iterator[None]:
    """Context in which torch uses one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
