"""What is known about the home of a small ALFWorld room: a skill that is made for the task, not read from a file.

Small rooms (`rooms="small"`) stand in homes with habits. The skill says those that the task is about: the kind of
furniture that the wanted thing is kept in, and the lamp, if one is wanted. It says nothing about the game at hand, in
which one thing of ten lies elsewhere, and it is the same for all tasks about that thing in that room of that home.

Furniture is written as in ALFWorld's own files (`SideTable`), and so nowhere else in a prompt: a model of a million
parameters learnt to read such a line, and did not learn to find the right one in a list of all habits.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sdar_envs import Task
from sdar_envs.alfworld.generator import room_habits
from sdar_envs.alfworld.instruction import read_instruction
from sdar_envs.alfworld.knowledge import RECEPTACLE_CLASSES
from sdar_envs.errors import UnknownName
from sdar_skills.library.skill import Retrieved, Skill
from sdar_skills.retrieval.retrievers import TaskTypeRetriever, register_retriever

__all__ = ["HomeRetriever", "home_skill", "read_habits"]

_FURNITURE = MappingProxyType({class_.lower(): class_ for class_ in RECEPTACLE_CLASSES})


def home_skill(task: Task) -> Skill:
    """Return the skill for a task.

    Raises:
        UnknownName: the task is not in a small room.
    """
    layout = task.data.get("layout", "")
    if not layout.startswith("Small"):
        raise UnknownName(f"{task.id!r:.200} is in no home with habits; make the environment with rooms='small'.")
    habits = room_habits(layout)
    mission = read_instruction(task.instruction)
    wanted = [thing for thing in (mission.object_class, mission.lamp_class) if thing and thing in habits]
    room, _, home = layout.removeprefix("Small").lower().partition("-")
    return Skill(
        name=f"{'-and-'.join(wanted)}-in-{room}-of-home-{home}",
        suite="alfworld",
        task_type=None,
        description=f"Where this home keeps the {' and the '.join(wanted)} in its {room}. For every task about that.",
        text="\n".join(f"- {thing}: {_FURNITURE[habits[thing]]}" for thing in wanted),
        origin="the habits by which the room was furnished",
        created_by="the sdar-envs authors",
    )


def read_habits(text: str) -> Mapping[str, str]:
    """Return what a skill's text says about habits, in small letters: thing -> furniture; empty if it says nothing."""
    return {
        thing: place.lower()
        for thing, place in re.findall(r"^- (\w+): (\w+)$", text, flags=re.MULTILINE)
        if place.lower() in _FURNITURE
    }


class HomeRetriever(TaskTypeRetriever):
    """The skill for what the task wants in its home, then the library's for its type and the general ones."""

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        yield Retrieved(home_skill(task), 2.0, "for this home")
        yield from super()._rank(task, candidates, k, rng)


register_retriever("home", HomeRetriever)
