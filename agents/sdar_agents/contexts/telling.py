"""Episodes in words, for the prompts of contexts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sdar_agents.contexts.base import Ask
from sdar_agents.engines.policy import Messages
from sdar_agents.types import Trajectory
from sdar_envs.prompt import UNREADABLE

__all__ = ["action_of", "fitting_chat", "numbered", "outcome", "transcript"]


def transcript(trajectory: Trajectory, last: int | None = None) -> str:
    """Return an episode turn by turn, as prompts show the history, and its final observation.

    Args:
        trajectory: the episode.
        last: only so many of its last turns, with a word on the others; None for all.
    """
    first = 0 if last is None else max(0, len(trajectory.turns) - last)
    lines = [f"({first} earlier turns are left out)"] if first else []
    for number, turn in enumerate(trajectory.turns[first:], first + 1):
        lines.append(f"Turn {number}, observation: {turn.observation}")
        lines.append(f"Turn {number}, action: {action_of(trajectory, number - 1)}")
    if trajectory.final_observation:
        lines.append(f"At the end: {trajectory.final_observation}")
    return "\n".join(lines)


def action_of(trajectory: Trajectory, index: int) -> str:
    """Return the command of a turn as histories show it."""
    return trajectory.turns[index].action or UNREADABLE


def outcome(trajectory: Trajectory) -> str:
    """Return whether the task was solved, in a word or two."""
    return "solved" if trajectory.success else "not solved"


def numbered(lines: Sequence[str]) -> str:
    """Return a numbered list, an item a line."""
    return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))


def fitting_chat(ask: Ask, trajectory: Trajectory, write: Callable[[str], Messages]) -> Messages:
    """Return a chat about an episode that leaves room for an answer, with as many of its last turns as fit.

    Args:
        ask: the model that it is for.
        trajectory: the episode.
        write: returns the chat that shows a transcript.
    """
    chat = write(transcript(trajectory))
    low, high = 0, len(trajectory.turns)
    if ask.fits(chat):
        return chat
    while low < high:  # the most turns that fit are among low to high - 1
        middle = (low + high) // 2
        if ask.fits(write(transcript(trajectory, middle))):
            low = middle + 1
        else:
            high = middle
    return write(transcript(trajectory, max(0, low - 1)))
