"""What an agent saw, as people would see it: a shop's page as a page, an ALFWorld room as a list of its receptacles.

Both are made of the observations alone, and hold nothing but text: templates escape it as they do all else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from sdar_agents.baselines.room import Room
from sdar_benchmarks.analysis.shop_page import ShopPage, read_page

__all__ = ["Place", "RoomGuide", "RoomView", "page_of"]

_ROOM = "Looking quickly around you, you see "
_NUMBERED = re.compile(r"(.*?)(\d*)")


def page_of(turn: Mapping[str, Any]) -> ShopPage | None:
    """Return the shop's page that was observed in a turn; None if it was none."""
    observation, commands = turn.get("observation"), turn.get("admissible_commands")
    if not isinstance(observation, str):
        return None
    known = [command for command in commands if isinstance(command, str)] if isinstance(commands, list) else None
    return read_page(observation, known)


class Place(NamedTuple):
    """A receptacle as far as it is known.

    Attributes:
        name: such as `drawer 1`.
        is_here: whether the player went to it last.
        is_closed: whether it was closed when last seen.
        things: what is known to be in or on it, and whether that is new since the turn before.
    """

    name: str
    is_here: bool
    is_closed: bool
    things: tuple[tuple[str, bool], ...]


class RoomView(NamedTuple):
    """A room as far as it is known.

    Attributes:
        held: what the player holds; empty for nothing.
        known: receptacles that the player has been to or looked into.
        unknown: the others.
    """

    held: str
    known: tuple[Place, ...]
    unknown: tuple[str, ...]

    @property
    def title(self) -> str:
        """The room in one line."""
        of = len(self.known) + len(self.unknown)
        held = f", in the hand: {self.held}" if self.held else ""
        return f"The room: {len(self.known)} of {of} receptacles seen{held}"


class RoomGuide:
    """Follows an ALFWorld episode; silent in every other one."""

    def __init__(self) -> None:
        self._room = Room()
        self._is_room = False
        self._action = ""

    def view(self, turn: Mapping[str, Any]) -> RoomView | None:
        """Return what is known after a turn's observation, before its action; None if there is no room.

        Turns must come in their order.
        """
        observation = turn.get("observation")
        if not isinstance(observation, str):
            return None
        self._is_room |= _ROOM in observation
        if not self._is_room:
            return None
        before = {name: set(things) for name, things in self._room.contents.items()}
        commands = turn.get("admissible_commands")
        if isinstance(commands, list):
            names = [command[6:] for command in commands if isinstance(command, str) and command.startswith("go to ")]
            self._room.receptacles.update(names)
        self._room.learn(self._action, observation)
        action = turn.get("action")
        self._action = action if isinstance(action, str) else ""
        return self._shown(before)

    def _shown(self, before: Mapping[str, set[str]]) -> RoomView:
        room = self._room
        seen = {*room.contents, *room.closed, *([room.place] if room.place else [])}
        known = [
            Place(
                name,
                name == room.place,
                name in room.closed,
                tuple(
                    (f"{thing} (treated)" if thing in room.treated else thing, thing not in before.get(name, ()))
                    for thing in sorted(room.contents.get(name, ()), key=_order)
                ),
            )
            for name in sorted(seen, key=_order)
        ]
        return RoomView(room.held or "", tuple(known), tuple(sorted(room.receptacles - seen, key=_order)))


def _order(name: str) -> tuple[str, int]:
    """Return a key by which `drawer 10` comes after `drawer 9`."""
    found = _NUMBERED.fullmatch(name)
    assert found is not None
    return found[1], int(found[2][:9] or 0)
