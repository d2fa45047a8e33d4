"""Entry point of `sdar`: parse the arguments, run the verb, turn errors into one line and an exit status.

Each verb is one module: `add` defines its options, `_run` does the work. A verb imports what it works with inside that
function, so that `sdar --help` needs no Gymnasium and a verb needs no optional dependency of another one.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any, NoReturn

from sdar_benchmarks.cli.data import bench, data, index
from sdar_benchmarks.cli.output import say
from sdar_benchmarks.cli.play import eval as evaluation
from sdar_benchmarks.cli.play import info, play
from sdar_benchmarks.cli.play import list as listing
from sdar_benchmarks.cli.prompts import prompts
from sdar_benchmarks.cli.results import compare, leaderboard, report, view
from sdar_benchmarks.cli.servers import serve
from sdar_benchmarks.cli.skills import skills
from sdar_benchmarks.cli.training import demos, export, quickstart, sft, study, train

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
    export,
    quickstart,
    study,
    bench,
    serve,
    data,
    index,
    skills,
    prompts,
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
    args, rest = make_parser().parse_known_args(argv)
    if "overrides" in args:
        args.overrides = rest
    elif rest:
        args.parser.refuse(rest)
    args.typed = shlex.join(["sdar", *(sys.argv[1:] if argv is None else argv)])
    try:
        return _run(args)
    except KeyboardInterrupt:
        say("interrupted", error=True)
        return 130
    except BrokenPipeError:
        # The reader has left (`sdar list | head -1`). Python would complain when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """Parser of `sdar` or of a verb, whose errors are one line with the closest known name.

    `args.parser` is the parser of the verb, or of its action, that was given.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.set_defaults(parser=self)

    def refuse(self, arguments: Sequence[str]) -> NoReturn:
        """Exit because of arguments that the verb does not have."""
        from sdar_envs.errors import did_you_mean

        options = re.findall(r"--[\w-]+", self.format_usage())
        closest = did_you_mean(arguments[0].partition("=")[0], options)
        self.error(f"unrecognized arguments: {' '.join(arguments)}.{closest}")

    def error(self, message: str) -> NoReturn:
        """Exit with status 2 and one line."""
        if choice := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            from sdar_envs.errors import did_you_mean

            message += "." + did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))
        self.exit(2, f"error: {message} (see `{self.prog} --help`)\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs. Each sets `run`, the function that gets the parsed arguments."""
    parser = _Parser(prog="sdar", description="Text environments for language agents.")
    parser.add_argument("--version", action="version", version=f"sdar-envs {version('sdar-envs')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for verb in _VERBS:
        verb.add(commands)
    return parser


def _run(args: argparse.Namespace) -> int:
    import gymnasium as gym

    from sdar_envs.errors import SdarError
    from sdar_envs.secrets import redact

    try:
        status: int = args.run(args) or 0
        sys.stdout.flush()
    except (SdarError, gym.error.Error) as error:
        # An error is one line, even if its message has several.
        say("error:", " ".join(redact(str(error)).split()), error=True)
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        say(f"error: the output cannot be written ({error})", error=True)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2
    return status
