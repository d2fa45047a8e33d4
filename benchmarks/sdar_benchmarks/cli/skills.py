"""What the subcommands of `sdar skills` do."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from sdar_benchmarks.analysis.terminal import WIDTH, plain_table, stdout
from sdar_benchmarks.cli.skills_stats import COLUMNS, cells, statistics_rows
from sdar_benchmarks.evaluation.arguments import env_class, make_env
from sdar_envs.core import text_env
from sdar_envs.errors import UnknownName, did_you_mean
from sdar_envs.registry import count_tasks
from sdar_envs.search_qa.retrieval.engines.encoder import sentence_encoder
from sdar_skills import Library, Retriever, make_retriever, retriever_names, save_skill
from sdar_skills.evidence.ledger import Ledger
from sdar_skills.evidence.statistics import Statistics
from sdar_skills.formats import FORMATS
from sdar_skills.library.skill_file import GENERAL, format_skill
from sdar_skills.retrieval.coverage import Coverage, measure_coverage
from sdar_skills.retrieval.search import search_skills

__all__ = ["ACTIONS"]

_ENVIRONMENTS = {
    "alfworld": "sdar/ALFWorld-v0",
    "webshop": "sdar/WebShop-v0",
    "search_qa": "sdar/SearchQA-v0",
}
_GAPS = 1


def _list(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    library = _library(args)
    table = plain_table("skill", "task type", "version", "status", "words")
    table.columns[-1].justify = "right"
    for suite in library.suites if args.suite is None else [args.suite]:
        for skill in library.select(suite, {"active", "shadow", "retired"}, strict=True):
            words = str(len(skill.text.split()))
            table.add_row(skill.id, skill.task_type or GENERAL, skill.version, skill.status, words)
    stdout().print(table)
    return 0


def _show(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    print(format_skill(_library(args)[args.skill]), end="")
    return 0


def _search(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    table = plain_table("skill", "score", "description")
    for skill, score in search_skills(_library(args), " ".join(args.words), k=args.k, suite=args.suite):
        table.add_row(skill.id, f"{score:.2f}", skill.description)
    stdout().print(table)
    return 0


def _check(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    if args.suite not in _ENVIRONMENTS:
        raise UnknownName(
            f"no environment for the suite {args.suite!r}; the suites are {', '.join(_ENVIRONMENTS)}."
            f"{did_you_mean(args.suite, _ENVIRONMENTS)}"
        )
    library = _library(args)
    retrievers = _retrievers(args, library)
    env_id = _ENVIRONMENTS[args.suite]
    split = env_kwargs.get("split", env_class(env_id).evaluation_split)
    source = text_env(make_env(env_id, {**env_kwargs, "split": split})).source
    tasks = [source.task(split, index) for index in range(count_tasks(source, split, args.limit))]
    coverage = measure_coverage(library, tasks, retrievers, k=args.k)
    if not args.summary:
        _print_tasks(coverage)
    print(f"{len(tasks)} tasks of {env_id}, split {split}, up to {args.k} skills each\n")
    _print_summary(coverage)
    return _GAPS if coverage.has_gaps else 0


def _import(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    imported = FORMATS[args.format].read(Path(args.source), args.suite, dict(args.task_type))
    for line in imported.report:
        print(line, file=sys.stderr)
    for skill in imported.skills:
        print(save_skill(skill, args.output))
    return 0


def _export(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    library = _library(args)
    skills = library.select(args.suite, strict=True)
    report = FORMATS[args.format].write(skills, Path(args.target))
    others = library.select(args.suite, {"shadow", "retired"})
    for line in (*report, *(f"left out: {skill.id}, which is {skill.status}" for skill in others)):
        print(line, file=sys.stderr)
    print(f"wrote {len(skills)} skills to {args.target}")
    return 0


def _stats(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> int:
    rows = statistics_rows(Path(args.ledger), args.suite, args.task_type)
    if args.json:
        print(json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False))
        return 0
    console = stdout()
    for number, ((suite, task_type), group) in enumerate(groupby(rows, key=lambda row: (row.suite, row.task_type))):
        table = plain_table(*COLUMNS)
        for row in group:
            table.add_row(*cells(row))
        for column in table.columns[1:]:
            column.justify = "right"
            column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
        console.print(f"{chr(10) * (number > 0)}{suite}, {task_type}")
        console.print(table)
    return 0


ACTIONS: Mapping[str, Callable[[argparse.Namespace, Mapping[str, Any]], int]] = {
    "list": _list,
    "show": _show,
    "search": _search,
    "check": _check,
    "import": _import,
    "export": _export,
    "stats": _stats,
}
"""What `sdar skills` can do. Each takes the parsed arguments and those of the environment, and returns the status."""


def _library(args: argparse.Namespace) -> Library:
    return Library.load(*args.library, builtin=not args.no_builtin)


def _retrievers(args: argparse.Namespace, library: Library) -> dict[str, Retriever]:
    """Make the strategies that were asked for, or all that can be made."""
    with Ledger(None) if args.ledger is None else Ledger(args.ledger, create=False) as ledger:
        learners: dict[str, Any] = {"statistics": Statistics(ledger), "refresh": False}
    settings = dict.fromkeys(("ucb", "thompson", "hybrid"), learners)
    if args.encoder is not None:
        settings["embedding"] = {"encoder": sentence_encoder(args.encoder)}
    # `home` is for small rooms, which no panel of this command has.
    left_out = {"home"} if args.encoder is not None else {"home", "embedding"}
    names = args.strategy or [name for name in retriever_names() if name not in left_out]
    return {name: make_retriever(name, library, **settings.get(name, {})) for name in names}


def _print_tasks(coverage: Coverage) -> None:
    for entry in coverage.tasks:
        print(f"{entry.task.id}  {entry.task.task_type}  {entry.task.instruction}")
        for name, found in entry.found.items():
            given = "refused: no skill for this type" if found is None else ", ".join(r.skill.name for r in found)
            print(
                textwrap.fill(
                    f"{name:<10} {given or 'nothing'}",
                    WIDTH,
                    initial_indent="  ",
                    subsequent_indent=" " * 13,
                    break_on_hyphens=False,
                )
            )
    print()


def _print_summary(coverage: Coverage) -> None:
    table = plain_table("strategy", "tasks with a skill for their type", "tasks without any skill")
    for name, without in coverage.tasks_without_skill.items():
        own = coverage.tasks_of_own_type[name]
        table.add_row(name, f"{own} ({own / len(coverage.tasks):.1%})", str(without))
    stdout().print(table)
    print()
    for title, names in (
        ("types without a skill", coverage.types_without_skill),
        ("skills that no task reaches", coverage.unreached),
        ("types with skills that are not in this panel", coverage.types_not_in_panel),
    ):
        print(f"{title}: {', '.join(names) or 'none'}")
    print("gaps" if coverage.has_gaps else "no gaps")
