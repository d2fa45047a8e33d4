"""A skill retriever of one's own: short skills first, for models with a small context.

In the folder of this file, wherever a retriever has a name:

    sdar skills check --suite alfworld --limit 2 --strategy own_skill_retriever:ShortestFirst
    sdar demos sdar/ALFWorld-v0 --out demos.jsonl --with-skills 1 --retriever own_skill_retriever:ShortestFirst
    sdar train --config alfworld_sdar_tiny --skills.retriever own_skill_retriever:ShortestFirst \
        --skills.options "{longest: 155}"

A `LibraryRetriever` ranks the candidates and leaves the limits (number, tokens, unknown task types) to its base class.
Any class that takes the library and has the method `retrieve(task, k, token_budget, rng)` will do as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import sdar_envs
from sdar_envs import Task
from sdar_skills import Library, LibraryRetriever, Retrieved, Skill, make_retriever


class ShortestFirst(LibraryRetriever):
    """Skills for the task's type, then general ones, the shortest first within each.

    Args:
        library: the skills to choose from.
        longest: greatest number of words in a skill; None for any.
        count_tokens: counts the tokens of a text; the trainer passes it if `skills.skill_tokens` limits them.
    """

    def __init__(self, library: Library, *, longest: int | None = None, count_tokens=None) -> None:
        super().__init__(library, count_tokens=count_tokens)
        self.longest = longest

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        for skill in sorted(candidates, key=lambda skill: (skill.task_type is None, len(skill.text.split()))):
            words = len(skill.text.split())
            if skill.task_type in (None, task.task_type) and (self.longest is None or words <= self.longest):
                yield Retrieved(skill, -words, f"{words} words")


if __name__ == "__main__":
    task = sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_unseen", limit=1)[0]
    retriever = make_retriever("own_skill_retriever:ShortestFirst", Library.load(), longest=155)
    print(task.task_type)
    for skill, score, why in retriever.retrieve(task, k=3, token_budget=None, rng=random.Random(0)):
        print(f"{skill.id:<40} {score:6.1f}  {why}")
