"""Rule-based ALFWorld agent that reads only what a player sees.

It reads the instruction, the observations and the admissible commands, remembers what it saw where, and searches the
place with the largest probability per step first: the probability that a thing is kept there
(`knowledge.usual_places`) divided by the steps that looking takes. It can take an episode over in the middle: what it
has not seen, it looks up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sdar_agents.baselines.room import Room
from sdar_envs.alfworld.instruction import TREATERS, read_instruction
from sdar_envs.alfworld.knowledge import usual_places

__all__ = ["Explorer"]

# Receptacle classes that almost always have a door; the others are mostly open.
_USUALLY_CLOSED = frozenset({"cabinet", "drawer", "fridge", "microwave", "safe"})


def _class(name: str) -> str:
    return name.rsplit(" ", 1)[0]


class Explorer:
    """Script that solves ALFWorld tasks by search; see the module.

    Args:
        places: where a thing may be: object class, as a player reads it -> receptacle class -> weight.
    """

    def __init__(self, places: Callable[[str], Mapping[str, int]] = usual_places) -> None:
        self.places = places

    def reset(self, observation: str, info: dict[str, Any]) -> None:
        """Begin an episode, or take one over.

        Args:
            observation: what the player sees now.
            info: the environment's info; only `instruction` and `admissible_commands` are read.

        Raises:
            UnsupportedGame: the instruction is not one of ALFWorld's templates.
        """
        self.mission = read_instruction(info["instruction"])
        commands = info["admissible_commands"]
        self._room = Room()
        self._unfit: set[str] = set()  # receptacles that refused what the task puts there
        self._action = ""
        self._room.receptacles.update(command[6:] for command in commands if command.startswith("go to "))
        self._here: list[str] = []
        self._hand_known = observation.startswith("-= Welcome")
        self._learn(observation)

    def act(self, observation: str, info: dict[str, Any]) -> str:
        """Return the next command."""
        commands = info["admissible_commands"]
        self._room.receptacles.update(command[6:] for command in commands if command.startswith("go to "))
        self._learn(observation)
        self._action = self._decide(commands)
        return self._action

    # -- memory -----------------------------------------------------------------------------

    def _learn(self, observation: str) -> None:
        self._room.learn(self._action, observation)
        self._hand_known |= self._action == "inventory"

    # -- policy -----------------------------------------------------------------------------

    def _decide(self, commands: list[str]) -> str:
        if not self._hand_known:
            return "inventory"
        mission = self.mission
        self._here = [
            command[8:] for command in commands if command.startswith("examine ") and command[8:] != self._room.held
        ]
        self._room.receptacles.update(self._here)
        if self._room.held is None:
            return self._fetch(mission.object_class, commands)
        if _class(self._room.held) != mission.object_class:
            return self._lay_down(commands)
        if mission.lamp_class is not None:
            return self._switch_on(mission.lamp_class, commands)
        if mission.treatment is not None and self._room.held not in self._room.treated:
            verb, appliance = TREATERS[mission.treatment]
            return self._first(commands, f"{verb} {self._room.held} with ") or self._go_to_class(appliance, commands)
        return self._deliver(commands)

    def _fetch(self, object_class: str, commands: list[str]) -> str:
        """Return the command that takes a thing of the class, goes to where one was seen, or searches for one."""
        # If two things are wanted, the one that was delivered stays where it is.
        keep = self._best_target() if self.mission.count == 2 else None
        seen = [
            (name not in self._here, name, thing)
            for name, things in self._room.contents.items()
            for thing in things
            if _class(thing) == object_class and name != keep
        ]
        for _, name, thing in sorted(seen):
            take = f"take {thing} from {name}"
            if take in commands:
                return take
            if name in self._here:
                if f"open {name}" in commands:
                    return f"open {name}"
                # It is no longer there, or cannot be taken.
                self._room.contents[name].discard(thing)
            else:
                return f"go to {name}"
        return self._search(object_class, commands)

    def _search(self, wanted: str, commands: list[str]) -> str:
        """Return the command that looks into the place with the largest weight per step."""
        places = self.places(wanted)
        sizes: dict[str, int] = {}
        for name in self._room.receptacles:
            sizes[_class(name)] = sizes.get(_class(name), 0) + 1
        best: tuple[float, str] | None = None
        for name in sorted(self._room.receptacles):
            if name in self._room.contents:
                continue
            kind = _class(name)
            shut = name in self._room.closed or (kind in _USUALLY_CLOSED and name not in self._here)
            steps = (name not in self._here) + shut or 1
            promise = (places.get(kind, 0.0) / sizes[kind] + 1e-4) / steps
            if best is None or promise > best[0]:
                best = (promise, name)
        if best is None:
            # Every place was searched and something was overlooked: search again.
            self._room.contents.clear()
            self._unfit.clear()
            return "look"
        name = best[1]
        if name not in self._here:
            return f"go to {name}"
        return f"open {name}" if f"open {name}" in commands else f"examine {name}"

    def _lay_down(self, commands: list[str]) -> str:
        """Return the command that puts down a held thing that the task does not need."""
        held = self._room.held
        helpful = self._first(commands, f"move {held} ", f"put {held} ") or self._first(commands, "open ")
        if helpful is not None:
            return helpful
        surfaces = sorted(
            (name for name in self._room.receptacles if name not in self._here and name not in self._unfit),
            key=lambda name: (_class(name) in _USUALLY_CLOSED, name),
        )
        if not surfaces:
            self._unfit.clear()
            return "look"
        self._unfit.update(self._here)
        return f"go to {surfaces[0]}"

    def _switch_on(self, lamp_class: str, commands: list[str]) -> str:
        use = self._first(commands, f"use {lamp_class} ")
        if use is not None:
            return use
        for name, things in sorted(self._room.contents.items()):
            if any(_class(thing) == lamp_class for thing in things):
                if name not in self._here:
                    return f"go to {name}"
                things.difference_update({thing for thing in things if _class(thing) == lamp_class})
        return self._search(lamp_class, commands)

    def _deliver(self, commands: list[str]) -> str:
        target = self._best_target()
        if target is None:
            self._unfit.clear()
            return "look"
        if target not in self._here:
            return f"go to {target}"
        for put in (f"move {self._room.held} to {target}", f"put {self._room.held} in/on {target}"):
            if put in commands:
                return put
        if f"open {target}" in commands:
            return f"open {target}"
        self._unfit.add(target)
        return self._deliver(commands)

    def _best_target(self) -> str | None:
        """Return the target receptacle: one that holds such a thing already, else an open one, else any."""
        mission = self.mission

        def rank(name: str) -> tuple[int, int, int, str]:
            inside = sum(_class(thing) == mission.object_class for thing in self._room.contents.get(name, ()))
            shut = name in self._room.closed or (name not in self._room.contents and _class(name) in _USUALLY_CLOSED)
            return (-inside if mission.count == 2 else 0, shut, name not in self._here, name)

        targets = [n for n in self._room.receptacles if _class(n) == mission.place_class and n not in self._unfit]
        return min(targets, key=rank, default=None)

    def _go_to_class(self, kind: str, commands: list[str]) -> str:
        return self._first(commands, f"go to {kind} ") or "look"

    @staticmethod
    def _first(commands: list[str], *prefixes: str) -> str | None:
        return next((command for command in commands if command.startswith(prefixes)), None)
