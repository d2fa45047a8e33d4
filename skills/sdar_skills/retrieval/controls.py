"""Controls for experiments with skills: retrievers without some, with those of other task types, without advice."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Literal

from sdar_envs import Task
from sdar_envs.errors import UnknownName
from sdar_skills.library.budget import TokenCounter, fit_budget
from sdar_skills.library.library import Library
from sdar_skills.library.skill import Retrieved, Retriever, Skill

__all__ = ["LeavingOut", "Shuffled", "Textless", "neutral_text"]


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


class Textless:
    """Retriever of skills without advice, as many as another one chooses: a negative control.

    Names and headings say nothing either, so the teacher's prompt has the form of one with skills and no content.

    Args:
        retriever: says how many, and how long they are.
        fill: `empty`, or `neutral` for a text on something else, as long as the skill's.
        count_tokens: counts the tokens of a text; needed for neutral texts.
    """

    def __init__(self, retriever: Retriever, fill: Literal["empty", "neutral"], *, count_tokens: TokenCounter) -> None:
        self._retriever = retriever
        self._fill = fill
        self._count_tokens = count_tokens

    def retrieve(self, task: Task, k: int, token_budget: int | None, rng: random.Random) -> tuple[Retrieved, ...]:
        """Return the choice without its words.

        Raises:
            UnknownName: as the retriever.
            InvalidOption: likewise.
        """
        chosen = self._retriever.retrieve(task, k, token_budget, rng)
        return tuple(self._without_words(number, retrieved) for number, retrieved in enumerate(chosen, 1))

    def _without_words(self, number: int, retrieved: Retrieved) -> Retrieved:
        text = ""
        if self._fill == "neutral":
            text = neutral_text(self._count_tokens(retrieved.skill.text), self._count_tokens)
        skill = Skill(f"note-{number}", retrieved.skill.suite, retrieved.skill.task_type, "A control.", text)
        return Retrieved(skill, retrieved.score, f"{self._fill}, in place of {retrieved.skill.name}")


def neutral_text(tokens: int, count_tokens: TokenCounter) -> str:
    """Return a text that has nothing to do with any task: whole words, as many as `tokens` has room for.

    Args:
        tokens: greatest length; the text is shorter by less than a word.
        count_tokens: counts the tokens of a text.
    """
    low, high = 0, max(0, tokens)  # a word takes a token at least
    words = [_NEUTRAL[i % len(_NEUTRAL)] for i in range(high)]
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(" ".join(words[:middle])) <= tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


_TEXT = (
    "The river rises in the hills and reaches the sea after four days. In spring its banks are covered with reeds, "
    "and herons stand in the shallow water. Farther down there are two bridges, an old one of stone and a newer one "
    "of iron. The older one was built by a guild of masons whose records were kept in the abbey. Boats that pass "
    "under it have to lower their masts. On most evenings the wind comes from the west and drops after sunset. The "
    "tide takes six hours to come in, and a little longer to go out again. Fishermen on this coast paint their boats "
    "in the colours of their families. A choir of forty voices sings in the harbour on the first Sunday of June. "
    "Geese fly over the marshes in October, always in the same direction. The lighthouse was automated long ago, and "
    "its keeper moved inland. From the tower one can see three counties when the air is clear."
)
_NEUTRAL = tuple(_TEXT.split())
