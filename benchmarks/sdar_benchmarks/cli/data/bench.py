"""`sdar bench`: speed and memory of environments, skills, generation and trainer."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar bench`."""
    command = commands.add_parser("bench", help="measure speed and memory of environments, skills, generation, trainer")
    command.add_argument("envs", nargs="*", metavar="ENV_ID", help="only these (default: all)")
    command.add_argument("--output", metavar="FILE", help="write a record as JSON")
    command.add_argument("--baseline", metavar="FILE", help="older record to compare with: print the ratios")
    command.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.throughput.bench import PARTS, bench
    from sdar_envs.errors import UnknownName, did_you_mean
    from sdar_envs.printing import console

    for env_id in args.envs:
        if env_id not in PARTS:
            raise UnknownName(f"no {env_id!r} to measure; there are {', '.join(PARTS)}.{did_you_mean(env_id, PARTS)}")
    bench(
        args.envs or PARTS,
        console(),
        output=None if args.output is None else Path(args.output),
        baseline=None if args.baseline is None else Path(args.baseline),
        command=args.typed,
    )
