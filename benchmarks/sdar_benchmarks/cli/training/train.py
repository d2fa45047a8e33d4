"""`sdar train`: train a model by a configuration, or resume a training run."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from sdar_benchmarks.cli.options import Commands, add_training_verb
from sdar_benchmarks.cli.output import say

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
    if args.method is not None:
        overrides += ["--method", args.method]
    if args.resume is not None:
        folder = Path(args.resume)
        enter_run(folder)
        config = load_config(str(folder / CONFIG), overrides)
    else:
        config = load_config(args.config, overrides)
        name = f"{Path(args.config).stem}-{config.method}-{config.seed}"
        folder = Path("runs", name) if args.out is None else Path(args.out)
    facts = {"command": args.typed, **training_facts()}
    trainer = Trainer(config, folder, resume=args.resume is not None, facts=facts)
    say(f"training {config.method} for {config.steps} steps in {folder}", error=True)
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
