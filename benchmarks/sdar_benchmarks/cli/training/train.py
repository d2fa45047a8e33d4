"""`sdar train`: train a model by a configuration, or resume a training run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.options import Commands, add_training_verb
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_agents.training.config import TrainConfig

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar train`."""
    command = add_training_verb(
        commands,
        "train",
        help_="train a model by GRPO, OPSD, RLSD, Skill-SD, SDAR, ...",
        example="--learner.lr 3e-6 --rollout.env_kwargs.max_steps 20",
    )
    command.add_argument(
        "--config",
        metavar="NAME",
        help="a file (it may name modules to import, as module:name), or the name of a configuration of this package",
    )
    command.add_argument("--list", action="store_true", help="name the configurations of this package")
    command.add_argument("--method", metavar="NAME", help="such as grpo, sdar (default: the configuration's)")
    command.add_argument(
        "--context",
        metavar="NAME",
        help="what the teacher reads: library (skills), or made after play: sibling, future, future_blanked, analyst, "
        "reflection, expert, pairs, or module:Class (default: the configuration's)",
    )
    command.add_argument(
        "--control",
        metavar="NAME",
        help="a negative control: wrong-skills, empty-skills, neutral-text, permuted-weights, no-sign, "
        "teacher-is-student, extra-steps=0.5",
    )
    command.add_argument("--out", metavar="DIR", help="the run's folder (default: runs/CONFIG-METHOD-SEED)")
    command.add_argument("--resume", metavar="RUN", help="resume the run in this folder")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_agents.configs import config_names, config_summary
    from sdar_envs.errors import InvalidOption
    from sdar_envs.importing import import_extra

    if args.list:
        names = config_names()
        width = max(map(len, names))
        say("\n".join(f"{name:{width}}  {config_summary(name)}" for name in names))
        return
    if (args.config is None) == (args.resume is None):
        raise InvalidOption(
            f"wanted --config NAME for a new run or --resume RUN for one that was begun; configurations of this "
            f"package: {', '.join(config_names())}."
        )
    if args.resume is not None and args.out is not None:
        raise InvalidOption("--out was given with --resume: a run goes on in its own folder.")
    for package in ("torch", "transformers"):
        import_extra(package, extra="train", purpose="training")
    from sdar_agents.training.config import load_config
    from sdar_agents.training.run_folder import CONFIG, enter_run
    from sdar_agents.training.trainer import Trainer
    from sdar_benchmarks.records.provenance import training_facts

    overrides = list(args.overrides)
    for name, value in (("method", args.method), ("context.name", args.context), ("control", args.control)):
        if value is not None:
            overrides += [f"--{name}", value]
    if args.resume is not None:
        folder = Path(args.resume)
        enter_run(folder)
        config = load_config(str(folder / CONFIG), overrides)
    else:
        config = load_config(args.config, overrides)
        name = "-".join([Path(args.config).stem, config.method, *_variant(config), str(config.seed)])
        folder = Path("runs", name) if args.out is None else Path(args.out)
    facts = {"command": args.typed, **training_facts()}
    trainer = Trainer(config, folder, resume=args.resume is not None, facts=facts)
    words = [config.method, *_variant(config)]
    say(f"training {', '.join(words)} for {config.all_steps} steps in {folder}", error=True)
    try:
        trainer.run()
    except KeyboardInterrupt:
        found = trainer.checkpoints.all()
        say(
            f"stopped after step {trainer.step}; sdar train --resume {shlex.quote(str(folder))} goes on after step "
            f"{found[-1].step if found else 0}",
            error=True,
        )
        raise
    say(folder)


def _variant(config: TrainConfig) -> list[str]:
    """Return the context and the control of a run, where they are not the usual ones, as parts of a folder's name."""
    parts = [config.context.name if config.context.is_after_play else None, config.control]
    return [part.replace(":", ".").replace("=", "-") for part in parts if part is not None]
