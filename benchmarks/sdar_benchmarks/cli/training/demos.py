"""`sdar demos`: an expert plays, and each turn becomes a row for supervised fine-tuning."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from sdar_benchmarks.cli.options import Commands, add_environment, environment_arguments
from sdar_benchmarks.cli.output import say

__all__ = ["add"]

_NAMED = 5


def add(commands: Commands) -> None:
    """Add `sdar demos`."""
    command = commands.add_parser("demos", help="write demonstrations of an expert, for fine-tuning")
    add_environment(command)
    command.add_argument(
        "--out", required=True, metavar="FILE", help="JSON Lines: messages and completion of each turn"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the file if it exists")
    command.add_argument("--episodes", type=int, metavar="N", help="how many (default: 100)")
    command.add_argument("--first", type=int, metavar="N", help="number of the first task (default: 0)")
    command.add_argument(
        "--expert", metavar="NAME", help="agent that plays (default: the environment's script; of Search-QA the oracle)"
    )
    command.add_argument("--guesses", action="store_true", help="ALFWorld's explorer knows places only from skills")
    command.add_argument(
        "--noise", type=float, metavar="X", help="share of other commands than the expert's (default: 0.2)"
    )
    command.add_argument(
        "--with-skills", type=float, metavar="X", help="share of episodes with skills in the prompt (default: 0)"
    )
    command.add_argument("--retriever", metavar="NAME", help="chooses the skills (default: task_type)")
    command.add_argument("-k", type=int, metavar="N", help="skills at most (default: 1)")
    command.add_argument("--turns", type=int, metavar="N", help="only the first N turns of an episode (default: all)")
    command.add_argument(
        "--history",
        choices=["windowed", "appended"],
        help="a row for each turn, or one for each episode as a growing chat (default: windowed)",
    )
    command.add_argument("--history-length", type=int, metavar="N", help="past turns in a prompt (default: 2)")
    command.add_argument("--terse", action="store_true", help="prompts without role and answer format, for tiny models")
    command.add_argument("--seed", type=int, metavar="N", help="of all draws (default: 0)")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    from sdar_agents.sft.demonstrations import DemonstrationSettings, DemonstrationTally, write_demonstrations
    from sdar_benchmarks.cli.progress import progress_bar
    from sdar_envs.errors import InvalidOption

    path = Path(args.out)
    if path.is_dir():
        raise InvalidOption(f"{path} is a folder: name a file in it.")
    if path.exists() and not args.overwrite:
        raise InvalidOption(f"{path} exists: choose another file, or pass --overwrite.")
    env_kwargs = environment_arguments(args)
    split = env_kwargs.pop("split", None)
    names = [field.name for field in dataclasses.fields(DemonstrationSettings)]
    given = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    settings = DemonstrationSettings(**{**given, "env_kwargs": env_kwargs, "split": split})
    tally = DemonstrationTally()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with progress_bar(*columns) as progress:
            bar = progress.add_task("demonstrations", total=settings.episodes)

            def show(played: DemonstrationTally) -> None:
                nonlocal tally
                tally = played
                progress.update(bar, completed=played.episodes)

            write_demonstrations(path, settings, progress=show)
    finally:
        if tally.rows:
            say(f"{path}: {tally.rows} rows of {tally.episodes} episodes")
        for reason, tasks in tally.left_out.items():
            more = f" and {len(tasks) - _NAMED} more" if len(tasks) > _NAMED else ""
            say(f"left out, {reason}: {len(tasks)} ({', '.join(tasks[:_NAMED])}{more})")
