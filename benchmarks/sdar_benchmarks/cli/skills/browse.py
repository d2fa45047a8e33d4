"""`sdar skills list`, `show` and `search`: read a skill library."""

from __future__ import annotations

import argparse

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say
from sdar_benchmarks.cli.skills.libraries import add_library, read_library

__all__ = ["add"]


def add(actions: Commands) -> None:
    """Add the three actions."""
    action = actions.add_parser("list", help="all skills, or those of a suite")
    action.add_argument("--suite", metavar="NAME", help="only this suite, such as alfworld")
    add_library(action)
    action.set_defaults(run=_list)

    action = actions.add_parser("show", help="one skill as a SKILL.md file")
    action.add_argument("skill", metavar="SKILL", help="its id, such as alfworld/carry-one-thing")
    add_library(action)
    action.set_defaults(run=_show)

    action = actions.add_parser("search", help="skills that share words with a text")
    action.add_argument("words", nargs="+", metavar="WORD")
    action.add_argument("--suite", metavar="NAME", help="only this suite")
    action.add_argument("-k", type=int, default=5, metavar="N", help="how many at most (default: %(default)s)")
    add_library(action)
    action.set_defaults(run=_search)


def _list(args: argparse.Namespace) -> None:
    from sdar_benchmarks.analysis.terminal import plain_table, stdout
    from sdar_skills.library.skill_file import GENERAL

    library = read_library(args)
    table = plain_table("skill", "task type", "version", "status", "words")
    table.columns[-1].justify = "right"
    for suite in library.suites if args.suite is None else [args.suite]:
        for skill in library.select(suite, {"active", "shadow", "retired"}, strict=True):
            words = str(len(skill.text.split()))
            table.add_row(skill.id, skill.task_type or GENERAL, skill.version, skill.status, words)
    stdout().print(table)


def _show(args: argparse.Namespace) -> None:
    from sdar_skills.library.skill_file import format_skill

    say(format_skill(read_library(args)[args.skill]), end="")


def _search(args: argparse.Namespace) -> None:
    from sdar_benchmarks.analysis.terminal import plain_table, stdout
    from sdar_skills.retrieval.search import search_skills

    table = plain_table("skill", "score", "description")
    for skill, score in search_skills(read_library(args), " ".join(args.words), k=args.k, suite=args.suite):
        table.add_row(skill.id, f"{score:.2f}", skill.description)
    stdout().print(table)
