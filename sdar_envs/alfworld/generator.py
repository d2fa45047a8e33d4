"""Procedural generator of ALFWorld games: the same index gives the same game on every machine and in every version.

`generate("train", 17)` furnishes a room, places objects in it, chooses one of the six tasks and returns a `Problem`,
which plays like an official game. Room plans, objects, tasks and oddities (a pan on two burners at once, a cabinet
without a door) occur about as often as in the official games; the plans themselves are our own. 27 plans of each kind
of room are for `train` and `valid_seen`, three are held out for `valid_unseen`.

With `rooms="small"` a room has four to eight pieces of furniture and few objects, and belongs to a home. A home has
habits: most objects of a class are kept in one class of furniture, which differs between homes (`room_habits`). Games
of `train` are in a new home nearly every time; `home` and `valid_seen` share one home, which is held out from all
others, and `valid_unseen` has new homes.

Every game can be won: the target can be taken, the goal's receptacle accepts it, and every place is one step away. No
game is won at its start.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Literal, get_args

from sdar_envs.alfworld import knowledge
from sdar_envs.alfworld.knowledge import (
    CAN_CONTAIN,
    CAPACITY,
    HEIGHTS,
    ROOMS,
    SMALL_ROOMS,
    Room,
    RoomName,
    type_id,
    usual_places,
)
from sdar_envs.alfworld.problem import Goal, Problem, TaskType
from sdar_envs.errors import UnknownName, did_you_mean
from sdar_envs.rng import Rng, Weights

__all__ = ["SPLITS", "STREAM_SIZE", "GeneratedGame", "Rooms", "generate", "room_habits", "task_type_of"]

Rooms = Literal["full", "small"]
"""Size of rooms: as in the official games, or small."""

SPLITS: Mapping[Rooms, Mapping[str, int | None]] = MappingProxyType(
    {
        "full": MappingProxyType({"train": None, "valid_seen": 140, "valid_unseen": 134}),
        "small": MappingProxyType(
            {"train": None, "home": None, "home_valid": 4096, "valid_seen": 128, "valid_unseen": 128}
        ),
    }
)
"""Number of games in each split; None for a split without end."""

STREAM_SIZE = 2**31
"""Number of games that a split without end has."""

_SEEN_PLANS = range(1, 28)
_UNSEEN_PLANS = range(28, 31)
# Homes of small rooms: 0 is the one of `home`, `home_valid` and `valid_seen`.
_TRAIN_HOMES = range(1, 2**31)
_UNSEEN_HOMES = range(2**31, 2**32)


@dataclass(frozen=True, slots=True)
class GeneratedGame:
    """Generated game.

    Attributes:
        problem: the facts and the goal.
        task_sentence: the goal as the player reads it, such as `Your task is to: put a clean mug in desk.`
        object_class: the class of the target, such as `Mug`.
        receptacle_class: the class of the receptacle to put it in; for looking at it, the class of the lamp.
        layout: the plan of the room, such as `Kitchen-07` or `SmallKitchen-0`.
    """

    problem: Problem
    task_sentence: str
    object_class: str
    receptacle_class: str
    layout: str


def generate(split: str, index: int, rooms: Rooms = "full") -> GeneratedGame:
    """Generate game `index` of a split.

    Raises:
        UnknownName: there is no such size of rooms, split or game.
    """
    rng = _random(split, index, rooms)
    task_type = rng.weighted(_TASKS)
    room = rng.weighted(_TASK_ROOMS[task_type])
    layout = _layout(rooms, room, rng.choice(_plans(rooms, split)))
    object_class = rng.weighted(_target_weights(layout, task_type))
    receptacle_class = rng.weighted(_receptacle_weights(layout, task_type, object_class))
    goal = _goal(task_type, object_class, receptacle_class)
    names = {"obj": object_class.lower(), "recep": receptacle_class.lower()}
    return GeneratedGame(
        problem=_Arrangement(rng, layout, goal, object_class, receptacle_class).problem(),
        task_sentence=f"Your task is to: {rng.choice(_SENTENCES[task_type]).format(**names)}",
        object_class=object_class,
        receptacle_class=receptacle_class,
        layout=layout.name,
    )


def task_type_of(split: str, index: int, rooms: Rooms = "full") -> str:
    """Return the task type of game `index` of a split, without generating the game.

    Raises:
        UnknownName: there is no such size of rooms, split or game.
    """
    return _random(split, index, rooms).weighted(_TASKS)


def _random(split: str, index: int, rooms: Rooms) -> Rng:
    """Return the random numbers of a game, of which the first decides the task type."""
    if rooms not in SPLITS:
        raise UnknownName(f"no rooms {rooms!r}; wanted one of {', '.join(SPLITS)}.{did_you_mean(rooms, SPLITS)}")
    splits = SPLITS[rooms]
    if split not in splits:
        raise UnknownName(
            f"no split {split!r} of generated games; the splits are {', '.join(splits)}.{did_you_mean(split, splits)}"
        )
    index = operator.index(index)
    size = splits[split] or STREAM_SIZE
    if not 0 <= index < size:
        raise UnknownName(f"no generated game {index} in split {split!r}; wanted 0 to {size - 1}.")
    return Rng(f"alfworld/1/{'small_' if rooms == 'small' else ''}{split}/{index}")


def room_habits(layout: str) -> Mapping[str, str]:
    """Return in which furniture each class of object is mostly kept in a small room's home: `mug` -> `drawer`.

    Nine of ten objects are there; the others are in other usual places.

    Args:
        layout: `GeneratedGame.layout`, or `task.data["layout"]`.

    Raises:
        UnknownName: that is no small room.
    """
    small, _, rest = layout.partition("Small")
    room, _, number = rest.partition("-")
    if small or room not in get_args(RoomName) or not number.isdecimal():
        raise UnknownName(f"{layout!r:.200} is no small room; wanted a layout such as 'SmallKitchen-0'.")
    plan = _layout("small", room, int(number))
    classes = [*plan.contents.objects, *([_LAMP] if room in _TASK_ROOMS["look_at_obj_in_light"].items else [])]
    return {class_.lower(): plan.kept[class_].lower() for class_ in classes if class_ in plan.kept}


def _plans(rooms: Rooms, split: str) -> range:
    if rooms == "full":
        return _UNSEEN_PLANS if split == "valid_unseen" else _SEEN_PLANS
    return {"train": _TRAIN_HOMES, "valid_unseen": _UNSEEN_HOMES}.get(split, range(1))


# -- tasks ------------------------------------------------------------------------------------

# How often each task occurs in the official train split.
_TASKS: Weights[TaskType] = Weights(
    {
        "pick_two_obj_and_place": 813,
        "pick_and_place_simple": 790,
        "pick_clean_then_place_in_recep": 650,
        "pick_cool_then_place_in_recep": 533,
        "pick_heat_then_place_in_recep": 459,
        "look_at_obj_in_light": 308,
    }
)

_TASK_ROOMS: dict[TaskType, Weights[RoomName]] = {
    "pick_two_obj_and_place": Weights({"Kitchen": 30, "LivingRoom": 22, "Bedroom": 26, "Bathroom": 22}),
    "pick_and_place_simple": Weights({"Kitchen": 32, "LivingRoom": 22, "Bedroom": 24, "Bathroom": 22}),
    "pick_clean_then_place_in_recep": Weights({"Kitchen": 85, "Bathroom": 15}),
    "pick_cool_then_place_in_recep": Weights({"Kitchen": 1}),
    "pick_heat_then_place_in_recep": Weights({"Kitchen": 1}),
    "look_at_obj_in_light": Weights({"Bedroom": 75, "LivingRoom": 25}),
}

_SENTENCES: dict[TaskType, tuple[str, str]] = {
    "pick_two_obj_and_place": ("put two {obj} in {recep}.", "find two {obj} and put them in {recep}."),
    "pick_and_place_simple": ("put a {obj} in {recep}.", "put some {obj} on {recep}."),
    "pick_clean_then_place_in_recep": ("put a clean {obj} in {recep}.", "clean some {obj} and put it in {recep}."),
    "pick_cool_then_place_in_recep": ("put a cool {obj} in {recep}.", "cool some {obj} and put it in {recep}."),
    "pick_heat_then_place_in_recep": ("put a hot {obj} in {recep}.", "heat some {obj} and put it in {recep}."),
    "look_at_obj_in_light": ("look at {obj} under the {recep}.", "examine the {obj} with the {recep}."),
}

_LAMP = "DeskLamp"


@dataclass(frozen=True, slots=True)
class _Treatment:
    """How a target is treated: the state it gets, what it must be, and the appliance, which is never the goal."""

    state: Literal["hot", "cool", "clean"]
    suitable: frozenset[str]
    appliance: str


_TREATMENTS: dict[TaskType, _Treatment] = {
    "pick_heat_then_place_in_recep": _Treatment("hot", knowledge.HEATABLE, "Microwave"),
    "pick_cool_then_place_in_recep": _Treatment("cool", knowledge.COOLABLE, "Fridge"),
    "pick_clean_then_place_in_recep": _Treatment("clean", knowledge.CLEANABLE, "SinkBasin"),
}


def _goal(task_type: TaskType, object_class: str, receptacle_class: str) -> Goal:
    if task_type == "look_at_obj_in_light":
        return Goal(type_id(object_class), lamp_type=type_id(receptacle_class))
    treatment = _TREATMENTS.get(task_type)
    return Goal(
        type_id(object_class),
        type_id(receptacle_class),
        count=2 if task_type == "pick_two_obj_and_place" else 1,
        treatment=treatment.state if treatment else None,
    )


# -- layouts ----------------------------------------------------------------------------------

# One step is 25 cm: the grid of the locations. Turns: 0 looks along +z, 1 along +x, 2 along -z, 3 along -x.
_STEP = 25
_WIDTHS = {"Bed": 7, "Sofa": 7, "CounterTop": 6, "DiningTable": 6, "Desk": 6, "BathtubBasin": 6, "CoffeeTable": 5}
_STACKS = {"Cabinet": (1, 2), "Drawer": (2, 4), "Shelf": (1, 4)}
# Openable in the official games, in per cent; some rooms have doors on everything.
_FULLY_DOORED, _DOORED = 32, 76
_ALWAYS_DOORED = frozenset({"Fridge", "Microwave"})
_SOMETIMES_DOORED = frozenset({"Cabinet", "Drawer", "Safe"})
# Chance in per cent that something is used from where its neighbour is used.
_SHARING = {"Cabinet": 18, "Drawer": 16, "Shelf": 10, "CoffeeMachine": 30, "Toaster": 20}
_LAMP_PLACES = ("Desk", "SideTable", "Dresser")
# How many times likelier a thing of a small room is where its kind is kept than everywhere else together.
_HABIT = 9


@dataclass(frozen=True, slots=True)
class _Receptacle:
    """A piece of furniture. Coordinates are centimetres."""

    id: str
    class_: str
    position: tuple[int, int, int]
    location: str


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A furnished room.

    Attributes:
        name: `Kitchen-07`.
        contents: what such a room has in it.
        size: steps along x and z from `corner` to the opposite corner.
        corner: grid coordinates of the corner with the smallest x and z.
        receptacles: the furniture; elsewhere, numbers index it.
        by_class: receptacle class -> numbers.
        openable: ids of what has a door.
        overlaps: pairs of pieces that something can lie in at once.
        scenery: objects that are no furniture and never move: id, class, location.
        locations: where one stands to use any of all these.
        places: object class -> the receptacle classes here where it may be found.
        accepted: object class -> the facts that it may be put somewhere here.
        kept: object class -> the receptacle class where most of its kind are; empty for a room without habits.
        weights: what was worked out about this layout once, to be drawn from again.
    """

    name: str
    contents: Room
    size: tuple[int, int]
    corner: tuple[int, int]
    receptacles: tuple[_Receptacle, ...]
    by_class: dict[str, tuple[int, ...]]
    openable: frozenset[str]
    overlaps: tuple[tuple[int, int], ...]
    scenery: tuple[tuple[str, str, str], ...]
    locations: frozenset[str]
    places: dict[str, Weights[str]]
    accepted: dict[str, tuple[tuple[str, str], ...]]
    kept: dict[str, str]
    weights: dict[tuple[str, ...], Weights[str]] = field(default_factory=dict)


