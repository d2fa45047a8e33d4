"""Strategy `home`: a skill generated for a task in a small ALFWorld room, with the usual place of its object.

In small rooms (`rooms="small"`) every home keeps an object in one kind of furniture, nine times out of ten. The skill
states it for the object that the task is about, and for the lamp if one is wanted. It does not depend on the game at
hand, and is the same for all tasks about that object in that room of that home.

Furniture is written as in ALFWorld's own files (`SideTable`), a word that occurs nowhere else in a prompt: a model of a
million parameters learnt to read such a line, and did not learn to find the right line in a list of all objects.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from copy import copy
from types import MappingProxyType

from sdar_envs import Task
from sdar_envs.alfworld.generator import room_habits
from sdar_envs.alfworld.instruction import read_instruction
from sdar_envs.alfworld.knowledge import RECEPTACLE_CLASSES
from sdar_envs.errors import UnknownName
from sdar_skills.library.skill import Retrieved, Skill
from sdar_skills.retrieval.strategies import TaskTypeRetriever

__all__ = ["HomeRetriever", "home_skill", "read_habits"]

_FURNITURE = MappingProxyType({class_.lower(): class_ for class_ in RECEPTACLE_CLASSES})


def home_skill(task: Task, *, is_misleading: bool = False) -> Skill:
    """Return the skill for a task in a small room: a line such as `- mug: SideTable` for each object it is about.

    Args:
        task: in a small room.
        is_misleading: name other furniture of the room, the same for each task about the object: a negative control.

    Raises:
        UnknownName: the task is not in a small room.
    """
    layout = task.data.get("layout", "")
    if not layout.startswith("Small"):
        raise UnknownName(f"{task.id!r:.200} is not in a small room; make the environment with rooms='small'.")
    habits = room_habits(layout)
    if is_misleading:
        places = sorted(set(habits.values()))
        others = dict(zip(places, [*places[1:], places[0]], strict=True))
        habits = {thing: others[place] for thing, place in habits.items()}
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
    """Parse lines such as `- mug: SideTable` in a skill's text: object -> furniture, in lower case; else empty."""
    return {
        thing: place.lower()
        for thing, place in re.findall(r"^- (\w+): (\w+)$", text, flags=re.MULTILINE)
        if place.lower() in _FURNITURE
    }


class HomeRetriever(TaskTypeRetriever):
    """The generated skill (`home_skill`), then the library's skills for the task's type, then general ones."""

    _is_misleading = False

    def misleading(self) -> HomeRetriever:
        """Return the retriever of the control `wrong-skills`: the same skills, each thing in other furniture."""
        found = copy(self)
        found._is_misleading = True
        return found

    def _rank(self, task: Task, candidates: tuple[Skill, ...], k: int, rng: random.Random) -> Iterable[Retrieved]:
        yield Retrieved(home_skill(task, is_misleading=self._is_misleading), 2.0, "for this home")
        yield from super()._rank(task, candidates, k, rng)
