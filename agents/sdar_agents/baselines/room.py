"""What a player knows of an ALFWorld room from the observations: what is where, held, closed and treated."""

from __future__ import annotations

import re

__all__ = ["Room"]

_SEEN = re.compile(r"(?:On the|The) ([a-z]+ \d+)(?: is open\. In it)?, you see ([^.]*)\.")
_CLOSED = re.compile(r"The ([a-z]+ \d+) is closed\.|You close the ([a-z]+ \d+)\.")
_THING = re.compile(r"\ban? ([a-z]+ \d+)")
_AROUND = re.compile(r"Looking quickly around you, you see ([^.]*)\.")
_PICKED = re.compile(r"You pick up the ([a-z]+ \d+) from the ([a-z]+ \d+)\.")
_PUT = re.compile(r"You (?:put|move) the ([a-z]+ \d+) (?:in/on|to) the ([a-z]+ \d+)\.")
_TREATED = re.compile(r"You (?:heat|cool|clean) the ([a-z]+ \d+) using")
_CARRIED = re.compile(r"You are carrying: an? ([a-z]+ \d+)\.")
_ARRIVED = re.compile(r"You arrive at ([a-z]+ \d+)\.")


class Room:
    """A player's knowledge of a room; empty at first.

    Attributes:
        receptacles: names of those that were seen or named.
        contents: what was seen in or on a receptacle, and not taken since; those never looked into are missing.
        closed: receptacles that were closed when last seen.
        treated: things that were heated, cooled or cleaned.
        held: the thing in the hand, as far as it is known.
        place: the receptacle that the player went to last.
    """

    def __init__(self) -> None:
        self.receptacles: set[str] = set()
        self.contents: dict[str, set[str]] = {}
        self.closed: set[str] = set()
        self.treated: set[str] = set()
        self.held: str | None = None
        self.place: str | None = None

    def learn(self, action: str, observation: str) -> None:
        """Take in what was seen after an action; an empty one stands for the beginning."""
        for around in _AROUND.findall(observation):
            self.receptacles.update(_THING.findall(around))
        for found in _CLOSED.findall(observation):
            self.closed.add(found[0] or found[1])
        for name, things in _SEEN.findall(observation):
            self.closed.discard(name)
            self.receptacles.add(name)
            self.contents[name] = set(_THING.findall(things))
        if arrived := _ARRIVED.match(observation):
            self.place = arrived[1]
        if action == "inventory":
            carried = _CARRIED.match(observation)
            self.held = carried[1] if carried else None
        elif picked := _PICKED.match(observation):
            self.held = picked[1]
            self.contents.get(picked[2], set()).discard(picked[1])
        elif put := _PUT.match(observation):
            self.held = None
            self.contents.setdefault(put[2], set()).add(put[1])
        elif treated := _TREATED.match(observation):
            self.treated.add(treated[1])
