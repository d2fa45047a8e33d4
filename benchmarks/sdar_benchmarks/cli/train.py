"""What `sdar train` and `sdar study` do."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from sdar_benchmarks.analysis.terminal import print_table
from sdar_benchmarks.records.provenance import training_facts
from sdar_benchmarks.studies.tiny_study import BAND, StudySettings, study, study_table
from sdar_envs.errors import InvalidOption

__all__ = ["study_command", "train_command"]


def train_command(args: argparse.Namespace, _: Mapping[str, Any]) -> None:
    """Train a model, or go on with a run."""
    try:
        # Here, so that nobody who only plays waits for torch.
        from sdar_agents.training.config import config_names, load_config  # noqa: PLC0415
        from sdar_agents.training.trainer import CONFIG, Trainer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidOption(
            f"training needs {error.name}, which is not installed: pip install 'sdar-envs[train]'"
        ) from error
    if args.list:
        print("\n".join(config_names()))
        return
    overrides = list(args.overrides)
    if args.method is not None:
        overrides += ["--method", args.method]
    if (args.config is None) == (args.resume is None):
        raise InvalidOption(
            f"wanted --config NAME for a new run or --resume RUN for one that was begun; configurations of this "
            f"package: {', '.join(config_names())}."
        )
    if args.resume is not None:
        if args.out is not None:
            raise InvalidOption("--out was given beside --resume: a run goes on in its own folder.")
        folder = Path(args.resume)
        config = load_config(str(folder / CONFIG), overrides)
    else:
        config = load_config(args.config, overrides)
        name = f"{Path(args.config).stem}-{config.method}-{config.seed}"
        folder = Path("runs", name) if args.out is None else Path(args.out)
    facts = {"command": shlex.join(["sdar", *args.argv]), **training_facts()}
    try:
        trainer = Trainer(config, folder, resume=args.resume is not None, facts=facts)
    except ModuleNotFoundError as error:
        raise InvalidOption(str(error)) from error
    print(f"training {config.method} for {config.steps} steps in {folder}", file=sys.stderr)
    try:
        trainer.run()
    except KeyboardInterrupt:
        found = trainer.checkpoints.all()
        print(
            f"stopped after step {trainer.step}; sdar train --resume {shlex.quote(str(folder))} goes on after step "
            f"{found[-1].step if found else 0}",
            file=sys.stderr,
        )
        raise
    print(folder)


def study_command(args: argparse.Namespace, _: Mapping[str, Any]) -> None:
    """Do the tiny study, or go on with it."""
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
    stderr = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=stderr, disable=not stderr.is_terminal) as bars:
        known: dict[str, TaskID] = {}

        def progress(stage: str, done: int, of: int | None) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage)
            bars.update(known[stage], completed=done, total=of)

        try:
            result = study(folder, settings, progress)
        except ModuleNotFoundError as error:
            raise InvalidOption(f"{error.name} is not installed: pip install 'sdar-envs[train]'") from error
    print_table(study_table(result))
    if result["start_is_in_band"] is False:
        print(f"the start is outside of {BAND[0]:.0%} to {BAND[1]:.0%}: nothing can be compared", file=sys.stderr)
    print(result["note"], file=sys.stderr)
    if (folder / "report.html").exists():
        print(folder / "report.html")
