"""`sdar play`: a person plays in the terminal."""

from __future__ import annotations

import argparse

from sdar_benchmarks.cli.options import Commands, add_environment, environment_arguments

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar play`."""
    command = commands.add_parser("play", help="play an environment in the terminal")
    add_environment(command)
    command.add_argument("--task", metavar="ID", help="play this task")
    command.add_argument("--seed", type=int, metavar="N", help="seed that chooses the first task (default: random)")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.cli.play.session import Session, choose_reader
    from sdar_envs.printing import console
    from sdar_envs.registry import make_text_env

    env_kwargs = environment_arguments(args)
    env = make_text_env(args.env_id, **env_kwargs)
    if args.task is not None and "split" not in env_kwargs:
        # :new goes on in the split of this task.
        env = make_text_env(args.env_id, **{**env_kwargs, "split": env.source.find(args.task).split})
    terminal = console()
    Session(env, choose_reader(terminal), terminal).play(seed=args.seed, task_id=args.task)
