"""`sdar list`: environments with their splits, and agents."""

from __future__ import annotations

import argparse
import inspect

from sdar_benchmarks.cli.options import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar list`."""
    command = commands.add_parser("list", help="environments, their splits, and agents")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_agents import AGENTS
    from sdar_agents.players.registry import EXTRAS, MODELS
    from sdar_benchmarks.analysis.tables import splits_text
    from sdar_benchmarks.analysis.terminal import plain_table, stdout
    from sdar_envs import ENV_IDS
    from sdar_envs.registry import make_text_env

    environments = plain_table("environment", "splits")
    for env_id in ENV_IDS:
        environments.add_row(env_id, splits_text(make_text_env(env_id).source))
    agents = plain_table("agent", "what it does")
    for name, agent in (*AGENTS.items(), *MODELS.items()):
        agents.add_row(name, (inspect.getdoc(agent) or "").partition("\n")[0])
    console = stdout()
    console.print(environments)
    console.print()
    console.print(agents)
    console.print()
    for name, extra in EXTRAS.items():
        console.print(f"The agent {name} needs pip install 'sdar-envs[{extra}]'.")
