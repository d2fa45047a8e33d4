"""Data types of a game's PDDL problem: `Problem`, its initial facts, and `Goal`.

Ids are lower case and look like `mug_bar__plus_02_dot_04_bar__plus_00_dot_89`: a class, then
coordinates. Everything the player reads is derived from the ids and their sorted order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = ["TASK_TYPES", "Goal", "Problem", "TaskType"]

TaskType = Literal[
    "pick_and_place_simple",
    "pick_two_obj_and_place",
    "look_at_obj_in_light",
    "pick_heat_then_place_in_recep",
    "pick_cool_then_place_in_recep",
    "pick_clean_then_place_in_recep",
]

TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)
"""The six task types."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Goal condition of a game.

    Attributes:
        object_type: type of the goal object, for example `mugtype`.
        receptacle_type: where it must be; None for looking at it under a lamp.
        count: how many different ones must be in one and the same receptacle (1 or 2).
        treatment: `hot`, `cool` or `clean`: the state that the object must be in; None for any.
        lamp_type: type of the lamp that must be switched on at the player's place, for example
            `desklamptype`, while the object is held; None for the placing tasks.
    """

    object_type: str
    receptacle_type: str | None = None
    count: int = 1
    treatment: Literal["hot", "cool", "clean"] | None = None
    lamp_type: str | None = None

    @property
    def task_type(self) -> TaskType:
        """The task type that this goal defines."""
        if self.lamp_type is not None:
            return "look_at_obj_in_light"
        if self.count == 2:
            return "pick_two_obj_and_place"
        match self.treatment:
            case "hot":
                return "pick_heat_then_place_in_recep"
            case "cool":
                return "pick_cool_then_place_in_recep"
            case "clean":
                return "pick_clean_then_place_in_recep"
        return "pick_and_place_simple"


@dataclass(frozen=True, slots=True)
class Problem:
    """Initial facts and goal of a game.

    Attributes:
        start: the player's location.
        receptacle_types: receptacle id -> type.
        receptacle_locations: receptacle id -> location; a receptacle without one cannot be reached.
        object_types: object id -> type.
        contents: pairs (object, receptacle); an object may lie in two receptacles at once.
        object_locations: pairs (object, location); need not agree with `contents`.
        inner_objects: pairs (inner object, outer object), such as an egg in a bowl. Shown, but without effect.
        can_contain: pairs (receptacle type, object type).
        openable: receptacles with a door.
        pickupable, cleanable, heatable, coolable, sliceable, toggleable, containers: objects with
            that property (`containers` can have other objects inside).
        cool: objects that are cold at the start.
        goal: the goal condition.
    """

    start: str
    receptacle_types: dict[str, str]
    receptacle_locations: dict[str, str]
    object_types: dict[str, str]
    contents: frozenset[tuple[str, str]]
    object_locations: frozenset[tuple[str, str]]
    inner_objects: frozenset[tuple[str, str]]
    can_contain: frozenset[tuple[str, str]]
    openable: frozenset[str]
    pickupable: frozenset[str]
    cleanable: frozenset[str]
    heatable: frozenset[str]
    coolable: frozenset[str]
    sliceable: frozenset[str]
    toggleable: frozenset[str]
    containers: frozenset[str]
    cool: frozenset[str]
    goal: Goal
