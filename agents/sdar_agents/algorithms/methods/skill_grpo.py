"""Skill-GRPO: GRPO on prompts that show the skills to the student, without a teacher.

The policy is trained with skills in its prompt: evaluate it with and without them.

Source: verl/trainer/main_skill_grpo.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdar_agents.algorithms.grpo import GRPO

__all__ = ["SkillGRPO"]


@dataclass(frozen=True, kw_only=True)
class SkillGRPO(GRPO):
    """GRPO whose student's prompts show the skills."""

    student_sees_skills: ClassVar[bool] = True
