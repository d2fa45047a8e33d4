"""Reasoning for demonstrations: sentences that lead from what a prompt shows to the expert's command.

Each sentence names something from the prompt, so that a small model can copy every word of it; the
command follows from the last one. The hidden state is not used. One fact may come from turns that the prompt no longer
shows: whether the held object was heated, cooled or cleaned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdar_envs import Task
from sdar_envs.alfworld.instruction import Mission, read_instruction
from sdar_envs.alfworld.knowledge import RECEPTACLE_CLASSES
from sdar_envs.errors import UnsupportedGame
from sdar_envs.prompt import Turn

__all__ = ["household_thought", "think"]

_FURNITURE = frozenset(class_.lower() for class_ in RECEPTACLE_CLASSES)
_LISTED = re.compile(r"(?:On the|The) ([a-z]+ \d+)(?: is open\. In it)?, you see ([^.]*)\.")


def think(
    task: Task, past: Sequence[Turn], observation: str, action: str, *, commands: Sequence[str], shown: int
) -> str:
    """Return reasoning that leads to a command.

    Args:
        task: the task; only its suite and its instruction are read.
        past: all past turns.
        observation: the current observation.
        action: the command.
        commands: the admissible commands.
        shown: how many of the latest turns the prompt shows.
    """
    if task.suite == "alfworld":
        try:
            mission = read_instruction(task.instruction)
        except UnsupportedGame:
            pass  # A person wrote the instruction.
        else:
            return household_thought(mission, past, observation, action, commands=commands, shown=shown)
    return f"The task: {task.instruction.strip()} Next: {action}"


def household_thought(
    mission: Mission, past: Sequence[Turn], observation: str, action: str, *, commands: Sequence[str], shown: int
) -> str:
    """Return the reasoning for a command in ALFWorld: the goal, what is held, what is seen, what comes next.

    Args:
        mission: the parsed instruction.
        past: as for `think`.
        observation: as for `think`.
        action: as for `think`.
        commands: as for `think`.
        shown: as for `think`.
    """
    examinable = [command.removeprefix("examine ") for command in commands if command.startswith("examine ")]
    held = next((name for name in examinable if _class(name) not in _FURNITURE), None)
    sentences = [f"I want {_goal(mission)}.", f"I hold {held or 'nothing'}."]
    place = re.sub("^(go to|open|examine) ", "", action)
    moves = place != action and _class(place) in _FURNITURE
    if held is not None and _class(held) != mission.object_class:
        sentences.append("I lay it down.")
    elif held is None or mission.lamp_class is not None:
        sought = mission.object_class if held is None or mission.lamp_class is None else mission.lamp_class
        texts = [observation, *(turn.observation for turn in reversed(past[max(0, len(past) - shown) :]))]
        remembered = [name for text in texts for at, name in _listed(text) if at == place and _class(name) == sought]
        named = _object_of(action)
        if named is not None:
            sentences.append(f"I see {named}.")
        elif not moves:
            sentences.append(f"I see no {sought}.")
        elif action.startswith("go to ") and remembered:
            sentences.append(f"I saw {min(remembered)} in {place}.")
        else:
            # The place comes right after the thing, as in the skill that says where it is kept.
            sentences.append(f"I see no {sought}. Search: {sought} {place}.")
    else:
        if mission.treatment is not None:
            is_done = any(f"{held} using" in turn.observation for turn in past) or f"{held} using" in observation
            sentences.append(f"It is {mission.treatment}." if is_done else f"It is not {mission.treatment}.")
        if moves:
            sentences.append(f"It goes to {place}.")
    return " ".join(sentences)


def _goal(mission: Mission) -> str:
    if mission.lamp_class is not None:
        return f"{mission.object_class} under {mission.lamp_class}"
    kind = "two" if mission.count == 2 else (mission.treatment or "a")
    return f"{kind} {mission.object_class} in {mission.place_class}"


def _class(name: str) -> str:
    return name.rsplit(" ", 1)[0]


def _object_of(action: str) -> str | None:
    """Return the thing that is taken or switched on."""
    found = re.match(r"(?:take|use) ([a-z]+ \d+)", action)
    return found[1] if found else None


def _listed(text: str) -> list[tuple[str, str]]:
    """Return what an observation lists: (furniture, thing)."""
    return [
        (place, name) for place, things in _LISTED.findall(text) for name in re.findall(r"\ba ([a-z]+ \d+)", things)
    ]
