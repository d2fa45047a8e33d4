"""A made-up model behind an endpoint whose play depends on the skills that it reads, and its library."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from helpers.endpoints import Reply, act
from helpers.skill_toys import make_skill

from sdar_skills import save_skill

ENV_ID = "toy/SkilledCounting-v0"
"""`helpers.toy:CountingEnv`, to be registered by the test."""


def write_library(folder: Path) -> Path:
    """Write skills for the two task types of the counting toy, and a general one."""
    for name, kind in (("go-up", "count_up"), ("say-up", "count_up"), ("go-down", "count_down"), ("be-calm", None)):
        save_skill(make_skill(name, kind, f"This is {name}."), folder)
    return folder


def reader_of(helps: str, *, share: float = 1.0) -> Callable[[dict[str, Any]], Reply]:
    """Return a model that reaches the number if its prompt shows the skill `helps`, and else does nothing of use.

    Args:
        helps: name of the skill.
        share: of the tasks in which it helps, drawn by the task.
    """

    def respond(body: dict[str, Any]) -> Reply:
        prompt = body["messages"][-1]["content"]
        target = int(re.search(r"Make it (\d+)", prompt)[1])
        number = int(re.findall(r"It is (-?\d+)", prompt)[-1])
        digest = int(hashlib.sha256(f"{target}".encode()).hexdigest(), 16) % 100
        if f"### {helps}" in prompt and digest < 100 * share:
            return act("up" if number < target else "down")
        return act("double" if number else "down")

    return respond
