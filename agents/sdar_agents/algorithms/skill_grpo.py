"""Skill-GRPO: GRPO on prompts that show the skills to the student.

Nothing is distilled: what it learns, it learns with the skills before it. Evaluate it with and without them.

Source: verl/trainer/main_skill_grpo.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdar_agents.algorithms.grpo import GRPO

__all__ = ["SkillGRPO"]


@dataclass(frozen=True, kw_only=True)
class SkillGRPO(GRPO):
    """GRPO whose student sees the skills; its settings."""

    student_sees_skills: ClassVar[bool] = True
