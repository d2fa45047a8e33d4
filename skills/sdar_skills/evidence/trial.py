"""Trials: skills with status `shadow` are shown now and then, and the ledger decides what becomes of them.

    retriever = TrialRetriever(usual, shadow_skills, statistics, share=0.1, control_share=0.1)
    ...                                                       # play, append to the ledger
    verdicts = judge(library, statistics, TrialRule())
    library = apply(library, verdicts)

A skill on trial is shown alone, at random, and beside a control that is shown nothing, so that chance and nothing else
decides which episodes it gets. The verdict compares mean advantages within each task type and takes the mean over
the types, weighted by how often the skill was shown in each. Judging again and again finds luck sooner or later:
`TrialRule` says how often.

Append the showings with `baseline="group"` or a number. With `control`, all of a group are compared with the luck of
the same one or two episodes, which the standard errors here do not know: of 60 worthless skills that were shown to
seven of each group of eight beside one control, judged after every 28 showings for 60 steps, 11 were promoted in spite
of z = 3.3; with the other two baselines, and draws by `TrialRetriever` as here, none of 60.
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
from sdar_skills.library.skill import Retrieved, Retriever, Skill, Status, arm_of
from sdar_skills.retrieval.retrievers import TokenCounter, check_limits, fit_budget

__all__ = ["TrialRetriever", "TrialRule", "Verdict", "apply", "judge"]


class TrialRetriever:
    """Shows a skill on trial, or nothing, in a share of the cases; else what another retriever chooses.

    Of the skills on trial for a task's type (and the general ones) the one that was shown least is taken. Where there
    is none, or none fits the token budget, its share falls to the other retriever.

    Args:
        retriever: the usual one.
        shadow: the skills; those that are not on trial are passed over.
        statistics: what the ledger says; refreshed by the caller.
        share: of the cases that show a skill on trial.
        control_share: of the cases that show nothing; append them as `NO_SKILL`.
        count_tokens: measures a skill's text; needed for token budgets.

    Raises:
        InvalidOption: the shares are not from 0 to 1 together.
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
        """Return one skill on trial, nothing, or what the usual retriever returns.

        Raises:
            UnknownName: as the usual retriever.
            InvalidOption: as the usual retriever, or there is a budget without `count_tokens`.
        """
        check_limits(k, token_budget, self._count_tokens)
        # Asked in any case: what it refuses is refused always, and its draws do not depend on the trial.
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
    """When a skill is promoted or retired.

    The difference d is the skill's mean advantage minus that of what it is compared with, and its standard error s
    comes from both. A skill on trial is promoted when d - z s > `promote_above`, and retired when d + z s <
    `retire_below` or when `max_showings` did not decide. An active skill is retired when d + z s < `retire_below`.

    Whoever looks often is fooled often. Judged after every 8 showings with rewards of 0 and 1, a skill that is worth
    nothing was promoted in 24 % of 300 trials with z = 1.96, in 6 % with 2.58 and in 1 % with 3.3. With 3.3, one that
    adds 0.1 to the chance of success was promoted in all of them, after 424 showings (median).

    Args:
        min_showings: of the skill and of what it is compared with, before anything is decided; after the discount
            (`Aggregate.effective_n`).
        max_showings: after so many a skill on trial is retired undecided: it does not help enough to show.
        z: width of the interval in standard errors.
        promote_above: in units of reward.
        retire_below: in units of reward; not above `promote_above`.
        against: `control`, the arm that shows nothing; `active`, the active skills together.

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
    """What the ledger says about a skill.

    Attributes:
        skill: as it was.
        status: what it should be.
        showings: of this version, in the task types that could be compared.
        difference: its mean advantage minus that of what it is compared with; None if nothing could be compared.
        error: standard error of the difference; None like it.
        why: in words.
    """

    skill: Skill
    status: Status
    showings: int
    difference: float | None
    error: float | None
    why: str


def judge(skills: Iterable[Skill], statistics: Statistics, rule: TrialRule) -> tuple[Verdict, ...]:
    """Judge the skills that are on trial or active; the retired stay retired and are not judged.

    Args:
        skills: all of the library: those that are active may be what the others are compared with.
        statistics: what the ledger says.
        rule: what is enough.
    """
    skills = tuple(skills)
    return tuple(_judge(skill, skills, statistics, rule) for skill in skills if skill.status != "retired")


def apply(skills: Iterable[Skill], verdicts: Iterable[Verdict]) -> tuple[Skill, ...]:
    """Return the skills with the statuses of the verdicts. A status is no new version: what was learnt stays."""
    statuses = {(verdict.skill.id, verdict.skill.version): verdict.status for verdict in verdicts}
    return tuple(replace(skill, status=statuses.get((skill.id, skill.version), skill.status)) for skill in skills)


class _Mean(NamedTuple):
    """An estimated mean, the square of its standard error, and how many equal showings it rests on."""

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
    """Return the status that follows from the ends of the interval, and why."""
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
    """Return the mean advantage of arms together, each showing with its weight; None if its error is not known."""
    known = [(aggregate, aggregate.variance) for aggregate in aggregates if aggregate.variance is not None]
    total = math.fsum(aggregate.n for aggregate, _ in known)
    if not total:
        return None
    value = math.fsum(aggregate.n / total * aggregate.mean_advantage for aggregate, _ in known)
    squared = math.fsum((aggregate.n / total) ** 2 * variance / aggregate.effective_n for aggregate, variance in known)
    return _Mean(value, squared, math.fsum(aggregate.effective_n for aggregate, _ in known))
