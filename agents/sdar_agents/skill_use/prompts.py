"""Skills in prompts: which are shown, to whom and where.

In a rollout the reader is the teacher by default: it scores the student's tokens with skills in its prompt, and the
student never sees one. In Skill-GRPO and in an evaluation the reader is the student. In a mixed rollout the members of
a group are of two branches, with and without skills in the student's prompt, and the teacher reads the prompt of the
other branch. Skills are chosen by the task's
own fields (`sdar_skills.Retriever`) and placed by `sdar_skills.teacher_context`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from sdar_agents.settings.checks import check_value
from sdar_envs import Task
from sdar_skills import Retriever, Skill
from sdar_skills.context import Placement
from sdar_skills.library.skill import Arm

__all__ = ["Reader", "SkillPrompts", "name_skill"]

Reader = Literal["teacher", "student", "mixed"]
"""Whose prompt has skills in it. `mixed`: the student's in the last members of a group, else the teacher's; the other
prompt of such a turn is the same without skills. Source: UCOB (arXiv 2606.29502)."""


@dataclass(frozen=True, slots=True, eq=False)
class SkillPrompts:
    """Retriever, reader, placement and limits of the skills in prompts.

    Attributes:
        retriever: chooses the skills, once per episode.
        reader: see `Reader`.
        placement: where in the prompt they are inserted.
        k: how many at most.
        skill_tokens: that their texts may take together; the retriever needs `count_tokens` then. None is no limit.
        max_prompt_tokens: limit of the teacher's whole prompt; None is what the policy's context leaves. What does not
            fit is dropped as `teacher_context` says: skills from the worst, but not the best; then history. The
            student's prompt has the rollout's limit.
        varied: draw again for each member of a group, for strategies that draw; else the group shares its skills.
        control_members: so many members of each group, the last ones, are shown nothing: the ledger's control. In a
            mixed rollout it is the first ones that play without skills.

    Raises:
        InvalidOption: a value is out of range.
    """

    retriever: Retriever
    reader: Reader = "teacher"
    placement: Placement = "user"
    k: int = 6
    skill_tokens: int | None = None
    max_prompt_tokens: int | None = None
    varied: bool = False
    control_members: int = 0

    def __post_init__(self) -> None:
        check_value("reader", self.reader, Reader)
        check_value("placement", self.placement, Placement)
        check_value("k", self.k, int, low=0)
        check_value("control_members", self.control_members, int, low=0)
        check_value("max_prompt_tokens", self.max_prompt_tokens, int | None, low=1)

    def acts(self, member: int) -> bool:
        """Return whether the student's prompt has the skills.

        Args:
            member: number of the member in the group, from 0.
        """
        return self.reader == "student" or (self.reader == "mixed" and member >= self.control_members)

    def choose(self, task: Task, member: int, group_size: int, seeds: tuple[int, int]) -> tuple[Skill, ...] | None:
        """Return the skills for a member of a group, best first; None if it is a control without a prompt that has any.

        Args:
            task: the group's task.
            member: number of the member in the group, from 0.
            group_size: how many members there are.
            seeds: of the group and of the episode.

        Raises:
            UnknownName: the library has no skills for the task's suite or type.
        """
        if self.reader != "mixed" and member >= group_size - self.control_members:
            return None
        rng = random.Random(seeds[1] if self.varied else seeds[0])
        retrieved = self.retriever.retrieve(task, self.k, self.skill_tokens, rng)
        return tuple(item.skill for item in retrieved)


def name_skill(arm: Arm) -> str:
    """Return the name of a skill in `Turn.skill_ids`: `<id>@<version>`."""
    return f"{arm.skill}@{arm.version}"
