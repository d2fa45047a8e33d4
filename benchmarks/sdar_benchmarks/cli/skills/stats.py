"""`sdar skills stats`: the statistics of a ledger, one row per skill version, text and task type."""

from __future__ import annotations

import argparse
import json
import math
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

__all__ = ["add"]

_COLUMNS = ("skill", "version", "text", "shown", "reward", "advantage", "95 % CI", "gap", "step")


class _Row(NamedTuple):
    """Statistics of one skill version in one task type, over all runs and without a discount.

    Attributes:
        skill: its id, or `none`.
        version, sha256: of the skill as it was shown.
        suite, task_type: where.
        showings: how often.
        mean_reward, mean_advantage: over them.
        half_width: of the 95 % interval of the mean advantage (normal, for showings that do not depend on each other:
            too narrow where groups share a control); None for one showing.
        mean_gap: of the showings that have one, in nats per token; None if none has.
        last_step: training step of the latest.
    """

    skill: str
    version: str
    sha256: str
    suite: str
    task_type: str
    showings: int
    mean_reward: float
    mean_advantage: float
    half_width: float | None
    mean_gap: float | None
    last_step: int


def add(actions: Commands) -> None:
    """Add `sdar skills stats`."""
    action = actions.add_parser("stats", help="statistics of the skills in a ledger, by task type")
    action.add_argument("ledger", metavar="LEDGER", help="ledger file of a training run")
    action.add_argument("--suite", metavar="NAME", help="only this suite, such as alfworld")
    action.add_argument("--task-type", metavar="NAME", help="only this kind of task")
    action.add_argument("--json", action="store_true", help="print JSON instead of a table")
    action.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    from sdar_benchmarks.analysis.terminal import plain_table, stdout

    rows, left_out = _rows(Path(args.ledger), args.suite, args.task_type)
    if left_out:
        say(f"warning: {left_out:,} rows of {args.ledger} do not fit and are left out", error=True)
    if args.json:
        say(json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False))
        return
    console = stdout()
    for number, ((suite, task_type), group) in enumerate(groupby(rows, key=lambda row: (row.suite, row.task_type))):
        table = plain_table(*_COLUMNS)
        for row in group:
            table.add_row(*_cells(row))
        for column in table.columns[1:]:
            column.justify = "right"
            column.min_width = max(len(str(cell)) for cell in (column.header, *column.cells))
        console.print(f"{chr(10) * (number > 0)}{suite}, {task_type}")
        console.print(table)


def _rows(path: Path, suite: str | None, task_type: str | None) -> tuple[list[_Row], int]:
    """Return the statistics of a ledger.

    Args:
        path: the file.
        suite: only this suite; None for all.
        task_type: only this task type; None for all.

    Returns:
        Rows by suite and task type; in each the control first, then the best mean advantage. And the number of rows of
        the ledger that are left out, because their values have other types or are out of range.

    Raises:
        MissingData: there is no such file.
        CorruptData: the file is no ledger.
        UnknownName: the ledger has nothing of that suite or task type.
    """
    from sdar_skills.evidence.ledger import NO_SKILL, Ledger
    from sdar_skills.evidence.statistics import Statistics

    with Ledger(path, create=False) as ledger:
        statistics, left_out = Statistics(ledger), ledger.left_out()
    contexts = statistics.contexts()
    _check("suite", suite, [known for known, _ in contexts])
    _check("task type", task_type, [kind for known, kind in contexts if suite in (None, known)])
    rows = []
    for known, kind in contexts:
        if suite not in (None, known) or task_type not in (None, kind):
            continue
        found = statistics.context(known, kind)
        for arm in sorted(found, key=lambda arm: (arm != NO_SKILL, -found[arm].mean_advantage, arm)):
            numbers = found[arm]
            error = None if numbers.variance is None else math.sqrt(numbers.variance / numbers.effective_n)
            rows.append(
                _Row(
                    *arm,
                    known,
                    kind,
                    numbers.showings,
                    numbers.mean_reward,
                    numbers.mean_advantage,
                    None if error is None else 1.96 * error,
                    numbers.mean_gap,
                    numbers.last_step,
                )
            )
    return rows, left_out


def _cells(row: _Row) -> tuple[str, ...]:
    """Return a row as the texts of `_COLUMNS`; suite and task type are in the heading."""
    from sdar_skills.evidence.ledger import NO_SKILL

    return (
        "(no skill)" if row.skill == NO_SKILL.skill else row.skill.removeprefix(f"{row.suite}/"),
        row.version or "-",
        row.sha256[:8] or "-",
        f"{row.showings:,}",
        f"{row.mean_reward:.3f}",
        f"{row.mean_advantage:+.3f}",
        "-" if row.half_width is None else f"± {row.half_width:.3f}",
        "-" if row.mean_gap is None else f"{row.mean_gap:+.3f}",
        str(row.last_step),
    )


def _check(what: str, name: str | None, known: list[str]) -> None:
    from sdar_envs.errors import UnknownName, did_you_mean

    if name is not None and name not in known:
        names = sorted(set(known))
        raise UnknownName(
            f"the ledger has no {what} {name!r:.200}; it has {', '.join(names) or 'none'}.{did_you_mean(name, names)}"
        )
