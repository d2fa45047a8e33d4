"""Toy skills and tasks for the tests of the skill library."""

from __future__ import annotations

from typing import Any

from sdar_envs import Task
from sdar_skills import Skill


def make_skill(name: str, task_type: str | None = None, text: str = "Do it.", **fields: Any) -> Skill:
    fields = {"suite": "toy", "description": f"About {name}.", **fields}
    return Skill(name=name, task_type=task_type, text=text, **fields)


def make_task(task_type: str = "lift", instruction: str = "lift the box.", suite: str = "toy") -> Task:
    return Task(f"{suite}/test/0000", f"toy/{suite}", "test", task_type, instruction)
