"""Entry point of `sdar`: parse the arguments, run the verb, turn errors into one line and an exit status.

Each verb is one module: `add` defines its options, and the function beside it does the work. A verb imports what it
works with inside that function, so that `sdar --help` and misspelt options are answered without Gymnasium, and so that
a verb needs no optional dependency of another one.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version

from sdar_benchmarks.cli.data import bench, data, index
from sdar_benchmarks.cli.play import eval as evaluation
from sdar_benchmarks.cli.play import info, play
from sdar_benchmarks.cli.play import list as listing
from sdar_benchmarks.cli.results import compare, leaderboard, report, view
from sdar_benchmarks.cli.servers import serve
from sdar_benchmarks.cli.skills import skills
from sdar_benchmarks.cli.training import demos, sft, study, train

__all__ = ["main", "make_parser"]

_VERBS = (
    listing,
    info,
    play,
    evaluation,
    compare,
    report,
    view,
    leaderboard,
    train,
    study,
    bench,
    serve,
    data,
    index,
    skills,
    demos,
    sft,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `sdar`.

    Args:
        argv: the arguments after the program's name; None for those of the process.

    Returns:
        The exit status: 0; 1 if a check found something; 2 if a request cannot be carried out; 130 if interrupted.
    """
    parser = make_parser()
    args, rest = parser.parse_known_args(argv)
    if "overrides" in args:
        args.overrides = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    args.typed = shlex.join(["sdar", *(sys.argv[1:] if argv is None else argv)])
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has left (`sdar list | head -1`). Python would complain when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs. Each sets `run`, the function that gets the parsed arguments."""
    parser = argparse.ArgumentParser(prog="sdar", description="Text environments for language agents.")
    parser.add_argument("--version", action="version", version=f"sdar-envs {version('sdar-envs')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for verb in _VERBS:
        verb.add(commands)
    return parser


def _run(args: argparse.Namespace) -> int:
    import gymnasium as gym

    from sdar_envs.errors import SdarError

    try:
        status: int = args.run(args) or 0
        sys.stdout.flush()
    except (SdarError, gym.error.Error) as error:
        # An error is one line, even if its message has several.
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: the output cannot be written ({error})", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return status
