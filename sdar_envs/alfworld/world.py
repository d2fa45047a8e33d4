"""Game engine: a state machine whose observations equal those of ALFWorld on TextWorld to the character.

A `Game` is compiled once from a `Problem`, is immutable and is shared by any number of episodes. An episode's `State`
holds only immutable values, so that a copy costs a dozen references. Text, command order and preconditions follow the
ALFWorld domain and grammar as TextWorld 1.7 runs them, including what looks odd:

* the receptacle whose id sorts first has the highest number, and lists are in id order;
* going to a receptacle at one's own location does nothing;
* an object can lie in two receptacles, and taking it from one leaves it in the other;
* heating and cooling do not need an open door; a lamp can be used in a closed drawer;
* only a held object can be examined.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from sdar_envs.alfworld.problem import Problem
from sdar_envs.alfworld.wording import Dialect

__all__ = ["Action", "Game", "State", "Verb"]


# Object properties of a problem that name objects.
_FLAGS = ("pickupable", "cleanable", "heatable", "coolable", "sliceable", "toggleable", "containers", "cool")


class Verb(IntEnum):
    """Kind of a command."""

    LOOK = 0
    INVENTORY = 1
    HELP = 2
    EXAMINE_RECEPTACLE = 3
    EXAMINE_OBJECT = 4
    # From here on, commands can change whether the goal holds.
    GO = 5
    OPEN = 6
    CLOSE = 7
    TAKE = 8
    PUT = 9
    CLEAN = 10
    HEAT = 11
    COOL = 12
    USE = 13
    SLICE = 14


class Action(NamedTuple):
    """Parsed command. Numbers index `Game.objects` and `Game.receptacles`; -1 is none."""

    verb: Verb
    object: int = -1
    receptacle: int = -1


class State:
    """State of an episode. Objects, receptacles and locations are numbers; sets are bit masks.

    Attributes:
        at: the player's location.
        held: the object in hand, -1 for none.
        opened, clean, hot, cool, sliced, toggled: bit masks.
        contents: per receptacle, the objects in it, ascending.
        places: per object, the locations from which it can be sliced.
        removed: pairs (object, receptacle): taken from there and not put back.
        won: whether the goal holds.
    """

    __slots__ = (
        "at",
        "clean",
        "contents",
        "cool",
        "held",
        "hot",
        "opened",
        "places",
        "removed",
        "sliced",
        "toggled",
        "won",
    )

    at: int
    held: int
    opened: int
    clean: int
    hot: int
    cool: int
    sliced: int
    toggled: int
    contents: tuple[tuple[int, ...], ...]
    places: tuple[frozenset[int], ...]
    removed: frozenset[tuple[int, int]]
    won: bool

    def copy(self) -> State:
        """Return an independent copy."""
        other = State.__new__(State)
        for name in State.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, State):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in State.__slots__)

    __hash__ = None  # type: ignore[assignment]  # states change in place


def join(names: Sequence[str]) -> str:
    """Return the names as the grammar lists them: `a, b, and c`; `nothing` for none."""
    if len(names) > 1:
        return f"{', '.join(names[:-1])}, and {names[-1]}"
    return names[0] if names else "nothing"


def _names(ids: Iterable[str]) -> dict[str, str]:
    """Number the ids of each class, the first in sort order highest."""
    ordered = sorted(ids)
    classes = {id_: id_.split("_bar_", 1)[0] + ("basin" if "basin" in id_ else "") for id_ in ordered}
    left = Counter(classes.values())
    names = {}
    for id_ in ordered:
        class_ = classes[id_]
        # An id without coordinates is a type or the agent; were it a thing, the original would
        # print its name with a trailing blank that no command can then match.
        names[id_] = f"{class_} {left[class_]}" if "_bar_" in id_ else f"{id_} "
        left[class_] -= 1
    return names


class _Numbers(NamedTuple):
    """Numbers of a problem's ids, in sorted order."""

    objects: dict[str, int]
    receptacles: dict[str, int]
    locations: dict[str, int]

    def mask(self, object_ids: Iterable[str]) -> int:
        """Return the bit mask of objects."""
        return _mask(self.objects[id_] for id_ in object_ids)


def _mask(indices: Iterable[int]) -> int:
    mask = 0
    for index in indices:
        mask |= 1 << index
    return mask


