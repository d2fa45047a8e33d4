"""What `sdar skills stats` prints: the statistics of a ledger, one row per skill version, text and task type."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

from sdar_envs.errors import UnknownName, did_you_mean
from sdar_skills.evidence.ledger import NO_SKILL, Ledger
from sdar_skills.evidence.statistics import Statistics

__all__ = ["COLUMNS", "Row", "cells", "statistics_rows"]

COLUMNS = ("skill", "version", "text", "shown", "reward", "advantage", "95 % CI", "gap", "step")


class Row(NamedTuple):
    """Numbers of one arm in one task type, over all runs and without a discount.

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


def statistics_rows(path: Path, suite: str | None = None, task_type: str | None = None) -> list[Row]:
    """Read the statistics of a ledger.

    Args:
        path: the file.
        suite: only this suite.
        task_type: only this task type.

    Returns:
        Rows by suite and task type; in each the control first, then the best mean advantage.

    Raises:
        MissingData: there is no such file.
        CorruptData: it is no ledger.
        UnknownName: the ledger has nothing of that suite or task type.
    """
    with Ledger(path, create=False) as ledger:
        statistics = Statistics(ledger)
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
                Row(
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
    return rows


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as the texts of `COLUMNS`; suite and task type are left to the heading."""
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
    if name is not None and name not in known:
        names = sorted(set(known))
        raise UnknownName(
            f"the ledger has no {what} {name!r:.200}; it has {', '.join(names) or 'none'}.{did_you_mean(name, names)}"
        )
