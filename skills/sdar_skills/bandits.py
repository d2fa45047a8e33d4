"""Retrievers that learn from the ledger which skills help: UCB, Thompson sampling, and a router before them.

    statistics = Statistics(ledger, gamma=0.99)
    retriever = UcbRetriever(library, statistics=statistics)
    chosen = retriever.retrieve(task, k=2, token_budget=None, rng=rng)

What they learn is kept per task type, and only from skills that were shown. They learn nothing by themselves: whoever
plays appends what came of it to the ledger (`sdar_skills.ledger.showings_of_group`). All choices between two
refreshes of the statistics see the same numbers, so equal random generators give equal choices.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from statistics import NormalDist
from typing import Protocol

from sdar_envs import Task
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_skills.ledger import NO_SKILL, Arm, arm_of, suite_of
from sdar_skills.skill import Retrieved, Retriever, Skill, Status
from sdar_skills.statistics import Aggregate, Statistics

__all__ = ["BanditRetriever", "Candidates", "HybridRetriever", "ThompsonRetriever", "UcbRetriever"]


class Candidates(Protocol):
    """Where skills come from: the library."""

    def candidates(self, task: Task, statuses: Collection[Status]) -> tuple[Skill, ...]:
        """Return the skills of a task's suite that have one of these statuses, always in the same order.

        Raises:
            UnknownName: there are none for the task's suite or type.
        """
        ...


@dataclass(eq=False)
class BanditRetriever(ABC):
    """What the strategies share: candidates, the order, the arm that shows nothing, limits.

    Args:
        library: where the skills come from; a sequence of skills will do.
        statistics: what the ledger says.
        refresh: read what is new in the ledger before each choice. False: only when somebody calls
            `statistics.refresh()`, so that all choices of a training step see the same numbers.
        no_skill_arm: let showing nothing compete: skills that rank below it are left out. When nothing is shown, append
            a showing of `NO_SKILL`.
        count_tokens: measures a skill's text; needed for token budgets.
        include_shadow: choose among skills on trial, too.

    Raises:
        InvalidOption: a setting is out of range.
    """

    library: Candidates | Sequence[Skill]
    _: KW_ONLY
    statistics: Statistics
    refresh: bool = True
    no_skill_arm: bool = False
    count_tokens: Callable[[str], int] | None = None
    include_shadow: bool = False

    def __post_init__(self) -> None:
        self._source: Candidates = _SkillList(self.library) if isinstance(self.library, Sequence) else self.library
        self._statuses: frozenset[Status] = frozenset({"active", "shadow"} if self.include_shadow else {"active"})

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return the skills to show to the teacher, best first.

        Args:
            task: what is played; only `id` and `task_type` are read.
            k: how many at most.
            token_budget: tokens that their texts may take together; a skill that does not fit what is left is left out
                whole, and the next one is tried. None is no limit.
            rng: the only source of chance.

        Raises:
            UnknownName: the library has no skills for the task's suite or type.
            InvalidOption: a limit is negative, or there is a budget without `count_tokens`.
        """
        self._check_limits(k, token_budget)
        if self.refresh:
            self.statistics.refresh()
        candidates = self._candidates(task, rng)
        chosen: list[Retrieved] = []
        left = token_budget
        for retrieved in self._rank(task, candidates, rng):
            if len(chosen) == k:
                break
            if left is not None and self.count_tokens is not None:
                tokens = self.count_tokens(retrieved.skill.text)
                if tokens > left:
                    continue
                left -= tokens
            chosen.append(retrieved)
        return tuple(chosen)

    def _candidates(self, task: Task, rng: random.Random) -> tuple[Skill, ...]:
        return self._source.candidates(task, self._statuses)

    def _rank(self, task: Task, candidates: Sequence[Skill], rng: random.Random) -> Iterable[Retrieved]:
        """Return candidates, best first; equal ones in an order that `rng` draws."""
        arms = [arm_of(skill) for skill in candidates]
        if self.no_skill_arm:
            arms.append(NO_SKILL)
        known = self.statistics.context(suite_of(task), task.task_type)
        scores = self._scores(arms, known, rng)
        # Of a generator's methods, only random() gives the same numbers in every version of Python.
        order = sorted(range(len(arms)), key=lambda number: (-scores[number], rng.random()))
        for number in order:
            if number == len(candidates):
                return
            yield Retrieved(candidates[number], scores[number], self._why(arms[number], known, scores[number]))

    @abstractmethod
    def _scores(self, arms: Sequence[Arm], known: Mapping[Arm, Aggregate], rng: random.Random) -> list[float]:
        """Return a score for each arm; `known` lacks those that were never shown for the task type."""

    @abstractmethod
    def _why(self, arm: Arm, known: Mapping[Arm, Aggregate], score: float) -> str:
        """Say how an arm came to its score."""

    def _check_limits(self, k: int, token_budget: int | None) -> None:
        if not is_integer(k) or k < 0:
            raise InvalidOption(f"k is {k!r}; wanted how many skills at most, from 0.")
        if token_budget is None:
            return
        if not is_integer(token_budget) or token_budget < 0:
            raise InvalidOption(f"token_budget is {token_budget!r}; wanted None or a number of tokens from 0.")
        if self.count_tokens is None:
            raise InvalidOption(
                f"token_budget is {token_budget}, but nothing counts tokens: make the retriever with count_tokens=, "
                "such as lambda text: len(tokenizer.encode(text))."
            )