@lru_cache(maxsize=4096)
def _coordinate(centimetres: int) -> str:
    sign = "_minus_" if centimetres < 0 else "_plus_"
    return f"{sign}{abs(centimetres) // 100:02d}_dot_{abs(centimetres) % 100:02d}"


def _thing_id(class_: str, x: int, y: int, z: int) -> str:
    return f"{class_.lower()}_bar_{_coordinate(x)}_bar_{_coordinate(y)}_bar_{_coordinate(z)}"


def _location_id(x: int, z: int, turn: int, horizon: int) -> str:
    numbers = (f"_minus_{-number}" if number < 0 else str(number) for number in (x, z, turn, horizon))
    return f"loc_bar_{'_bar_'.join(numbers)}"


# All layouts of full rooms, and the latest of the small ones, which are without end.
@lru_cache(maxsize=512)
def _layout(rooms: Rooms, room: RoomName, number: int) -> _Layout:
    return _Furnisher(rooms, room, number).layout()


class _Furnisher:
    """Builds one layout: furniture side by side along the four walls of a rectangular room."""

    def __init__(self, rooms: Rooms, room: RoomName, number: int) -> None:
        self.has_habits = rooms == "small"
        self.name = f"Small{room}-{number}" if rooms == "small" else f"{room}-{number:02d}"
        self.contents = (SMALL_ROOMS if rooms == "small" else ROOMS)[room]
        self.rng = Rng(f"alfworld/1/layout/{self.name}")
        counts = {class_: self.rng.choice(numbers) for class_, numbers in self.contents.receptacles.items()}
        if room in ("LivingRoom", "Bedroom") and not any(counts.get(place) for place in _LAMP_PLACES):
            counts["SideTable"] = 1
        groups = self.rng.shuffled(self._groups(counts))
        perimeter = sum(_WIDTHS.get(classes[0], 3) + 1 for classes in groups)
        self.width = max(10, perimeter // 4 + self.rng.between(0, 4))
        self.depth = max(10, (perimeter + 1) // 2 - self.width + 1)
        self.corner = (-self.rng.below(self.width), -self.rng.below(self.depth))
        self.receptacles: list[_Receptacle] = []
        self.by_class: dict[str, list[int]] = {}
        self.scenery: list[tuple[str, str, str]] = []
        self.ids: set[str] = set()
        self.locations: set[str] = set()
        at = 0
        for classes in groups:
            width = _WIDTHS.get(classes[0], 3)
            for level, class_ in enumerate(classes):
                self._add_receptacle(class_, at + width // 2, level)
            at += width + 1
        for class_, numbers in self.contents.scenery.items():
            for _ in range(self.rng.choice(numbers)):
                at = self.rng.below(2 * (self.width + self.depth))
                x, z, turn = self._wall(at)
                id_ = self._new_id(class_, x * _STEP, self.rng.between(0, 180), z * _STEP)
                self.scenery.append((id_, class_, self._new_location(x, z, turn, 30)))

    def _groups(self, counts: Mapping[str, int]) -> list[list[str]]:
        """Return what stands at the same stretch of wall, the lowest first."""
        groups = []
        for class_, count in counts.items():
            low, high = _STACKS.get(class_, (1, 1))
            if class_ == "StoveBurner":
                low = high = count
            left = count
            while left > 0:
                size = min(left, self.rng.between(low, high))
                groups.append([class_] * size)
                left -= size
        return groups

    def _wall(self, at: int) -> tuple[int, int, int]:
        """Return the grid point `at` steps along the walls, and the turn that faces the wall there."""
        x, z = self.corner
        at %= 2 * (self.width + self.depth)
        if at < self.width:
            return x + at, z + self.depth, 0
        at -= self.width
        if at < self.depth:
            return x + self.width, z + self.depth - at, 1
        at -= self.depth
        if at < self.width:
            return x + self.width - at, z, 2
        return x, z + at - self.width, 3

    def _new_id(self, class_: str, x: int, y: int, z: int, suffix: str = "") -> str:
        while (id_ := f"{_thing_id(class_, x, y, z)}{suffix}") in self.ids:
            x += 1
        self.ids.add(id_)
        return id_

    def _new_location(self, x: int, z: int, turn: int, horizon: int) -> str:
        """Return a free location in front of the wall point (x, z)."""
        dx, dz = ((0, 1), (1, 0), (0, -1), (-1, 0))[turn]
        for away in (3, 4, 2, 5, 6, 7, 8):
            for aside in (0, 1, -1, 2, -2, 3, -3):
                location = _location_id(x - dx * away + dz * aside, z - dz * away + dx * aside, turn, horizon)
                if location not in self.locations:
                    self.locations.add(location)
                    return location
        raise AssertionError(f"{self.name}: no free location near {x}, {z}; rooms must not be that full")

    def _add_receptacle(self, class_: str, at: int, level: int) -> None:
        rng = self.rng
        grid_x, grid_z, turn = self._wall(at)
        heights = HEIGHTS.get(class_, (0,))
        height = heights[min(level, len(heights) - 1)] if class_ in ("Drawer", "Shelf") else rng.choice(heights)
        x, z = grid_x * _STEP + rng.between(-8, 8), grid_z * _STEP + rng.between(-8, 8)
        y = height + rng.between(0, 3)
        if class_ == "StoveBurner":
            x, z, y = x + 30 * (level % 2), z + 30 * (level // 2), heights[0]
        neighbours = self.by_class.get("CounterTop" if class_ in ("CoffeeMachine", "Toaster") else class_, [])
        shared = neighbours and (level % 2 == 1 if class_ == "StoveBurner" else rng.per_cent(_SHARING.get(class_, 0)))
        if shared:
            location = self.receptacles[neighbours[-1]].location
        else:
            horizon = -15 if y > 160 else 0 if y > 120 else 30 if y > 90 else 45 if y > 30 else 60
            location = self._new_location(grid_x, grid_z, turn, horizon)
        if class_.endswith("Basin"):
            # The id of a basin is that of its sink or bathtub, which is an object in its own right.
            body = class_.removesuffix("Basin")
            id_ = self._new_id(body, x, y, z, f"_bar_{class_.lower()}")
            self.scenery.append((self._new_id(body, x, y, z), body, location))
        else:
            id_ = self._new_id(class_, x, y, z)
        if class_ == "LaundryHamper":
            self.scenery.append((self._new_id("LaundryHamperLid", x, y + 48, z), "LaundryHamperLid", location))
        self.by_class.setdefault(class_, []).append(len(self.receptacles))
        self.receptacles.append(_Receptacle(id_, class_, (x, y, z), location))

    def layout(self) -> _Layout:
        rng, receptacles, by_class = self.rng, self.receptacles, self.by_class
        share = 100 if rng.per_cent(_FULLY_DOORED) else _DOORED
        openable = frozenset(
            piece.id
            for piece in receptacles
            if piece.class_ in _ALWAYS_DOORED or (piece.class_ in _SOMETIMES_DOORED and rng.per_cent(share))
        )
        overlaps: list[tuple[int, int]] = []
        for one, other in knowledge.OVERLAPS:
            if one == other:
                overlaps.extend(pairwise(by_class.get(one, ())))
            elif one in by_class and other in by_class:
                overlaps.append((rng.choice(by_class[one]), rng.choice(by_class[other])))
        places: dict[str, Weights[str]] = {}
        kept: dict[str, str] = {}
        accepted: dict[str, tuple[tuple[str, str], ...]] = {}
        for class_ in knowledge.OBJECT_CLASSES:
            here = {place: weight for place, weight in usual_places(class_).items() if place in by_class}
            if here:
                places[class_] = Weights(here)
            if self.has_habits and len(here) > 1:
                kept[class_] = rng.choice(tuple(here))
                others = sum(here.values()) - here[kept[class_]]
                places[class_] = Weights({**here, kept[class_]: _HABIT * others})
            accepted[class_] = tuple((type_id(r), type_id(class_)) for r in by_class if class_ in CAN_CONTAIN[r])
        return _Layout(
            name=self.name,
            contents=self.contents,
            size=(self.width, self.depth),
            corner=self.corner,
            receptacles=tuple(receptacles),
            by_class={class_: tuple(numbers) for class_, numbers in by_class.items()},
            openable=openable,
            overlaps=tuple(overlaps),
            scenery=tuple(self.scenery),
            locations=frozenset(self.locations),
            places=places,
            accepted=accepted,
            kept=kept,
        )


# -- goals that a layout allows ---------------------------------------------------------------


def _target_weights(layout: _Layout, task_type: TaskType) -> Weights[str]:
    if (task_type,) not in layout.weights:
        treatment = _TREATMENTS.get(task_type)
        layout.weights[task_type,] = Weights(
            {
                class_: 2 if per_cent == 100 else 1
                for class_, per_cent in layout.contents.objects.items()
                if class_ in knowledge.PICKUPABLE
                and (treatment is None or class_ in treatment.suitable)
                and _goal_receptacles(layout, task_type, class_)
            }
        )
    return layout.weights[task_type,]


def _receptacle_weights(layout: _Layout, task_type: TaskType, object_class: str) -> Weights[str]:
    key = task_type, object_class
    if key not in layout.weights:
        layout.weights[key] = Weights(_goal_receptacles(layout, task_type, object_class))
    return layout.weights[key]


def _goal_receptacles(layout: _Layout, task_type: TaskType, object_class: str) -> dict[str, int]:
    """Return what the target can be asked to be put in: usual places, and those with doors, more often."""
    found_in = layout.places.get(object_class)
    if found_in is None:
        return {}
    if task_type == "look_at_obj_in_light":
        return {_LAMP: 1}
    treatment = _TREATMENTS.get(task_type)
    usual = usual_places(object_class)
    # Two of a kind need two pieces of furniture, or one and a place elsewhere, to start from.
    return {
        class_: usual.get(class_, 0) + (7 if class_ in _SOMETIMES_DOORED else 3)
        for class_ in layout.by_class
        if object_class in CAN_CONTAIN[class_]
        and (treatment is None or class_ != treatment.appliance)
        and found_in.items != (class_,)
        and class_ != layout.kept.get(object_class)
        and not (task_type == "pick_two_obj_and_place" and CAPACITY.get(class_, 2) < 2)
    }


# -- things -----------------------------------------------------------------------------------

_TARGET_COUNTS = Weights({1: 376, 2: 290, 3: 210, 4: 124})
_TWO_TARGET_COUNTS = Weights({2: 46, 3: 34, 4: 20})
# A game's things are few or many: chance weights of one, two and three of a kind.
_COUNTS = tuple(Weights({1: 62 - 8 * k, 2: 29 + k, 3: 9 + 7 * k}) for k in range(6))
# Per cent of drawers and shelves that nothing is put in.
_UNUSED = {"Drawer": 12, "Shelf": 20}
# Per cent of the two-object games that may start with one object at the goal.
_HALF_DONE = 15
# Per cent of games in which something lies inside another thing, and in which something is seen from elsewhere.
_INNER_GAMES = 19
_ASTRAY_GAMES = 7
_COLD_TASKS = frozenset({"pick_heat_then_place_in_recep", "pick_cool_then_place_in_recep"})
_SURFACE_HEIGHT = {"Bed": 57, "Sofa": 45, "Desk": 79, "SideTable": 67, "Dresser": 95, "Fridge": 90, "Toilet": 102}


class _Arrangement:
    """The things of one game, placed in a layout."""

    def __init__(self, rng: Rng, layout: _Layout, goal: Goal, object_class: str, receptacle_class: str) -> None:
        self.rng = rng
        self.layout = layout
        self.goal = goal
        self.target_class = object_class
        self.goal_class = receptacle_class
        self.classes: dict[str, str] = {id_: class_ for id_, class_, _ in layout.scenery}
        self.object_locations: dict[str, str] = {id_: location for id_, _, location in layout.scenery}
        self.contents: list[tuple[str, int]] = []
        self.inner: list[tuple[str, str]] = []
        self.cool: list[str] = []
        # Places left per piece, and per class the pieces that have any.
        self.room_left = [CAPACITY.get(piece.class_, 99) for piece in layout.receptacles]
        for number, piece in enumerate(layout.receptacles):
            unused = _UNUSED.get(piece.class_)
            if unused is not None and rng.per_cent(unused):
                self.room_left[number] = 0
        self.open_pieces = {
            class_: [number for number in numbers if self.room_left[number]]
            for class_, numbers in layout.by_class.items()
        }
        self._place_targets()
        self._place_others()
        if rng.per_cent(layout.contents.doubles):
            self._double()
        if rng.per_cent(_INNER_GAMES):
            self._put_inside()
        if rng.per_cent(_ASTRAY_GAMES):
            id_, _ = rng.choice(self.contents)
            self.object_locations[id_] = rng.choice(layout.receptacles).location

    def _place_targets(self) -> None:
        goal, rng = self.goal, self.rng
        two = goal.count == 2
        one_at_goal = two and rng.per_cent(_HALF_DONE)
        for number in range(rng.weighted(_TWO_TARGET_COUNTS if two else _TARGET_COUNTS)):
            # One thing at the goal wins nothing if two are wanted or if it must be treated first.
            start_at_goal = goal.lamp_type is not None or goal.treatment is not None or (one_at_goal and number == 0)
            piece = self._pick(self.target_class, None if start_at_goal else self.goal_class)
            id_ = self._put(self.target_class, piece)
            in_fridge = self.layout.receptacles[piece].class_ == "Fridge"
            if in_fridge and goal.task_type in _COLD_TASKS and self.target_class in knowledge.COOLABLE:
                self.cool.append(id_)
        if goal.lamp_type is not None:
            self._put(_LAMP, self._pick(_LAMP, None))

    def _place_others(self) -> None:
        rng = self.rng
        counts = rng.choice(_COUNTS)
        for class_, per_cent in self.layout.contents.objects.items():
            if class_ == self.target_class or (class_ == _LAMP and self.goal.lamp_type is not None):
                continue
            if per_cent < 100 and not rng.per_cent(per_cent):
                continue
            on_floor = class_ in knowledge.FLOOR_THINGS and rng.per_cent(75)
            if on_floor or class_ not in self.layout.places:
                self._put_on_floor(class_)
                continue
            fixed = class_ not in knowledge.PICKUPABLE or class_ in ("Towel", "HandTowel")
            for _ in range(1 if fixed else rng.weighted(counts)):
                self._put(class_, self._pick(class_, None))

    def _pick(self, class_: str, avoided: str | None) -> int:
        """Return a piece of furniture where an object of the class is to be found, not of the avoided class."""
        rng, places = self.rng, self.layout.places[class_]
        for _ in range(8):
            place = rng.weighted(places)
            pieces = self.open_pieces[place]
            if pieces and place != avoided:
                position = rng.below(len(pieces))
                piece = pieces[position]
                self.room_left[piece] -= 1
                if not self.room_left[piece]:
                    del pieces[position]
                return piece
        # All the likely places are full: pile it up.
        return rng.choice(self.layout.by_class[rng.choice([place for place in places.items if place != avoided])])

    def _new_id(self, class_: str, x: int, y: int, z: int) -> str:
        while (id_ := _thing_id(class_, x, y, z)) in self.classes:
            x += 1
        self.classes[id_] = class_
        return id_

    def _put(self, class_: str, number: int) -> str:
        rng, piece = self.rng, self.layout.receptacles[number]
        x, y, z = piece.position
        y += _SURFACE_HEIGHT.get(piece.class_, 3)
        id_ = self._new_id(class_, x + rng.between(-30, 30), y, z + rng.between(-30, 30))
        self.object_locations[id_] = piece.location
        self.contents.append((id_, number))
        return id_

    def _put_on_floor(self, class_: str) -> None:
        rng, (x, z), (width, depth) = self.rng, self.layout.corner, self.layout.size
        id_ = self._new_id(class_, (x + rng.below(width)) * _STEP, 2, (z + rng.below(depth)) * _STEP)
        self.object_locations[id_] = rng.choice(self.layout.receptacles).location

    def _double(self) -> None:
        """Let one object lie in two neighbouring receptacles at once."""
        rng, layout = self.rng, self.layout
        neighbours: dict[int, list[int]] = {}
        for one, other in layout.overlaps:
            neighbours.setdefault(one, []).append(other)
            neighbours.setdefault(other, []).append(one)
        found: list[tuple[str, int]] = []
        for id_, number in rng.shuffled(self.contents):
            class_ = self.classes[id_]
            for other in rng.shuffled(neighbours.get(number, ())):
                piece = layout.receptacles[other]
                at_goal = class_ == self.target_class and piece.class_ == self.goal_class
                if piece.class_ in usual_places(class_) and not at_goal:
                    found.append((id_, other))
        if not found:
            return
        # Mostly such neighbours are used from the same place.
        side_by_side = [(id_, n) for id_, n in found if layout.receptacles[n].location == self.object_locations[id_]]
        id_, number = rng.choice(side_by_side if side_by_side and rng.per_cent(70) else found)
        self.contents.append((id_, number))
        if rng.per_cent(50):
            self.object_locations[id_] = layout.receptacles[number].location

    def _put_inside(self) -> None:
        """Let one object lie inside another one that is in the same receptacle."""
        rng = self.rng
        pieces = self.contents
        for outer, number in rng.shuffled(pieces):
            if self.classes[outer] not in knowledge.CONTAINERS:
                continue
            holdable = knowledge.CAN_HOLD[self.classes[outer]]
            inside = [id_ for id_, n in pieces if n == number and id_ != outer and self.classes[id_] in holdable]
            if inside:
                id_ = rng.choice(inside)
                self.inner.append((id_, outer))
                # It is seen from elsewhere than its receptacle, as in the official games.
                self.object_locations[id_] = rng.choice(self.layout.receptacles).location
                return

    def _start(self) -> str:
        rng, (x, z), (width, depth) = self.rng, self.layout.corner, self.layout.size
        while True:
            start = _location_id(x + rng.below(width), z + rng.below(depth), rng.below(4), 30)
            if start not in self.layout.locations:
                return start

    def problem(self) -> Problem:
        layout, classes = self.layout, self.classes
        receptacles = layout.receptacles
        present = dict.fromkeys(classes.values())

        def having(property_: frozenset[str]) -> frozenset[str]:
            return frozenset([id_ for id_, class_ in classes.items() if class_ in property_])

        return Problem(
            start=self._start(),
            receptacle_types={piece.id: type_id(piece.class_) for piece in receptacles},
            receptacle_locations={piece.id: piece.location for piece in receptacles},
            object_types={id_: type_id(class_) for id_, class_ in classes.items()},
            contents=frozenset([(id_, receptacles[number].id) for id_, number in self.contents]),
            object_locations=frozenset(self.object_locations.items()),
            inner_objects=frozenset(self.inner),
            can_contain=frozenset([fact for class_ in present for fact in layout.accepted[class_]]),
            openable=layout.openable,
            pickupable=having(knowledge.PICKUPABLE),
            cleanable=having(knowledge.CLEANABLE),
            heatable=having(knowledge.HEATABLE),
            coolable=having(knowledge.COOLABLE),
            sliceable=having(knowledge.SLICEABLE),
            toggleable=having(knowledge.TOGGLEABLE),
            containers=having(knowledge.CONTAINERS),
            cool=frozenset(self.cool),
            goal=self.goal,
        )
