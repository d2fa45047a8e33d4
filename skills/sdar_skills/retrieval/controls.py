"""Controls for experiments with skills: a retriever without some skills, and one with skills of other task types."""

from __future__ import annotations

import random
from collections.abc import Collection

from sdar_envs import Task
from sdar_envs.errors import UnknownName
from sdar_skills.library.budget import TokenCounter, fit_budget
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retrieved, Retriever

__all__ = ["LeavingOut", "Shuffled"]


class LeavingOut:
    """Retriever whose choice lacks some skills; nothing takes their place, so that their effect can be measured.

    Args:
        retriever: chooses.
        skills: ids of those that are left out.
    """

    def __init__(self, retriever: Retriever, skills: Collection[str]) -> None:
        self._retriever = retriever
        self._skills = frozenset(skills)

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return the choice without those skills.

        Raises:
            UnknownName: as the retriever.
            InvalidOption: likewise.
        """
        chosen = self._retriever.retrieve(task, k, token_budget, rng)
        return tuple(retrieved for retrieved in chosen if retrieved.skill.id not in self._skills)


class Shuffled:
    """Retriever of skills for other task types, as many as another one chooses: a negative control.

    Its texts are advice for tasks of the suite, but not for the one that is played. General skills are not among them.

    Args:
        retriever: says how many.
        library: the skills to draw from.
        count_tokens: counts the tokens of a skill's text; needed for token budgets.
    """

    def __init__(self, retriever: Retriever, library: Library, *, count_tokens: TokenCounter | None = None) -> None:
        self._retriever = retriever
        self._library = library
        self._count_tokens = count_tokens

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return skills for other task types, drawn at random.

        Raises:
            UnknownName: as the retriever, or there is no skill for another task type.
            InvalidOption: as the retriever.
        """
        wanted = len(self._retriever.retrieve(task, k, token_budget, rng))
        others = [s for s in self._library.select(task.suite) if s.task_type not in (None, task.task_type)]
        if wanted and not others:
            raise UnknownName(
                f"there is no {task.suite} skill for another task type than {task.task_type!r:.200}, and a shuffled "
                "control shows such skills: leave the control out, or add skills."
            )
        drawn = (
            Retrieved(s, 0.0, f"for another type, {s.task_type}") for s in sorted(others, key=lambda _: rng.random())
        )
        return fit_budget(drawn, wanted, token_budget, self._count_tokens)