@dataclass(eq=False, kw_only=True)
class UcbRetriever(BanditRetriever):
    """UCB1 on the advantage: mean + c * sqrt(2 ln N / n); skills that were never shown come first, in a drawn order.

    n is how often the skill was shown for the task type and N the sum of n over all candidates (1 at least), both
    after the statistics' discount. For c = 1 and rewards from 0 to 1 this is UCB1; with a discount, discounted UCB.

    Args:
        library, statistics, refresh, no_skill_arm, count_tokens, include_shadow: as in `BanditRetriever`.
        c: how much exploration, in units of reward: multiply it by the scale of the rewards.

    Source:
        P. Auer, N. Cesa-Bianchi, P. Fischer, Finite-time analysis of the multiarmed bandit problem, Machine Learning
        47 (2002), Figure 1. A. Garivier, E. Moulines, On upper-confidence bound policies for switching bandit problems,
        ALT 2011, section 2.
    """

    c: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.c < math.inf:
            raise InvalidOption(f"c is {self.c!r}; wanted a number from 0.")

    def _scores(self, arms: Sequence[Arm], known: Mapping[Arm, Aggregate], rng: random.Random) -> list[float]:
        seen = [known.get(arm) for arm in arms]
        total = math.fsum(aggregate.n for aggregate in seen if aggregate is not None)
        width = self.c * math.sqrt(2 * math.log(max(total, 1.0)))
        return [
            # A showing so old that its weight is 0 counts as none.
            math.inf
            if aggregate is None or not aggregate.n
            else aggregate.mean_advantage + width / math.sqrt(aggregate.n)
            for aggregate in seen
        ]

    def _why(self, arm: Arm, known: Mapping[Arm, Aggregate], score: float) -> str:
        if score == math.inf:
            return "not shown yet for this task type"
        aggregate = known[arm]
        mean = aggregate.mean_advantage
        return f"mean {mean:+.2f} over {_showings(aggregate)}, bonus {score - mean:.2f}"


