"""Options of verbs in which a model reads skills."""

from __future__ import annotations

import argparse
from typing import Any

from sdar_benchmarks.cli.options import setting
from sdar_benchmarks.cli.skills.libraries import add_library

__all__ = ["add_skill_options", "skill_settings"]

# Option -> setting, as in the section `skills` of a training configuration.
_SETTINGS = {
    "skills": "retriever",
    "library": "library",
    "k": "k",
    "placement": "placement",
    "reader": "reader",
    "skill_tokens": "skill_tokens",
}


def add_skill_options(command: argparse.ArgumentParser, *, skills: str | None = None) -> None:
    """Add the options of the skills that a model reads.

    Args:
        command: the parser of a verb.
        skills: the default of `--skills`; None where models read no skills unless it is given.
    """
    group = command.add_argument_group("skills")
    usual = "none are read" if skills is None else skills
    group.add_argument(
        "--skills",
        default=skills,
        metavar="STRATEGY",
        help=f"how skills for the model are chosen, such as task_type (default: {usual})",
    )
    add_library(group)
    group.add_argument("--k", type=int, metavar="N", help="how many skills at most (default: 6)")
    group.add_argument("--placement", choices=["user", "system", "legacy_prefix"], help="where (default: user)")
    group.add_argument(
        "--reader", choices=["student"], help="who reads them: the model that acts, the only one there is"
    )
    group.add_argument(
        "--skill-tokens", type=int, metavar="N", help="limit of their texts together, where there is a tokenizer"
    )
    group.add_argument(
        "--skills-set",
        dest="skill_settings",
        type=setting,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of skills, such as max_prompt_tokens=4096; may be repeated",
    )
    command.set_defaults(skill_options=(*_SETTINGS, "no_builtin", "skill_settings"))


def skill_settings(args: argparse.Namespace) -> dict[str, Any] | None:
    """Return the settings of the skills that the options of `add_skill_options` describe; None without `--skills`.

    Raises:
        InvalidOption: there are settings, but no `--skills`.
    """
    from sdar_envs.errors import InvalidOption

    given = {name: getattr(args, option) for option, name in _SETTINGS.items() if getattr(args, option)}
    given |= {"builtin": False} if args.no_builtin else {}
    given |= dict(args.skill_settings)
    if args.k == 0:
        given["k"] = 0
    if given and args.skills is None:
        raise InvalidOption(
            f"{', '.join(given)} of skills {'is' if len(given) == 1 else 'are'} given, but no strategy: add --skills "
            "task_type, or another one that `sdar skills check --help` names."
        )
    return given or None
