"""Parser of ALFWorld's template instructions: `read_instruction` returns the goal as a `Mission`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from sdar_envs.errors import UnsupportedGame

__all__ = ["TREATERS", "Mission", "Treatment", "read_instruction"]

Treatment = Literal["hot", "cool", "clean"]

TREATERS: dict[Treatment, tuple[str, str]] = {
    "hot": ("heat", "microwave"),
    "cool": ("cool", "fridge"),
    "clean": ("clean", "sinkbasin"),
}
"""The command and the receptacle of each treatment."""

_SENTENCES = (
    r"put (?P<count>two) (?P<object>\w+) in (?P<place>\w+)",
    r"find (?P<count>two) (?P<object>\w+) and put them in (?P<place>\w+)",
    r"(?P<verb>heat|cool|clean) some (?P<object>\w+) and put it in (?P<place>\w+)",
    r"put an? (?P<state>hot|cool|clean) (?P<object>\w+) in (?P<place>\w+)",
    r"put an? (?P<object>\w+) in (?P<place>\w+)",
    r"put some (?P<object>\w+) on (?P<place>\w+)",
    r"look at (?P<object>\w+) under the (?P<lamp>\w+)",
    r"examine the (?P<object>\w+) with the (?P<lamp>\w+)",
)


@dataclass(frozen=True, slots=True)
class Mission:
    """Goal of an instruction. Classes are words as the player reads them, such as `mug`.

    Attributes:
        object_class: the object to find.
        place_class: the receptacle that it belongs in; None for looking at it under a lamp.
        lamp_class: the lamp to look at it under; None for the placing tasks.
        treatment: what has to be done to it first; None for nothing.
        count: how many of them, 1 or 2.
    """

    object_class: str
    place_class: str | None
    lamp_class: str | None
    treatment: Treatment | None
    count: int


def read_instruction(instruction: str) -> Mission:
    """Parse one of ALFWorld's template sentences.

    Raises:
        UnsupportedGame: the sentence follows no template, for example because a person wrote it.
    """
    for pattern in _SENTENCES:
        found = re.fullmatch(pattern + r"\.?", instruction.strip())
        if found:
            parts = {key: value for key, value in found.groupdict().items() if value}
            verbs: dict[str, Treatment] = {verb: state for state, (verb, _) in TREATERS.items()}
            states: dict[str, Treatment] = {"hot": "hot", "cool": "cool", "clean": "clean"}
            return Mission(
                object_class=parts["object"],
                place_class=parts.get("place"),
                lamp_class=parts.get("lamp"),
                treatment=verbs.get(parts.get("verb", "")) or states.get(parts.get("state", "")),
                count=2 if "count" in parts else 1,
            )
    raise UnsupportedGame(
        f"the explorer cannot read the instruction {instruction[:200]!r}; it knows ALFWorld's template sentences, "
        "such as 'put a clean mug in desk.'."
    )
