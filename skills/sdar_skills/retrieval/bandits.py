"""Bandit retrievers: UCB1, Thompson sampling, and UCB1 behind a router; they learn from the ledger which skills help.

    statistics = Statistics(ledger, gamma=0.99)
    retriever = UcbRetriever(library, statistics=statistics)
    chosen = retriever.retrieve(task, k=2, token_budget=None, rng=rng)

The context is the task type, and only skills that were shown are credited. The caller appends the results of its
episodes to the ledger (`sdar_skills.evidence.ledger.showings_of_group`). All choices between two refreshes of the
statistics see the same numbers, so equal random generators give equal choices.

Rewards tell what a skill is worth only if the acting policy read it: with skills in the student's prompt (Skill-GRPO),
or in episodes that the teacher plays itself. In SDAR the student acts and never sees a skill: its rewards do not depend
on what the teacher was shown, and a bandit that is fed with them learns noise. Use `task_type` there, or play a share
of the episodes with skills and append only those.
"""

from __future__ import annotations

import math
import random
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from sdar_envs import Task
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_skills.evidence.ledger import NO_SKILL
from sdar_skills.evidence.statistics import Aggregate, Statistics
from sdar_skills.library.skill import Arm, Retrieved, Retriever, Skill, arm_of
from sdar_skills.retrieval.base import LibraryRetriever

__all__ = ["BanditRetriever", "HybridRetriever", "ThompsonRetriever", "UcbRetriever"]


@dataclass(eq=False, repr=False, kw_only=True)
class BanditRetriever(LibraryRetriever):
    """Base class of the bandits: ranks the skills of a suite by a score of their statistics.

    Args:
        library: the skills to choose from.
        statistics: statistics of the ledger.
        refresh: read new entries of the ledger before each choice. False: only `statistics.refresh()` does, so that
            all choices of a training step see the same numbers.
        no_skill_arm: add an arm that shows nothing; skills that rank below it are left out. When nothing is shown,
            append a showing of `NO_SKILL`.
        count_tokens, include_shadow: as in `LibraryRetriever`.
    """

    statistics: Statistics
    refresh: bool = True
    no_skill_arm: bool = False

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        """Return candidates, best first; ties in random order."""
        if self.refresh:
            self.statistics.refresh()
        arms = [arm_of(skill) for skill in candidates]
        if self.no_skill_arm:
            arms.append(NO_SKILL)
        known = self.statistics.context(task.suite, task.task_type)
        scores = self._scores(arms, known, rng)
        # Of a generator's methods, only random() gives the same numbers in every version of Python.
        order = sorted(range(len(arms)), key=lambda number: (-scores[number], rng.random()))
        for number in order:
            if number == len(candidates):
                return
            yield Retrieved(candidates[number], scores[number], self._why(arms[number], known, scores[number]))

    @abstractmethod
    def _scores(self, arms: Sequence[Arm], known: Mapping[Arm, Aggregate], rng: random.Random) -> list[float]:
        """Return a score for each arm; arms that were never shown for the task type are not in `known`."""

    @abstractmethod
    def _why(self, arm: Arm, known: Mapping[Arm, Aggregate], score: float) -> str:
        """Return the reason for a score, for `Retrieved.why`."""


@dataclass(eq=False, repr=False, kw_only=True)
class UcbRetriever(BanditRetriever):
    """UCB1 on the advantage: mean + c * sqrt(2 ln N / n); skills that were never shown come first, in random order.

    n is the number of showings of the skill for the task type and N the sum of n over all candidates (at least 1), both
    after the statistics' discount. For c = 1 and rewards from 0 to 1 this is UCB1; with a discount, discounted UCB.

    Args:
        library, statistics, refresh, no_skill_arm, count_tokens, include_shadow: as in `BanditRetriever`.
        c: exploration constant, in units of the advantage: multiply it by the scale of the rewards, and divide it by
            the group size if the group's mean is the baseline (see `showings_of_group`).

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
            # A discounted weight may underflow to 0.
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


@dataclass(eq=False, repr=False, kw_only=True)
class ThompsonRetriever(BanditRetriever):
    """Gaussian Thompson sampling: ranks skills by one draw from the posterior of each mean advantage.

    The prior is N(0, prior^2), and each showing, weighted by the statistics' discount, is an observation with standard
    deviation `noise`. After n showings of mean m the posterior has precision p = 1 / prior^2 + n / noise^2 and mean
    (n / noise^2) m / p.

    Args:
        library, statistics, refresh, no_skill_arm, count_tokens, include_shadow: as in `BanditRetriever`.
        prior: standard deviation of the prior, in units of reward.
        noise: standard deviation of one advantage; at most 0.5 for rewards of 0 or 1.

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
        """Return the posterior of an arm's mean advantage; the prior for None, an arm that was never shown."""
        if aggregate is None:
            return NormalDist(0.0, self.prior)
        weight = aggregate.n / self.noise**2
        precision = 1 / self.prior**2 + weight
        return NormalDist(weight * aggregate.mean_advantage / precision, math.sqrt(1 / precision))

    def _scores(self, arms: Sequence[Arm], known: Mapping[Arm, Aggregate], rng: random.Random) -> list[float]:
        # By inversion, from random() alone; the inverse of 0 would be minus infinity.
        return [self.belief(known.get(arm)).inv_cdf(max(rng.random(), 2**-53)) for arm in arms]

    def _why(self, arm: Arm, known: Mapping[Arm, Aggregate], score: float) -> str:
        aggregate = known.get(arm)
        belief = self.belief(aggregate)
        shown = "not shown yet" if aggregate is None else _showings(aggregate)
        return f"drew {score:+.2f} from {belief.mean:+.2f} ± {belief.stdev:.2f}, {shown}"


@dataclass(eq=False, repr=False, kw_only=True)
class HybridRetriever(UcbRetriever):
    """UCB1 behind a router: the router preselects skills for the task, UCB1 ranks them.

    Args:
        library, statistics, c, refresh, no_skill_arm, count_tokens, include_shadow: as in `UcbRetriever`.
        router: any retriever; None preselects the skills for the task's type and the general ones.
        proposals: greatest number of skills that a given router preselects.
    """

    router: Retriever | None = None
    proposals: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not is_integer(self.proposals) or self.proposals < 1:
            raise InvalidOption(f"proposals is {self.proposals!r}; wanted a whole number from 1.")

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        if self.router is None:
            proposed = tuple(skill for skill in candidates if skill.task_type in (None, task.task_type))
        else:
            proposed = tuple(found.skill for found in self.router.retrieve(task, self.proposals, None, rng))
        return super()._rank(task, proposed, k, rng)


def _showings(aggregate: Aggregate) -> str:
    plural = "" if aggregate.showings == 1 else "s"
    discounted = "" if aggregate.n == aggregate.showings else f" ({aggregate.n:.1f} after the discount)"
    return f"{aggregate.showings} showing{plural}{discounted}"