@dataclass(eq=False, kw_only=True)
class ThompsonRetriever(BanditRetriever):
    """Thompson sampling: each skill's value is drawn from what is believed of it, and the best draws are shown.

    The belief in the mean advantage is normal: prior N(0, prior^2), and each showing, weighted by the statistics'
    discount, is an observation with standard deviation `noise`. After n showings of mean m its precision is
    p = 1 / prior^2 + n / noise^2 and its mean (n / noise^2) m / p.

    Args:
        library, statistics, refresh, no_skill_arm, count_tokens, include_shadow: as in `BanditRetriever`.
        prior: how far skills are expected to differ from no effect, in units of reward.
        noise: standard deviation of one advantage; 0.5 is the most that a reward of 0 or 1 can have.

    Source:
        S. Agrawal, N. Goyal, Further optimal regret bounds for Thompson sampling, AISTATS 2013, section 2.2
        (there prior and noise are 1). V. Raj, S. Kalyani, Taming non-stationary bandits, 2017 (the discount).
    """

    prior: float = 0.2
    noise: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("prior", self.prior), ("noise", self.noise)):
            if not 0 < value < math.inf:
                raise InvalidOption(f"{name} is {value!r}; wanted a number above 0.")

    def belief(self, aggregate: Aggregate | None) -> NormalDist:
        """Return what is believed of the mean advantage of an arm; None: it was never shown."""
        if aggregate is None:
            return NormalDist(0.0, self.prior)
        weight = aggregate.n / self.noise**2
        precision = 1 / self.prior**2 + weight
        return NormalDist(weight * aggregate.mean_advantage / precision, math.sqrt(1 / precision))

    def _scores(self, arms: Sequence[Arm], known: Mapping[Arm, Aggregate], rng: random.Random) -> list[float]:
        # By inversion, from random() alone; its 0 would be minus infinity.
        return [self.belief(known.get(arm)).inv_cdf(max(rng.random(), 2**-53)) for arm in arms]

    def _why(self, arm: Arm, known: Mapping[Arm, Aggregate], score: float) -> str:
        aggregate = known.get(arm)
        belief = self.belief(aggregate)
        shown = "not shown yet" if aggregate is None else _showings(aggregate)
        return f"drew {score:+.2f} from {belief.mean:+.2f} ± {belief.stdev:.2f}, {shown}"


@dataclass(eq=False, kw_only=True)
class HybridRetriever(UcbRetriever):
    """A router proposes, UCB chooses: only skills that can be meant for the task are tried out.

    Args:
        library, statistics, c, refresh, no_skill_arm, count_tokens, include_shadow: as in `UcbRetriever`.
        router: any retriever; None: the skills for the task's type and the general ones.
        proposals: how many skills a given router may propose.
    """

    router: Retriever | None = None
    proposals: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_integer(self.proposals) or self.proposals < 1:
            raise InvalidOption(f"proposals is {self.proposals!r}; wanted a whole number from 1.")

    def _candidates(self, task: Task, rng: random.Random) -> tuple[Skill, ...]:
        if self.router is not None:
            return tuple(retrieved.skill for retrieved in self.router.retrieve(task, self.proposals, None, rng))
        candidates = super()._candidates(task, rng)
        return tuple(skill for skill in candidates if skill.task_type in (None, task.task_type))


class _SkillList:
    """A plain sequence of skills as a source of candidates."""

    def __init__(self, skills: Sequence[Skill]) -> None:
        self._skills = sorted(skills, key=lambda skill: skill.id)
        for skill, following in zip(self._skills, self._skills[1:], strict=False):
            if skill.id == following.id:
                raise InvalidOption(f"two skills have the id {skill.id!r}; wanted one of each.")

    def candidates(self, task: Task, statuses: Collection[Status]) -> tuple[Skill, ...]:
        suite = suite_of(task)
        suites = sorted({skill.suite for skill in self._skills})
        if suite not in suites:
            raise UnknownName(
                f"no skills for the suite {suite!r:.200}; there are some for {', '.join(suites) or 'none'}."
                f"{did_you_mean(suite, suites)}"
            )
        found = tuple(skill for skill in self._skills if skill.suite == suite and skill.status in statuses)
        types = sorted({skill.task_type for skill in found if skill.task_type is not None})
        if task.task_type not in types:
            raise UnknownName(
                f"no {suite} skill ({', '.join(sorted(statuses))}) for the task type {task.task_type!r:.200}; "
                f"there are some for {', '.join(types) or 'none'}.{did_you_mean(task.task_type, types)}"
            )
        return found


def _showings(aggregate: Aggregate) -> str:
    plural = "" if aggregate.showings == 1 else "s"
    discounted = "" if aggregate.n == aggregate.showings else f" ({aggregate.n:.1f} after the discount)"
    return f"{aggregate.showings} showing{plural}{discounted}"
