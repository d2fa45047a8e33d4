"""`sdar sft`: supervised fine-tuning of a model on demonstrations."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from sdar_benchmarks.cli.options import Commands, add_pairs
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar sft`."""
    command = commands.add_parser("sft", help="fine-tune a model on demonstrations")
    command.add_argument(
        "model",
        metavar="MODEL",
        help="folder, name on the Hugging Face hub, smollm2 (see `sdar data smollm2 --help`), or tiny-1m or tiny-5m "
        "for a new model with random weights",
    )
    command.add_argument("demos", nargs="+", metavar="FILE", help="file of demonstrations, written by `sdar demos`")
    command.add_argument(
        "--out",
        required=True,
        metavar="DIR",
        help="a new folder; it gets model/, sft.jsonl and, with lora_rank, adapter/",
    )
    command.add_argument(
        "--validation",
        action="append",
        default=[],
        metavar="FILE",
        help="validation file of demonstrations; may be repeated",
    )
    command.add_argument("--resume", action="store_true", help="resume the run in that folder")
    command.add_argument("--device", metavar="NAME", help="such as cuda or cpu (default: CUDA, if any)")
    help_ = "a setting of SFTSettings, such as lr=3e-5, or lora_rank=8 for LoRA adapters; may be repeated"
    add_pairs(command, "--set", "sft_settings", help_)
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from sdar_benchmarks.cli.progress import progress_bar
    from sdar_envs.errors import UnknownName, did_you_mean
    from sdar_envs.importing import import_extra

    for package in ("torch", "transformers"):
        import_extra(package, extra="train", purpose="fine-tuning")
    from sdar_agents.sft.sft import TrainingPlan
    from sdar_agents.sft.warm_start import default_settings, warm_start

    settings = default_settings(args.model)
    names = [field.name for field in dataclasses.fields(settings)]
    for name, _ in args.sft_settings:
        if name not in names:
            raise UnknownName(f"no setting {name!r}; the settings are {', '.join(names)}.{did_you_mean(name, names)}")
    settings = dataclasses.replace(settings, **dict(args.sft_settings))
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[measures]}", markup=False),
    )
    with progress_bar(*columns) as progress:
        bar = progress.add_task("sft", total=None, measures="")

        def begin(plan: TrainingPlan) -> None:
            say(f"{plan.rows:,} rows, {plan.tokens:,} tokens, {plan.steps:,} steps", error=True)
            progress.update(bar, total=plan.steps)

        def log(measures: Mapping[str, float]) -> None:
            text = (
                f"loss {measures['loss']:.3f}  accuracy {measures['accuracy']:.1%}  "
                f"{measures['tokens_per_second']:,.0f} tokens/s"
            )
            progress.update(bar, measures=text)

        model = warm_start(
            args.model,
            [Path(name) for name in args.demos],
            Path(args.out),
            settings,
            device=args.device,
            validation=[Path(name) for name in args.validation],
            resume=args.resume,
            log=log,
            begin=begin,
            progress=lambda step, _: progress.update(bar, completed=step),
        )
    say(model)
