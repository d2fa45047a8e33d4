"""`sdar skills check`: which skills each task gets under each strategy, and the gaps."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any

from sdar_benchmarks.cli.options import Commands, environment_arguments
from sdar_benchmarks.cli.output import say
from sdar_benchmarks.cli.skills.libraries import add_library, read_library

if TYPE_CHECKING:
    from sdar_skills import Library, Retriever
    from sdar_skills.retrieval.coverage import Coverage

__all__ = ["add"]

_GAPS = 1


def add(actions: Commands) -> None:
    """Add `sdar skills check`."""
    action = actions.add_parser(
        "check", help="report the skills that each task gets, and gaps; status 1 if there are gaps"
    )
    action.add_argument("--suite", metavar="NAME", help="such as alfworld")
    action.add_argument(
        "--env", dest="env_id", metavar="ENV_ID", help="an environment of yours, such as module:ID (instead of --suite)"
    )
    action.add_argument("--limit", type=int, metavar="N", help="only N tasks, a fixed sample (default: all)")
    action.add_argument(
        "--strategy", action="append", metavar="NAME", help="may be repeated (default: all, embedding with --encoder)"
    )
    action.add_argument(
        "--ledger", metavar="FILE", help="ledger that ucb, thompson and hybrid choose by (default: empty)"
    )
    action.add_argument("--encoder", metavar="NAME", help="model of sentence-transformers, for embedding")
    action.add_argument("-k", type=int, default=6, metavar="N", help="skills for a task (default: %(default)s)")
    action.add_argument("--summary", action="store_true", help="do not print the tasks one by one")
    add_library(action)
    options = [
        action.add_argument("--split", metavar="NAME", help="split of the tasks (default: the environment's)"),
        action.add_argument("--data", metavar="NAME", help="source of the tasks, such as official"),
        action.add_argument("--data-dir", metavar="DIR", help="folder of the official data"),
    ]
    action.set_defaults(run=_run, parser=action, env_options=tuple(option.dest for option in options))


def _run(args: argparse.Namespace) -> int:
    if (args.suite is None) == (args.env_id is None):
        args.parser.error("wanted either --suite NAME, such as alfworld, or --env ENV_ID")
    from sdar_envs.registry import open_split, sample_tasks
    from sdar_skills.retrieval.coverage import measure_coverage

    env_id = args.env_id or _environment_of(args.suite)
    library = read_library(args)
    retrievers = _retrievers(args, library)
    env_kwargs = environment_arguments(args)
    env, split = open_split(env_id, env_kwargs, env_kwargs.get("split"), setting="--split")
    tasks = sample_tasks(env.source, split, args.limit)
    coverage = measure_coverage(library, tasks, retrievers, k=args.k)
    if not args.summary:
        _print_tasks(coverage)
    say(f"{len(tasks)} tasks of {env_id}, split {split}, up to {args.k} skills each\n")
    _print_summary(coverage)
    return _GAPS if coverage.has_gaps else 0


def _environment_of(suite: str) -> str:
    """Return the environment of a suite of this package.

    Raises:
        UnknownName: there is no such suite.
    """
    from sdar_envs import ENV_IDS
    from sdar_envs.errors import UnknownName, did_you_mean
    from sdar_envs.registry import suite_of

    known = {suite_of(env_id): env_id for env_id in ENV_IDS}
    if suite not in known:
        raise UnknownName(
            f"no environment for the suite {suite!r}; the suites are {', '.join(known)}, and --env names an "
            f"environment of yours.{did_you_mean(suite, known)}"
        )
    return known[suite]


def _retrievers(args: argparse.Namespace, library: Library) -> dict[str, Retriever]:
    """Return the requested strategies, or all that can be made."""
    from sdar_envs.errors import InvalidOption
    from sdar_envs.search_qa.retrieval.engines.encoder import sentence_encoder
    from sdar_skills import make_retriever, retriever_names
    from sdar_skills.evidence.ledger import Ledger
    from sdar_skills.evidence.statistics import Statistics

    with Ledger(None) if args.ledger is None else Ledger(args.ledger, create=False) as ledger:
        learners: dict[str, Any] = {"statistics": Statistics(ledger), "refresh": False}
    settings = dict.fromkeys(("ucb", "thompson", "hybrid"), learners)
    if args.encoder is not None:
        settings["embedding"] = {"encoder": sentence_encoder(args.encoder)}
    # `home` is for small rooms, which no panel of this command has.
    left_out = {"home"} if args.encoder is not None else {"home", "embedding"}
    names = args.strategy or [name for name in retriever_names() if name not in left_out]
    if "embedding" in names and args.encoder is None:
        raise InvalidOption(
            "the strategy embedding needs a model that makes vectors of text: name one by --encoder, such as "
            "intfloat/e5-base-v2; that needs pip install 'sdar-envs[embedding]'."
        )
    return {name: make_retriever(name, library, **settings.get(name, {})) for name in names}


def _print_tasks(coverage: Coverage) -> None:
    from sdar_benchmarks.analysis.terminal import WIDTH

    for entry in coverage.tasks:
        say(f"{entry.task.id}  {entry.task.task_type}  {entry.task.instruction}")
        for name, found in entry.found.items():
            given = "refused: no skill for this type" if found is None else ", ".join(r.skill.name for r in found)
            say(
                textwrap.fill(
                    f"{name:<10} {given or 'nothing'}",
                    WIDTH,
                    initial_indent="  ",
                    subsequent_indent=" " * 13,
                    break_on_hyphens=False,
                )
            )
    say()


def _print_summary(coverage: Coverage) -> None:
    from sdar_benchmarks.analysis.terminal import plain_table, stdout

    table = plain_table("strategy", "tasks with a skill for their type", "tasks without any skill")
    for name, without in coverage.tasks_without_skill.items():
        own = coverage.tasks_of_own_type[name]
        table.add_row(name, f"{own} ({own / len(coverage.tasks):.1%})", str(without))
    stdout().print(table)
    say()
    for title, names in (
        ("types without a skill", coverage.types_without_skill),
        ("skills that no task reaches", coverage.unreached),
        ("types with skills that are not in this panel", coverage.types_not_in_panel),
    ):
        say(f"{title}: {', '.join(names) or 'none'}")
    say("gaps" if coverage.has_gaps else "no gaps")
