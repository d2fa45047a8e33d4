"""A/B trials of skills: skills with status `shadow` are shown at random, then promoted or retired by their results.

    retriever = TrialRetriever(usual, shadow_skills, statistics, share=0.1, control_share=0.1)
    ...                                                       # play, append to the ledger
    verdicts = judge(library, statistics, TrialRule())
    library = apply(library, verdicts)

A skill on trial is shown alone, and a control is shown nothing; episodes are assigned to both at random. The verdict
compares mean advantages within each task type and averages over the types, weighted by the skill's showings. Repeated
testing inflates the error rate: `TrialRule` has the figures.

Append the showings with `baseline="group"` or a number. With `control`, all members of a group share the error of the
same one or two control episodes, which the standard errors here do not include: of 60 worthless skills that were shown
to seven of each group of eight next to one control, judged after every 28 showings for 60 steps, 11 were promoted with
z = 3.3; with the other two baselines and `TrialRetriever`'s random assignment, none of 60.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from sdar_envs import Task
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_skills.evidence.ledger import NO_SKILL
from sdar_skills.evidence.statistics import Aggregate, Statistics
from sdar_skills.library.budget import TokenCounter, check_limits, fit_budget
from sdar_skills.library.skill import Retrieved, Retriever, Skill, Status, arm_of

__all__ = ["TrialRetriever", "TrialRule", "Verdict", "apply", "judge"]


class TrialRetriever:
    """Retriever for trials: a skill on trial, or nothing, with given probabilities; else the usual retriever's choice.

    Of the skills on trial for a task's type (and the general ones) the least shown one is taken. Where there is none,
    or none fits the token budget, the usual retriever's choice is returned.

    Args:
        retriever: the usual retriever.
        shadow: skills; those that are not on trial are ignored.
        statistics: statistics of the ledger; refreshed by the caller.
        share: probability of a skill on trial.
        control_share: probability of no skill; append these showings as `NO_SKILL`.
        count_tokens: counts the tokens of a skill's text; needed for token budgets.

    Raises:
        InvalidOption: a share is negative, or they add up to more than 1.
    """

    def __init__(
        self,
        retriever: Retriever,
        shadow: Iterable[Skill],
        statistics: Statistics,
        *,
        share: float = 0.1,
        control_share: float = 0.1,
        count_tokens: TokenCounter | None = None,
    ) -> None:
        if not (share >= 0 and control_share >= 0 and share + control_share <= 1):
            raise InvalidOption(
                f"share is {share!r} and control_share is {control_share!r}; wanted numbers from 0 that add up to 1 at "
                "most."
            )
        self._retriever = retriever
        self._shadow = sorted((skill for skill in shadow if skill.status == "shadow"), key=lambda skill: skill.id)
        self._statistics = statistics
        self._share = share
        self._control_share = control_share
        self._count_tokens = count_tokens

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return one skill on trial, no skill, or the usual retriever's choice.

        Raises:
            UnknownName: as the usual retriever.
            InvalidOption: as the usual retriever, or there is a budget without `count_tokens`.
        """
        check_limits(k, token_budget, self._count_tokens)
        # Called in any case, so that its errors and its random draws do not depend on the trial.
        usual = self._retriever.retrieve(task, k, token_budget, rng)
        drawn = rng.random()
        if drawn < self._control_share:
            return ()
        if drawn >= self._control_share + self._share:
            return usual
        suite = task.suite
        known = self._statistics.context(suite, task.task_type)

        def shown(skill: Skill) -> tuple[int, float]:
            aggregate = known.get(arm_of(skill))
            return (0 if aggregate is None else aggregate.showings), rng.random()

        meant = (s for s in self._shadow if s.suite == suite and s.task_type in (None, task.task_type))
        on_trial = (Retrieved(skill, 0.0, "on trial") for skill in sorted(meant, key=shown))
        return fit_budget(on_trial, min(k, 1), token_budget, self._count_tokens) or usual


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
        against: the comparison: `control`, the arm that shows nothing, or `active`, the active skills together.

    Raises:
        InvalidOption: a number is out of range.
    """

    min_showings: int = 50
    max_showings: int = 2_000
    z: float = 3.3
    promote_above: float = 0.0
    retire_below: float = 0.0
    against: Literal["control", "active"] = "control"

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
        if self.against not in ("control", "active"):
            raise InvalidOption(f"against is {self.against!r}; wanted 'control' or 'active'.")


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
        skills: all skills of the library; the active ones may serve as the comparison.
        statistics: statistics of the ledger.
        rule: the decision rule.
    """
    skills = tuple(skills)
    return tuple(_judge(skill, skills, statistics, rule) for skill in skills if skill.status != "retired")


def apply(skills: Iterable[Skill], verdicts: Iterable[Verdict]) -> tuple[Skill, ...]:
    """Return the skills with the statuses of the verdicts. The version stays, and with it the statistics."""
    statuses = {(verdict.skill.id, verdict.skill.version): verdict.status for verdict in verdicts}
    return tuple(replace(skill, status=statuses.get((skill.id, skill.version), skill.status)) for skill in skills)


class _Mean(NamedTuple):
    """Estimated mean with the square of its standard error and the effective number of showings."""

    value: float
    squared_error: float
    effective_n: float


def _judge(skill: Skill, skills: Sequence[Skill], statistics: Statistics, rule: TrialRule) -> Verdict:
    arm = arm_of(skill)
    rivals = [NO_SKILL]
    if rule.against == "active":
        rivals = [arm_of(other) for other in skills if other.status == "active" and other.id != skill.id]
    compared: list[tuple[Aggregate, float, float]] = []
    mine = theirs = 0.0
    for suite, task_type in statistics.contexts():
        known = statistics.context(suite, task_type)
        if suite != skill.suite or arm not in known:
            continue
        own, other = _mean([known[arm]]), _mean([known[rival] for rival in rivals if rival in known])
        if own is None or other is None:
            continue
        compared.append((known[arm], own.value - other.value, own.squared_error + other.squared_error))
        mine += own.effective_n
        theirs += other.effective_n
    showings = sum(aggregate.showings for aggregate, _, _ in compared)
    against = "the control" if rule.against == "control" else "the active skills"
    total = math.fsum(aggregate.n for aggregate, _, _ in compared)
    if not total:
        return Verdict(skill, skill.status, showings, None, None, f"nothing to compare with {against} yet")
    difference = math.fsum(aggregate.n / total * value for aggregate, value, _ in compared)
    error = math.sqrt(math.fsum((aggregate.n / total) ** 2 * squared for aggregate, _, squared in compared))
    half = rule.z * error
    if min(mine, theirs) < rule.min_showings:
        status, reason = skill.status, f"too few, {min(mine, theirs):.0f} of {rule.min_showings} on one side"
    else:
        status, reason = _decide(skill.status, difference - half, difference + half, showings, rule)
    why = f"{difference:+.3f} ± {half:.3f} against {against} over {showings} showings: {reason}"
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


def _mean(aggregates: Sequence[Aggregate]) -> _Mean | None:
    """Return the weighted mean advantage of arms together; None if its error is unknown."""
    known = [(aggregate, aggregate.variance) for aggregate in aggregates if aggregate.variance is not None]
    total = math.fsum(aggregate.n for aggregate, _ in known)
    if not total:
        return None
    value = math.fsum(aggregate.n / total * aggregate.mean_advantage for aggregate, _ in known)
    squared = math.fsum((aggregate.n / total) ** 2 * variance / aggregate.effective_n for aggregate, variance in known)
    return _Mean(value, squared, math.fsum(aggregate.effective_n for aggregate, _ in known))
