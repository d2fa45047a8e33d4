"""Options that several verbs share: environments, NAME=VALUE settings, addresses of servers."""

from __future__ import annotations

import argparse
from typing import Any, TypeAlias

__all__ = [
    "Commands",
    "add_address",
    "add_environment",
    "add_pairs",
    "add_settings",
    "add_shop",
    "add_token",
    "add_training_verb",
    "environment_arguments",
    "setting",
]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""What `ArgumentParser.add_subparsers` returns: verbs and actions add their parsers to it."""


def setting(text: str) -> tuple[str, Any]:
    """Parse `NAME=VALUE`; the value is read as JSON if it is JSON, else kept as text.

    Raises:
        ArgumentTypeError: the text has another form.
    """
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE, such as goals=human")
    from sdar_envs.files.json_text import parse_json  # --help does not wait for this package

    try:
        return name, parse_json(value)
    except ValueError:
        return name, value


def add_address(command: argparse.ArgumentParser, *, port: int) -> None:
    """Add `--host` and `--port`.

    Args:
        command: the parser of a verb that opens a server.
        port: the default port.
    """
    command.add_argument(
        "--host", default="127.0.0.1", metavar="NAME", help="address to listen on (default: %(default)s)"
    )
    command.add_argument(
        "--port", type=int, default=port, metavar="N", help="port to listen on; 0: any free one (default: %(default)s)"
    )


def add_token(command: argparse.ArgumentParser) -> None:
    """Add `--token-env`.

    Args:
        command: the parser of a verb that opens a server for programs.
    """
    command.add_argument(
        "--token-env",
        metavar="NAME",
        help="environment variable with a token that each request must send (default: none is wanted)",
    )


def add_environment(command: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the environment's id and its arguments. Arguments that are not given are left to the environment.

    Args:
        command: the parser of a verb that makes an environment.
        several: the verb takes any number of ids, as `env_ids`, instead of one, as `env_id`.
    """
    text = "such as sdar/ALFWorld-v0 (`sdar list` names them), or module:ID for one that your module registers"
    if several:
        command.add_argument("env_ids", nargs="*", metavar="ENV_ID", help=text)
    else:
        command.add_argument("env_id", metavar="ENV_ID", help=text)
    group = command.add_argument_group("environment")
    add_settings(group)
    options = [
        group.add_argument("--split", metavar="NAME", help="split of the tasks (default: the environment's)"),
        *_add_data(group),
        group.add_argument("--wording", metavar="NAME", help="ALFWorld: commands of this release, such as put"),
        group.add_argument("--max-steps", type=int, metavar="N", help="step limit of an episode"),
    ]
    command.set_defaults(env_options=tuple(option.dest for option in options))


def add_shop(command: argparse.ArgumentParser) -> None:
    """Add the arguments of the shop and its goals, named as where an environment is made."""
    group = command.add_argument_group("environment")
    add_settings(group)
    options = [
        *_add_data(group),
        group.add_argument("--quirks", metavar="NAME", help="original or fixed (default: original)"),
    ]
    command.set_defaults(env_options=tuple(option.dest for option in options))


def _add_data(group: argparse._ArgumentGroup) -> list[argparse.Action]:
    return [
        group.add_argument("--data", metavar="NAME", help="source of the tasks, such as official"),
        group.add_argument("--data-dir", metavar="DIR", help="folder of the official data"),
        group.add_argument("--goals", metavar="NAME", help="WebShop: synthetic or human"),
        group.add_argument("--num-products", type=int, metavar="N", help="WebShop: only the first N records"),
    ]


def add_settings(group: argparse._ActionsContainer) -> None:
    """Add `--set` for the arguments of the environment.

    Args:
        group: the parser, or a group of it.
    """
    help_ = "any argument of the environment (`sdar info` names them), such as goals=human; may be repeated"
    add_pairs(group, "--set", "settings", help_)


def add_pairs(group: argparse._ActionsContainer, option: str, dest: str, help_: str) -> None:
    """Add an option that takes NAME=VALUE and may be repeated (see `setting`).

    Args:
        group: a parser or a group of it.
        option: such as `--set`.
        dest: attribute of the list of pairs.
        help_: the help.
    """
    group.add_argument(option, dest=dest, type=setting, action="append", default=[], metavar="NAME=VALUE", help=help_)


def add_training_verb(commands: Commands, name: str, *, help_: str, example: str) -> argparse.ArgumentParser:
    """Add a verb that takes any setting of a training by its path; these are in `overrides`.

    Args:
        commands: what it is added to.
        name: of the verb.
        help_: the help.
        example: two settings as on a command line.
    """
    command = commands.add_parser(
        name, help=help_, epilog=f"Any setting may follow by its path, such as {example}.", allow_abbrev=False
    )
    command.set_defaults(overrides=())
    return command


def environment_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the environment that were given on the command line.

    Args:
        args: of a parser whose `env_options` names the options that are arguments of the environment.
    """
    given = dict(getattr(args, "settings", ()))
    return given | {name: getattr(args, name) for name in args.env_options if getattr(args, name) is not None}
