"""Paired trials of skills: a skill with status `shadow` is shown alone, then promoted or retired by its effect.

    ledger.append(paired_showings(skill, task_type, {"suite/train/0": (without, shown), ...}, run="trial"))
    verdicts = judge([skill], Statistics(ledger), TrialRule())

Each task is played with the skill and with nothing, by the same seeds. The verdict compares mean advantages within each
task type and averages over the types, weighted by the skill's showings. Repeated testing inflates the error rate:
`TrialRule` has the figures.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_skills.evidence.ledger import NO_SKILL, Showing
from sdar_skills.evidence.statistics import Aggregate, Statistics
from sdar_skills.library.skill import Skill, Status, arm_of

__all__ = ["TrialRule", "Verdict", "judge", "paired_showings"]


def paired_showings(
    skill: Skill, task_type: str, rewards: Mapping[str, tuple[float, float]], run: str
) -> list[Showing]:
    """Return the ledger entries of a paired trial: a skill that was shown alone, and a control on the same tasks.

    The advantage of the skill is its difference to the control on the same task, and that of the control is 0, so the
    verdict is that of a paired comparison.

    Args:
        skill: the skill on trial.
        task_type: type of the tasks.
        rewards: by task, the mean rewards without and with the skill, over the same seeds.
        run: name of the trial.
    """
    showings = []
    for task, (without, shown) in rewards.items():
        for arm, reward in ((NO_SKILL, without), (arm_of(skill), shown)):
            showings.append(Showing(arm, skill.suite, task_type, task, run, 0, "trial", reward, without))
    return showings


@dataclass(frozen=True, kw_only=True, slots=True)
class TrialRule:
    """Decision rule of a trial: when a skill is promoted or retired.

    The difference d is the skill's mean advantage minus that of its comparison, with standard error s. A skill on trial
    is promoted when d - z s > `promote_above`, and retired when d + z s < `retire_below` or when it is undecided after
    `max_showings`. An active skill is retired when d + z s < `retire_below`.

    Repeated testing promotes worthless skills. Judged after every 8 showings with rewards of 0 and 1, a skill without
    effect was promoted in 24 % of 300 trials with z = 1.96, in 6 % with 2.58 and in 1 % with 3.3. With 3.3, a skill
    that adds 0.1 to the success rate was promoted in all of them, after 424 showings (median).

    Args:
        min_showings: least number of showings of the skill and of its comparison before a decision, after the discount
            (`Aggregate.effective_n`).
        max_showings: a skill on trial that is undecided after this many showings is retired.
        z: half-width of the interval in standard errors.
        promote_above: in units of reward.
        retire_below: in units of reward; not above `promote_above`.

    Raises:
        InvalidOption: a number is out of range.
    """

    min_showings: int = 50
    max_showings: int = 2_000
    z: float = 3.3
    promote_above: float = 0.0
    retire_below: float = 0.0

    def __post_init__(self) -> None:
        if not is_integer(self.min_showings) or self.min_showings < 2:
            raise InvalidOption(f"min_showings is {self.min_showings!r}; wanted a whole number from 2.")
        if not is_integer(self.max_showings) or self.max_showings < self.min_showings:
            raise InvalidOption(
                f"max_showings is {self.max_showings!r}; wanted a whole number from min_showings, {self.min_showings}."
            )
        if not 0 < self.z < math.inf:
            raise InvalidOption(f"z is {self.z!r}; wanted a number above 0.")
        if not self.retire_below <= self.promote_above:
            raise InvalidOption(
                f"retire_below is {self.retire_below!r}, promote_above is {self.promote_above!r}; wanted the first not "
                "above the second."
            )


class Verdict(NamedTuple):
    """Decision of a trial about one skill: its new status and the reason.

    Attributes:
        skill: the skill, unchanged.
        status: the status that it should have.
        showings: showings of this version, in the task types that could be compared.
        difference: its mean advantage minus that of its comparison; None if nothing could be compared.
        error: standard error of the difference; None if there is no difference.
        why: the reason in words.
    """

    skill: Skill
    status: Status
    showings: int
    difference: float | None
    error: float | None
    why: str


def judge(skills: Iterable[Skill], statistics: Statistics, rule: TrialRule) -> tuple[Verdict, ...]:
    """Return a verdict on each skill that is on trial or active; retired skills are skipped.

    Args:
        skills: the skills.
        statistics: statistics of the ledger.
        rule: the decision rule.
    """
    return tuple(_judge(skill, statistics, rule) for skill in skills if skill.status != "retired")


class _Mean(NamedTuple):
    """Estimated mean with the square of its standard error and the effective number of showings."""

    value: float
    squared_error: float
    effective_n: float


def _judge(skill: Skill, statistics: Statistics, rule: TrialRule) -> Verdict:
    arm = arm_of(skill)
    compared: list[tuple[Aggregate, float, float]] = []
    mine = theirs = 0.0
    for suite, task_type in statistics.contexts():
        known = statistics.context(suite, task_type)
        if suite != skill.suite or arm not in known:
            continue
        own, other = _mean(known[arm]), _mean(known[NO_SKILL]) if NO_SKILL in known else None
        if own is None or other is None:
            continue
        compared.append((known[arm], own.value - other.value, own.squared_error + other.squared_error))
        mine += own.effective_n
        theirs += other.effective_n
    showings = sum(aggregate.showings for aggregate, _, _ in compared)
    total = math.fsum(aggregate.n for aggregate, _, _ in compared)
    if not total:
        return Verdict(skill, skill.status, showings, None, None, "nothing to compare with the control yet")
    difference = math.fsum(aggregate.n / total * value for aggregate, value, _ in compared)
    error = math.sqrt(math.fsum((aggregate.n / total) ** 2 * squared for aggregate, _, squared in compared))
    half = rule.z * error
    if min(mine, theirs) < rule.min_showings:
        status, reason = skill.status, f"too few, {min(mine, theirs):.0f} of {rule.min_showings} on one side"
    else:
        status, reason = _decide(skill.status, difference - half, difference + half, showings, rule)
    why = f"{difference:+.3f} ± {half:.3f} against the control over {showings} showings: {reason}"
    return Verdict(skill, status, showings, difference, error, why)


def _decide(status: Status, low: float, high: float, showings: int, rule: TrialRule) -> tuple[Status, str]:
    """Return the status that follows from the interval, and the reason."""
    if high < rule.retire_below:
        return "retired", "it does harm" if rule.retire_below <= 0 else "it helps too little"
    if status == "active":
        return status, "it stays"
    if low > rule.promote_above:
        return "active", "it helps"
    if showings >= rule.max_showings:
        return "retired", "undecided for too long"
    return status, "undecided"


def _mean(aggregate: Aggregate) -> _Mean | None:
    """Return the mean advantage of an arm; None if its error is unknown."""
    if aggregate.variance is None or not aggregate.n:
        return None
    return _Mean(aggregate.mean_advantage, aggregate.variance / aggregate.effective_n, aggregate.effective_n)
