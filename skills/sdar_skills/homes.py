"""What is known about the home of a small ALFWorld room: a skill that is made for the task, not read from a file.

Small rooms (`rooms="small"`) stand in homes with habits. The skill says them: for every kind of thing in the room, the
kind of furniture that it is kept in. It says nothing about the game at hand, in which one thing of ten lies elsewhere,
and it is the same for all games in that room of that home.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping

from sdar_envs import Task
from sdar_envs.alfworld.generator import room_habits
from sdar_envs.errors import UnknownName
from sdar_skills.retrievers import TaskTypeRetriever, register_retriever
from sdar_skills.skill import Retrieved, Skill

__all__ = ["HomeRetriever", "home_skill", "read_habits"]


def home_skill(task: Task) -> Skill:
    """Return the skill for the room of a task.

    Raises:
        UnknownName: the task is not in a small room.
    """
    layout = task.data.get("layout", "")
    if not layout.startswith("Small"):
        raise UnknownName(f"{task.id!r:.200} is in no home with habits; make the environment with rooms='small'.")
    habits = room_habits(layout)
    room, _, home = layout.removeprefix("Small").lower().partition("-")
    return Skill(
        name=f"{room}-of-home-{home}",
        suite="alfworld",
        task_type=None,
        description="Where things are kept in this room of this home. For every task in it.",
        text="\n".join(f"- {thing} {place}" for thing, place in habits.items()),
        origin="the habits by which the room was furnished",
        created_by="the sdar-envs authors",
    )


def read_habits(text: str) -> Mapping[str, str]:
    """Return what a skill's text says about habits: thing -> furniture; empty if it says nothing."""
    return dict(re.findall(r"^- (\w+) (\w+)$", text, flags=re.MULTILINE))


class HomeRetriever(TaskTypeRetriever):
    """The skill for the room of the task's home, then the library's for its type and the general ones."""

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        yield Retrieved(home_skill(task), 2.0, "for this room of this home")
        yield from super()._rank(task, candidates, k, rng)


register_retriever("home", HomeRetriever)
