"""`sdar info`: the arguments and splits of an environment, with an example."""

from __future__ import annotations

import argparse
import inspect
import json
import textwrap

from sdar_benchmarks.cli.options import Commands, add_environment, environment_arguments
from sdar_benchmarks.cli.output import say

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar info`."""
    command = commands.add_parser("info", help="arguments and splits of an environment, with an example task")
    add_environment(command)
    command.add_argument("--task", metavar="ID", help="print this task as JSON")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.analysis.tables import splits_text
    from sdar_benchmarks.analysis.terminal import WIDTH
    from sdar_envs.registry import env_arguments, env_creator, make_text_env

    env = make_text_env(args.env_id, **environment_arguments(args))
    if args.task is not None:
        say(json.dumps(env.source.find(args.task).to_json(), indent=2, ensure_ascii=False))
        return
    observation, info = env.reset(seed=0)
    say(args.env_id)
    say((inspect.getdoc(env_creator(args.env_id)) or "").partition("\n")[0])
    for title, lines in (
        ("Spaces", [f"observation {env.observation_space}", f"action {env.action_space}"]),
        ("Arguments", [f"{name}={default!r}" for name, default in env_arguments(args.env_id).items()]),
        ("Splits", [splits_text(env.source)]),
        (f"Example: {info['task_id']} ({info['task_type']})", observation.splitlines()),
    ):
        say(f"\n{title}")
        for line in lines:
            for part in textwrap.wrap(line, WIDTH - 2) or [""]:
                say(f"  {part}".rstrip())
