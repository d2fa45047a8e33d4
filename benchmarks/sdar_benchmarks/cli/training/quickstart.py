"""`sdar quickstart`: compare training methods on a tiny model, from demonstrations to a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands, add_training_verb
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar quickstart`."""
    command = add_training_verb(
        commands,
        "quickstart",
        help_="compare GRPO and SDAR on a tiny model, from demonstrations to a report; resumes where it stopped",
        example="--steps 5 --learner.lr 3e-5",
    )
    command.add_argument("--out", default="runs/tiny", metavar="DIR", help="folder of the study (default: %(default)s)")
    command.add_argument("--model", default="tiny-1m", metavar="NAME", help="tiny-1m or tiny-5m (default: %(default)s)")
    command.add_argument(
        "--episodes", type=int, default=1800, metavar="N", help="number of demonstrations (default: %(default)s)"
    )
    command.add_argument(
        "--readings",
        type=int,
        default=8000,
        metavar="N",
        help="additional demonstrations of a first turn with skills in the prompt (default: %(default)s)",
    )
    command.add_argument("--methods", default="grpo,sdar", metavar="A,B", help="to compare (default: %(default)s)")
    command.add_argument("--seed", type=int, default=0, metavar="N", help="the first seed (default: %(default)s)")
    command.add_argument(
        "--seeds",
        type=int,
        default=1,
        metavar="N",
        help="number of seeds; a later call may add more (default: %(default)s)",
    )
    command.add_argument("--jobs", type=int, default=2, metavar="N", help="trainings at a time (default: %(default)s)")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_envs.importing import import_extra

    for package in ("torch", "transformers"):
        import_extra(package, extra="train", purpose="the study of a quickstart")
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn

    from sdar_benchmarks.analysis.terminal import print_table
    from sdar_benchmarks.cli.progress import progress_bar
    from sdar_benchmarks.studies.tiny_study import BAND, StudySettings, study, study_table

    settings = StudySettings(
        model=args.model,
        episodes=args.episodes,
        readings=args.readings,
        methods=tuple(args.methods.split(",")),
        seed=args.seed,
        seeds=args.seeds,
        jobs=args.jobs,
        overrides=tuple(args.overrides),
    )
    folder = Path(args.out)
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with progress_bar(*columns, keep=True) as bars:
        known: dict[str, TaskID] = {}

        def progress(stage: str, done: int, of: int | None) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage)
            bars.update(known[stage], completed=done, total=of)

        result = study(folder, settings, progress)
    print_table(study_table(result))
    if result["start_is_in_band"] is False:
        say(f"the start is outside of {BAND[0]:.0%} to {BAND[1]:.0%}: nothing can be compared", error=True)
    say(result["note"], error=True)
    if (folder / "report.html").exists():
        say(folder / "report.html")
