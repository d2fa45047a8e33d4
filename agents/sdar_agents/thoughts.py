"""What an expert may say before it acts: words for a command, from what the player can read in the prompt.

A small model learns to act by these sentences: each names something that stands in the prompt, so that every word of it
can be looked up there, and the command follows from the last. Nothing here sees the hidden state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdar_envs.alfworld.explorer import Mission, read_instruction
from sdar_envs.alfworld.knowledge import RECEPTACLE_CLASSES
from sdar_envs.errors import UnsupportedGame
from sdar_envs.prompt import Turn

__all__ = ["household_thought", "think"]

_FURNITURE = frozenset(class_.lower() for class_ in RECEPTACLE_CLASSES)
_LISTED = re.compile(r"(?:On the|The) ([a-z]+ \d+)(?: is open\. In it)?, you see ([^.]*)\.")


def think(
    suite: str,
    instruction: str,
    past: Sequence[Turn],
    shown: int,
    observation: str,
    commands: Sequence[str],
    action: str,
) -> str:
    """Return reasoning that leads to a command.

    Args:
        suite: such as `alfworld`.
        instruction: the task.
        past: the past turns.
        shown: how many of the latest the prompt shows.
        observation: what is seen now.
        commands: what can be done now.
        action: the command that the expert gives.
    """
    if suite == "alfworld":
        try:
            return household_thought(read_instruction(instruction), past, shown, observation, commands, action)
        except UnsupportedGame:
            pass  # A person wrote the instruction.
    return f"The task is: {instruction} The next step is {action}."


def household_thought(
    mission: Mission, past: Sequence[Turn], shown: int, observation: str, commands: Sequence[str], action: str
) -> str:
    """Return the reasoning for a command in ALFWorld: what is wanted, held, seen, and done next.

    Args:
        mission: what the instruction asks for.
        past: as for `think`.
        shown: as for `think`.
        observation: as for `think`.
        commands: as for `think`.
        action: as for `think`.
    """
    wanted = mission.object_class
    examinable = [command.removeprefix("examine ") for command in commands if command.startswith("examine ")]
    held = next((name for name in examinable if _class(name) not in _FURNITURE), None)
    texts = [*(turn.observation for turn in past), observation]
    verb, _, rest = action.partition(" ")
    sentences = [f"I want {_goal(mission)}.", f"I hold {held or 'nothing'}."]
    sought = wanted
    if held is not None and mission.treatment is not None:
        done = any(f"{held} using" in text for text in texts)
        sentences.append(f"It is {mission.treatment}." if done else f"It is not {mission.treatment}.")
    if held is not None and mission.lamp_class is not None:
        sought = mission.lamp_class
    if held is None or mission.lamp_class is not None:
        seen = [name for _, name in _listed(observation) if _class(name) == sought]
        named = next((name for name in seen if f" {name} " in f"{action} "), None)
        if named is not None:
            sentences.append(f"I see {named}.")
        elif verb == "go" and (
            before := [
                name
                for place, name in _all_listed(texts[-1 - shown :])
                if place == action[6:] and _class(name) == sought
            ]
        ):
            sentences.append(f"I saw {min(before)} there.")
        else:
            sentences.append(f"I see no {sought}.")
    place = action[6:] if action.startswith("go to ") else rest
    if verb in ("go", "open", "examine") and _class(place) in _FURNITURE:
        sentences.append(f"I try {place}.")
    return " ".join(sentences)


def _goal(mission: Mission) -> str:
    if mission.lamp_class is not None:
        return f"{mission.object_class} under {mission.lamp_class}"
    kind = "two" if mission.count == 2 else (mission.treatment or "a")
    return f"{kind} {mission.object_class} in {mission.place_class}"


def _class(name: str) -> str:
    return name.rsplit(" ", 1)[0]


def _listed(text: str) -> list[tuple[str, str]]:
    """Return what an observation lists: (furniture, thing)."""
    return [
        (place, name) for place, things in _LISTED.findall(text) for name in re.findall(r"\ba ([a-z]+ \d+)", things)
    ]


def _all_listed(texts: Sequence[str]) -> list[tuple[str, str]]:
    return [pair for text in texts for pair in _listed(text)]
