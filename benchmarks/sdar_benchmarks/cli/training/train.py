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
    from sdar_agents.training.trainer import Trainer

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
    command.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="train in so many processes on this machine, one per GPU; for several machines, start this verb by "
        "torchrun -m sdar_benchmarks.cli train",
    )
    command.add_argument(
        "--plan",
        action="store_true",
        help="print what the weights, the optimizer, the activations, ... take on each GPU, and whether it fits; with "
        "--processes N for so many GPUs. Nothing is loaded or trained",
    )
    command.add_argument(
        "--gpu-memory",
        type=float,
        metavar="GIB",
        help="memory of a GPU, for --plan (default: that of the GPU here, else 80)",
    )
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from sdar_agents.configs import config_names, config_summary, recipe_names
    from sdar_envs.errors import InvalidOption, SdarError
    from sdar_envs.importing import import_extra

    if args.list:
        names = config_names()
        width = max(map(len, names))
        say("\n".join(f"{name:{width}}  {config_summary(name)}" for name in names))
        say("\nrecipes, SDAR's published settings on official data by suite, model and number of GPUs:")
        say("\n".join(f"  {name}" for name in recipe_names()))
        return 0
    if (args.config is None) == (args.resume is None):
        raise InvalidOption(
            f"wanted --config NAME for a new run or --resume RUN for one that was begun; configurations of this "
            f"package: {', '.join(config_names())}."
        )
    if args.resume is not None and args.out is not None:
        raise InvalidOption("--out was given with --resume: a run goes on in its own folder.")
    for package in ("torch", "transformers"):
        import_extra(package, extra="train", purpose="training")
    from sdar_agents.parallel import is_lost, is_told, join_world
    from sdar_agents.parallel.launch import launch
    from sdar_agents.training.config import load_config
    from sdar_agents.training.run.folder import CONFIG, enter_run
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
    if args.processes is not None and args.processes < 1:
        raise InvalidOption(f"--processes is {args.processes}; wanted a number from 1.")
    if args.gpu_memory is not None and not (args.plan and args.gpu_memory > 0):
        raise InvalidOption(f"--gpu-memory is {args.gpu_memory}; wanted GiB above 0, with --plan.")
    if args.plan:
        return _plan(config, args.processes or 1, args.gpu_memory)
    if args.processes is not None:
        return launch("sdar_benchmarks.cli", _without_processes(shlex.split(args.typed)[1:]), processes=args.processes)
    facts = {"command": args.typed, **training_facts()}
    world = join_world(config.model.device)
    try:
        trainer = Trainer(config, folder, resume=args.resume is not None, facts=facts, world=world)
        if world.is_first:
            of = f" in {world.size} processes" if world.size > 1 else ""
            words = ", ".join([config.method, *_variant(config)])
            say(f"training {words} for {config.all_steps} steps in {folder}{of}", error=True)
        _train(trainer, folder)
    except SdarError as error:
        if is_told(error):
            return 2
        raise
    except RuntimeError as error:
        if world.size == 1 or not is_lost(error):
            raise
        return 1  # whoever started the processes says which one has ended, and how
    if world.is_first:
        say(folder)
    return 0


def _plan(config: TrainConfig, processes: int, gpu_memory: float | None) -> int:
    """Print the memory plan; return 1 if it does not fit."""
    import torch

    from sdar_agents.training.checks.memory_plan import plan_memory

    if gpu_memory is None:
        found = torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else 80.0
        gpu_memory = round(found, 1)
    plan = plan_memory(config, processes=processes)
    say(plan.render(gpu_memory))
    return 0 if plan.fits(gpu_memory) else 1


def _train(trainer: Trainer, folder: Path) -> None:
    try:
        trainer.run()
    except KeyboardInterrupt:
        if trainer.world.is_first:
            found = trainer.checkpoints.all()
            say(
                f"stopped after step {trainer.step}; sdar train --resume {shlex.quote(str(folder))} goes on after step "
                f"{found[-1].step if found else 0}",
                error=True,
            )
        raise


def _variant(config: TrainConfig) -> list[str]:
    """Return the context and the control of a run, where they are not the usual ones, as parts of a folder's name."""
    parts = [config.context.name if config.context.is_after_play else None, config.control]
    return [part.replace(":", ".").replace("=", "-") for part in parts if part is not None]


def _without_processes(arguments: list[str]) -> list[str]:
    """Return the arguments of the processes that are started: all but --processes and its value."""
    rest = []
    given = iter(arguments)
    for argument in given:
        if argument == "--processes":
            next(given)
        elif not argument.startswith("--processes="):
            rest.append(argument)
    return rest
