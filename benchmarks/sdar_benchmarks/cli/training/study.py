"""`sdar study`: compare training methods and controls on paired seeds; a queue that any number of processes share."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.options import Commands, add_training_verb
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_benchmarks.studies.design import Design
    from sdar_benchmarks.studies.queue import StudyPaths

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar study`."""
    command = add_training_verb(
        commands,
        "study",
        help_="compare training methods and controls on paired seeds; goes on from the records of finished cells",
        example="--steps 5 --learner.lr 3e-5",
    )
    command.add_argument(
        "--design",
        default="alfworld",
        metavar="NAME",
        help="alfworld, webshop, search_qa, or a YAML file (default: %(default)s)",
    )
    command.add_argument(
        "--out", metavar="DIR", help="folder of the records and the report (default: benchmarks/studies/DESIGN)"
    )
    command.add_argument("--work", metavar="DIR", help="folder of checkpoints and logs (default: runs/studies/DESIGN)")
    command.add_argument("--arms", metavar="A,B", help="only these arms, and the baseline (default: all of the design)")
    command.add_argument("--seeds", type=int, metavar="N", help="number of seeds (default: that of the design)")
    command.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="processes, of one thread each (default: %(default)s)"
    )
    command.add_argument(
        "--plan", action="store_true", help="print the power and the cost of the design, and run nothing"
    )
    command.add_argument(
        "--recheck",
        action="store_true",
        help="repeat the first steps of cells whose records are of other code, and renew the records if they are equal",
    )
    command.add_argument(
        "--repeat",
        type=int,
        metavar="SEED",
        help="train the recorded cells of a seed once more, and compare every value with the records",
    )
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_envs.importing import import_extra

    for package in ("torch", "transformers"):
        import_extra(package, extra="train", purpose="the study")
    from dataclasses import replace

    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn

    from sdar_agents.settings.checks import check_value
    from sdar_benchmarks.analysis.terminal import print_table
    from sdar_benchmarks.cli.progress import progress_bar
    from sdar_benchmarks.studies.design import load_design
    from sdar_benchmarks.studies.outcomes import METRICS, PRIMARY, outcome_table, plan
    from sdar_benchmarks.studies.queue import StudyPaths, run_study
    from sdar_benchmarks.studies.records import StudyFolder
    from sdar_benchmarks.studies.study_report import write_study_report

    check_value("jobs", args.jobs, int, low=1)
    design = load_design(args.design, args.overrides)
    if args.arms is not None:
        design = design.chosen(args.arms.split(","))
    if args.seeds is not None:
        design = replace(design, seeds=args.seeds)
    out = Path(args.out or Path("benchmarks", "studies", design.name))
    paths = StudyPaths(out, Path(args.work or Path("runs", "studies", design.name)))
    folder = StudyFolder(out, design)
    if args.recheck:
        _recheck(design, paths)
        return
    if args.repeat is not None:
        _repeat(design, paths, args.repeat)
        return
    planned = plan(design, folder.cells())
    if args.plan:
        print_table(planned.table)
        for note in planned.notes:
            say(note)
        return

    def seed_done(seed: int) -> None:
        records = folder.cells()
        for metric in PRIMARY:
            table = outcome_table(design, records, metric)
            if table.rows:
                say(f"{METRICS[metric]}, seeds complete: {len(folder.complete_seeds())}", error=True)
                print_table(table)
        write_study_report(folder)

    for note in planned.notes:
        say(note, error=True)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_bar(*columns, keep=True) as bars:
        known: dict[str, TaskID] = {}

        def progress(stage: str, done: int, of: int | None) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage)
            bars.update(known[stage], completed=done, total=of)

        run_study(design, paths, jobs=args.jobs, progress=progress, seed_done=seed_done)
    for path in write_study_report(folder):
        say(path)


def _repeat(design: Design, paths: StudyPaths, seed: int) -> None:
    from sdar_benchmarks.studies.recheck import repeat

    def progress(cell: str, step: int, of: int | None) -> None:
        say(f"{cell}: step {step} of {of}", error=True)

    for cell, compared in repeat(design, paths, seed, progress=progress):
        say(f"{cell.name}: {compared} values are equal to the last digit.")


def _recheck(design: Design, paths: StudyPaths) -> None:
    from sdar_benchmarks.studies.recheck import recheck

    found = recheck(design, paths, progress=lambda cell, step, of: say(f"{cell}: step {step} of {of}", error=True))
    for each in found:
        how = "to the last digit" if each.is_exact else "but for rounding, on another processor"
        say(f"{each.cell.name}: {each.compared} values are equal {how}; {each.renewed} records renewed.")
    if not found:
        say("All records are of the present code.")
