"""`sdar export`: write the model of a training run's checkpoint in Hugging Face format."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar export`."""
    command = commands.add_parser(
        "export", help="write the model of a training run, which several processes have saved in parts, as one folder"
    )
    command.add_argument("export_run", metavar="RUN", help="folder of the training run")
    command.add_argument("--step", type=int, metavar="N", help="of this step (default: the last checkpoint)")
    command.add_argument("--out", metavar="DIR", help="new folder (default: model/ in the checkpoint)")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_envs.importing import import_extra

    for package in ("torch", "transformers"):
        import_extra(package, extra="train", purpose="training")
    from sdar_agents.training.run.folder import enter_run
    from sdar_agents.training.saving.export import export_checkpoint

    folder = Path(args.export_run)
    enter_run(folder)
    say(export_checkpoint(folder, step=args.step, out=None if args.out is None else Path(args.out)))