class Game:
    """Compiled game: names, places and which action applies to what. Immutable, shared by episodes.

    Args:
        problem: the facts.
        task_sentence: the end of the first observation, `Your task is to: put a mug in desk.`
        dialect: the wording and the rules that depend on it.

    Attributes:
        objects, receptacles: names, such as `mug 1`, in the order of the ids.
        object_types, receptacle_types: their types, such as `mugtype`.
        location: per receptacle, its location, -1 for none.
        accepts: per object, the bit mask of receptacles that it may be put in.
    """

    __slots__ = (
        "_go",
        "_go_lists",
        "_inner",
        "_locations",
        "_sliceable_ids",
        "accepts",
        "can_cool",
        "can_heat",
        "can_wash",
        "cleanable",
        "containers",
        "coolable",
        "dialect",
        "first_observation",
        "goal",
        "goal_lamps",
        "goal_objects",
        "goal_receptacles",
        "heatable",
        "initial",
        "instruction",
        "knives",
        "location",
        "object_types",
        "objects",
        "openable",
        "pickupable",
        "problem",
        "receptacle_types",
        "receptacles",
        "receptacles_at",
        "sliceable",
        "toggleable",
    )

    def __init__(self, problem: Problem, task_sentence: str, dialect: Dialect) -> None:
        self.problem = problem
        self.dialect = dialect
        self.goal = problem.goal
        prefix = "Your task is to: "
        self.instruction = task_sentence.removeprefix(prefix).strip()
        numbers = self._number(problem)
        self._set_geography(problem, numbers)
        self._set_properties(problem, numbers)
        self._set_goal()
        self._go = {
            f"go to {self.receptacles[i]}": Action(Verb.GO, receptacle=i)
            for i, location in enumerate(self.location)
            if location >= 0
        }
        self._go_lists: dict[int, list[str]] = {}
        self.initial = self._initial_state(problem, numbers)
        self.first_observation = (
            f"-= Welcome to TextWorld, ALFRED! =-\n\n{self._first_look(self.initial)}\n\n{task_sentence}"
        )

    # -- compiling --------------------------------------------------------------------------

    def _number(self, problem: Problem) -> _Numbers:
        """Set the names of objects, receptacles and locations, in the order of their ids, and return their numbers."""
        location_ids = {problem.start, *problem.receptacle_locations.values()}
        location_ids |= {location for _, location in problem.object_locations}
        receptacle_ids = sorted(
            {*problem.receptacle_types, *problem.receptacle_locations, *problem.openable}
            | {receptacle for _, receptacle in problem.contents}
        )
        object_ids = sorted(
            {*problem.object_types}
            | {object_ for object_, _ in problem.contents | problem.object_locations}
            | {object_ for pair in problem.inner_objects for object_ in pair}
            | {object_ for flag in _FLAGS for object_ in getattr(problem, flag)}
        )
        names = _names({*location_ids, *receptacle_ids, *object_ids})
        locations = sorted(location_ids)
        self._locations = tuple(names[id_] for id_ in locations)
        self.objects = tuple(names[id_] for id_ in object_ids)
        self.receptacles = tuple(names[id_] for id_ in receptacle_ids)
        self.object_types = tuple(problem.object_types.get(id_, "") for id_ in object_ids)
        self.receptacle_types = tuple(problem.receptacle_types.get(id_, "") for id_ in receptacle_ids)
        return _Numbers(
            objects={id_: i for i, id_ in enumerate(object_ids)},
            receptacles={id_: i for i, id_ in enumerate(receptacle_ids)},
            locations={id_: i for i, id_ in enumerate(locations)},
        )

    def _set_geography(self, problem: Problem, numbers: _Numbers) -> None:
        """Set where receptacles are, and what is inside of what."""
        self.location = tuple(
            numbers.locations[problem.receptacle_locations[id_]] if id_ in problem.receptacle_locations else -1
            for id_ in numbers.receptacles
        )
        at: dict[int, list[int]] = defaultdict(list)
        for receptacle, location in enumerate(self.location):
            if location >= 0:
                at[location].append(receptacle)
        self.receptacles_at = tuple(tuple(at.get(location, ())) for location in range(len(numbers.locations)))
        inner: dict[int, list[int]] = defaultdict(list)
        for inside, outside in problem.inner_objects:
            inner[numbers.objects[outside]].append(numbers.objects[inside])
        self._inner = {outside: tuple(sorted(inside)) for outside, inside in inner.items()}

    def _set_properties(self, problem: Problem, numbers: _Numbers) -> None:
        """Set the bit masks of what can be done with objects and receptacles."""
        self.openable = _mask(numbers.receptacles[id_] for id_ in problem.openable)
        self.pickupable = numbers.mask(problem.pickupable)
        self.cleanable = numbers.mask(problem.cleanable)
        self.coolable = numbers.mask(problem.coolable)
        self.heatable = numbers.mask(problem.heatable)
        self.sliceable = numbers.mask(problem.sliceable)
        self.toggleable = numbers.mask(problem.toggleable)
        self.containers = numbers.mask(problem.containers)
        self._sliceable_ids = tuple(sorted(numbers.objects[id_] for id_ in problem.sliceable))
        self.can_wash = self._receptacles_of(self.dialect.washing_types)
        self.can_heat = self._receptacles_of({"microwavetype"})
        self.can_cool = self._receptacles_of({"fridgetype"})
        self.knives = self._objects_of({"knifetype", "butterknifetype"})
        holders: dict[str, set[str]] = defaultdict(set)
        for receptacle_type, object_type in problem.can_contain:
            holders[object_type].add(receptacle_type)
        accepting = {type_: self._receptacles_of(holders[type_]) for type_ in {*self.object_types} - {""}}
        self.accepts = tuple(accepting.get(type_, 0) for type_ in self.object_types)

    def _set_goal(self) -> None:
        """Set which objects, receptacles and lamps the goal is about."""
        goal = self.goal
        property_ = {"hot": self.heatable, "cool": self.coolable, "clean": self.cleanable}
        self.goal_objects = self._objects_of({goal.object_type})
        if goal.treatment is not None:
            self.goal_objects &= property_[goal.treatment]
        self.goal_receptacles = tuple(
            i for i, type_ in enumerate(self.receptacle_types) if type_ == goal.receptacle_type
        )
        self.goal_lamps = self.toggleable & self._objects_of({goal.lamp_type})

    def _objects_of(self, types: Collection[str | None]) -> int:
        return _mask(i for i, type_ in enumerate(self.object_types) if type_ in types)

    def _receptacles_of(self, types: Collection[str]) -> int:
        return _mask(i for i, type_ in enumerate(self.receptacle_types) if type_ in types)

    def _initial_state(self, problem: Problem, numbers: _Numbers) -> State:
        contents: dict[int, list[int]] = defaultdict(list)
        for object_, receptacle_id in problem.contents:
            contents[numbers.receptacles[receptacle_id]].append(numbers.objects[object_])
        places: dict[int, set[int]] = defaultdict(set)
        for object_, location_id in problem.object_locations:
            places[numbers.objects[object_]].add(numbers.locations[location_id])
        state = State()
        state.at = numbers.locations[problem.start]
        state.held = -1
        state.opened = state.clean = state.hot = state.sliced = state.toggled = 0
        state.cool = numbers.mask(problem.cool)
        state.contents = tuple(tuple(sorted(contents.get(i, ()))) for i in range(len(self.receptacles)))
        state.places = tuple(frozenset(places.get(i, ())) for i in range(len(self.objects)))
        state.removed = frozenset()
        state.won = self._goal_holds(state)
        return state

    def _first_look(self, state: State) -> str:
        if self.receptacles_at[state.at]:
            return self._look(state)
        seen = join([f"a {name}" for i, name in enumerate(self.receptacles) if self.location[i] >= 0])
        return f"You are in the middle of a room. Looking quickly around you, you see {seen}."

    def __deepcopy__(self, memo: dict[int, object]) -> Game:
        """Return the game itself, which is immutable."""
        return self

    # -- commands ---------------------------------------------------------------------------

    def local_actions(self, state: State) -> dict[str, Action]:
        """Return the admissible commands other than `go to`, parsed."""
        actions = {"inventory": _INVENTORY, "look": _LOOK}
        dialect, objects, held, opened = self.dialect, self.objects, state.held, state.opened
        if dialect.wording == "move":
            actions["help"] = _HELP
        for receptacle in self.receptacles_at[state.at]:
            name = self.receptacles[receptacle]
            bit = 1 << receptacle
            actions[f"examine {name}"] = Action(Verb.EXAMINE_RECEPTACLE, -1, receptacle)
            accessible = True
            if self.openable & bit:
                if opened & bit:
                    actions[f"close {name}"] = Action(Verb.CLOSE, -1, receptacle)
                else:
                    actions[f"open {name}"] = Action(Verb.OPEN, -1, receptacle)
                    accessible = False
            for object_ in state.contents[receptacle]:
                if self.toggleable >> object_ & 1:
                    actions[f"use {objects[object_]}"] = Action(Verb.USE, object_, receptacle)
                if held < 0 and accessible and self.pickupable >> object_ & 1:
                    actions[f"take {objects[object_]} from {name}"] = Action(Verb.TAKE, object_, receptacle)
            if held >= 0:
                if accessible and self.accepts[held] & bit:
                    actions[dialect.put_command(objects[held], name)] = Action(Verb.PUT, held, receptacle)
                if self.can_wash & bit and self.cleanable >> held & 1:
                    actions[f"clean {objects[held]} with {name}"] = Action(Verb.CLEAN, held, receptacle)
                if self.can_heat & bit and self.heatable >> held & 1:
                    actions[f"heat {objects[held]} with {name}"] = Action(Verb.HEAT, held, receptacle)
                if self.can_cool & bit and self.coolable >> held & 1:
                    actions[f"cool {objects[held]} with {name}"] = Action(Verb.COOL, held, receptacle)
        if held >= 0:
            actions[f"examine {objects[held]}"] = Action(Verb.EXAMINE_OBJECT, held)
            if self.knives >> held & 1:
                for object_ in self._sliceable_ids:
                    if state.at in state.places[object_]:
                        actions[f"slice {objects[object_]} with {objects[held]}"] = Action(Verb.SLICE, object_)
        return actions

    def commands(self, state: State, local: Iterable[str]) -> list[str]:
        """Return all admissible commands, sorted as strings.

        Args:
            state: the current state.
            local: the keys of `local_actions(state)`.
        """
        here = state.at
        going = self._go_lists.get(here)
        if going is None:
            going = sorted(c for c, action in self._go.items() if self.location[action.receptacle] != here)
            self._go_lists[here] = going
        commands = sorted(local)
        # All `go to` commands sort between those that start with clean..examine and heat..use.
        split = bisect_left(commands, "go to")
        return commands[:split] + going + commands[split:]

    def parse(self, state: State, command: str, local: dict[str, Action]) -> Action | None:
        """Return the parsed command; None if it is not admissible. Case and inner blanks have to match."""
        action = local.get(command)
        if action is None:
            action = self._go.get(command)
            if action is not None and self.location[action.receptacle] == state.at:
                return None
        return action

    # -- effects ----------------------------------------------------------------------------

    def apply(self, state: State, action: Action) -> str:
        """Apply an admissible action to `state` and return the observation."""
        verb, object_, receptacle = action
        if verb is Verb.GO:
            state.at = self.location[receptacle]
            place = self.receptacles[receptacle] if self.dialect.wording == "move" else self._locations[state.at]
            feedback = f"You arrive at {place}. {self._examine_receptacle(state, receptacle)}"
        elif verb is Verb.OPEN:
            state.opened |= 1 << receptacle
            feedback = f"You open the {self.receptacles[receptacle]}. {self._examine_receptacle(state, receptacle)}"
        elif verb is Verb.CLOSE:
            state.opened &= ~(1 << receptacle)
            feedback = f"You close the {self.receptacles[receptacle]}."
        elif verb is Verb.TAKE:
            state.held = object_
            self._set_contents(state, receptacle, tuple(o for o in state.contents[receptacle] if o != object_))
            self._set_places(state, object_, state.places[object_] - {state.at})
            state.removed |= {(object_, receptacle)}
            feedback = f"You pick up the {self.objects[object_]} from the {self.receptacles[receptacle]}."
        elif verb is Verb.PUT:
            state.held = -1
            if object_ not in state.contents[receptacle]:
                self._set_contents(state, receptacle, tuple(sorted((*state.contents[receptacle], object_))))
            self._set_places(state, object_, state.places[object_] | {state.at})
            state.removed -= {(object_, receptacle)}
            feedback = self.dialect.put_feedback(self.objects[object_], self.receptacles[receptacle])
        elif verb is Verb.CLEAN:
            state.clean |= 1 << object_
            feedback = f"You clean the {self.objects[object_]} using the {self.receptacles[receptacle]}."
        elif verb is Verb.HEAT:
            state.hot |= 1 << object_
            state.cool &= ~(1 << object_)
            feedback = f"You heat the {self.objects[object_]} using the {self.receptacles[receptacle]}."
        elif verb is Verb.COOL:
            state.cool |= 1 << object_
            state.hot &= ~(1 << object_)
            feedback = f"You cool the {self.objects[object_]} using the {self.receptacles[receptacle]}."
        elif verb is Verb.USE:
            state.toggled |= 1 << object_
            # The original toggles before it looks, so the lamp is always reported as turned on.
            feedback = f"You turn on the {self.objects[object_]}."
        elif verb is Verb.SLICE:
            state.sliced |= 1 << object_
            feedback = f"You sliced the {self.objects[object_]} with the {self.objects[state.held]}."
        elif verb is Verb.EXAMINE_RECEPTACLE:
            return self._examine_receptacle(state, receptacle)
        elif verb is Verb.EXAMINE_OBJECT:
            return self._examine_object(state, object_)
        elif verb is Verb.LOOK:
            return self._look(state)
        elif verb is Verb.INVENTORY:
            return (
                "You are not carrying anything."
                if state.held < 0
                else f"You are carrying: a {self.objects[state.held]}."
            )
        else:
            return self.dialect.help_text or ""
        state.won = self._goal_holds(state)
        return feedback

    @staticmethod
    def _set_contents(state: State, receptacle: int, contents: tuple[int, ...]) -> None:
        state.contents = (*state.contents[:receptacle], contents, *state.contents[receptacle + 1 :])

    @staticmethod
    def _set_places(state: State, object_: int, places: frozenset[int]) -> None:
        state.places = (*state.places[:object_], places, *state.places[object_ + 1 :])

    def _goal_holds(self, state: State) -> bool:
        goal = self.goal
        if goal.lamp_type is not None:
            if state.held < 0 or not self.goal_objects >> state.held & 1:
                return False
            lit = self.goal_lamps & state.toggled
            return any(lit >> o & 1 for r in self.receptacles_at[state.at] for o in state.contents[r])
        wanted = self.goal_objects
        if goal.treatment is not None:
            wanted &= {"hot": state.hot, "cool": state.cool, "clean": state.clean}[goal.treatment]
        if not wanted:
            return False
        contents = state.contents
        return any(sum(wanted >> o & 1 for o in contents[r]) >= goal.count for r in self.goal_receptacles)

    # -- descriptions -----------------------------------------------------------------------

    def _examine_receptacle(self, state: State, receptacle: int) -> str:
        name = self.receptacles[receptacle]
        if self.openable >> receptacle & 1:
            if not state.opened >> receptacle & 1:
                return f"The {name} is closed."
            opening = f"The {name} is open. In it"
        else:
            opening = f"On the {name}"
        return f"{opening}, you see {join([f'a {self.objects[o]}' for o in state.contents[receptacle]])}."

    def _examine_object(self, state: State, object_: int) -> str:
        name = self.objects[object_]
        if self.containers >> object_ & 1:
            inside = join([f"a {self.objects[o]}" for o in self._inner.get(object_, ())])
            return f"This is a normal {name}. In it, you see {inside}."
        clean, hot, cool, sliced = (
            state.clean >> object_ & 1,
            state.hot >> object_ & 1,
            state.cool >> object_ & 1,
            state.sliced >> object_ & 1,
        )
        temperature = "hot" if hot else "cool" if cool else ""
        if temperature and clean:
            words = f"{temperature} and clean"
        elif temperature or clean:
            words = temperature or "clean"
        else:
            words = ""
        if sliced and words:
            return f"This is a {words} sliced {name}."
        if words:
            # The grammar says "cool" everywhere except where that is all there is to say.
            return f"This is a {'cold' if words == 'cool' else words} {name}."
        if self.toggleable >> object_ & 1 and state.toggled >> object_ & 1:
            return f"This {name} is on."
        if sliced:
            return f"This is a sliced {name}."
        return f"There's nothing special about {name}."

    def _look(self, state: State) -> str:
        here = self.receptacles_at[state.at]
        if not here:
            return "You are in the middle of a room. Looking quickly around you, you see nothing."
        # Listed as lying around: what was taken from one of these receptacles and is at this
        # location nevertheless, because it was put into another receptacle of the same location.
        around = [
            f"a {self.objects[object_]}"
            for object_, receptacle in sorted(state.removed)
            if receptacle in here and state.at in state.places[object_]
        ]
        return f"You are facing the {join([self.receptacles[r] for r in here])}. Next to it, you see {join(around)}."


_LOOK = Action(Verb.LOOK)
_INVENTORY = Action(Verb.INVENTORY)
_HELP = Action(Verb.HELP)
