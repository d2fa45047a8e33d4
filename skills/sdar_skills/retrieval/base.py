"""Base class of the retrievers that rank the skills of a library.

    class Shortest(LibraryRetriever):
        def _rank(self, task, candidates, k, rng):
            for skill in sorted(candidates, key=lambda skill: len(skill.text)):
                yield Retrieved(skill, -len(skill.text), "short")

`make_retriever("my_module:Shortest", library)` makes it. Any other object with the method of
`sdar_skills.Retriever` is a retriever too.
"""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

from sdar_envs import Task
from sdar_envs.errors import InvalidOption
from sdar_skills.library.budget import TokenCounter, check_limits, fit_budget
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retrieved, Skill, Status

__all__ = ["LibraryRetriever"]


@dataclass(eq=False, repr=False)
class LibraryRetriever:
    """Retriever over a library: a subclass ranks the candidates, this class applies the limits.

    Args:
        library: the skills to choose from.
        count_tokens: counts the tokens of a skill's text; needed for token budgets.
        include_shadow: return skills on trial (status `shadow`) too.

    Attributes:
        puts_task_skills_first: whether skills for the task's type precede general ones. A token budget that leaves
            out all of the former is then an error: general skills alone would hide that something is missing.
    """

    puts_task_skills_first: ClassVar[bool] = False

    library: Library
    _: KW_ONLY
    count_tokens: TokenCounter | None = None
    include_shadow: bool = False

    def __post_init__(self) -> None:
        self.statuses: frozenset[Status] = frozenset({"active", "shadow"} if self.include_shadow else {"active"})

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return the skills to show to the teacher, best first.

        Args:
            task: the task that is played.
            k: greatest number of skills; 0 returns none for any task.
            token_budget: tokens that their texts may take together; None is no limit.
            rng: the only source of randomness.

        Raises:
            UnknownName: the library has no skills for the task's suite or type.
            InvalidOption: a limit is negative, there is a budget without `count_tokens`, or none of the task's own
                skills fits the budget.
        """
        check_limits(k, token_budget, self.count_tokens)
        if k == 0:
            return ()
        ranked = tuple(self._rank(task, self.library.candidates(task, self.statuses), k, rng))
        chosen = fit_budget(ranked, k, token_budget, self.count_tokens)
        kind = ranked[0].skill.task_type if ranked and self.puts_task_skills_first else None
        if kind is not None and self.count_tokens is not None and not any(r.skill.task_type == kind for r in chosen):
            shortest = min(self.count_tokens(r.skill.text) for r in ranked if r.skill.task_type == kind)
            raise InvalidOption(
                f"token_budget is {token_budget}, and no skill for {kind!r} fits: the shortest takes {shortest}. "
                "Give it more, or ask for no skills with k=0."
            )
        return chosen

    @abstractmethod
    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        """Return candidates, best first; some may be left out, and more than `k` is no error."""
