"""User-defined reward functions: `rollout.reward` names one as `module:function`.

    def shaped(trajectory: Trajectory) -> list[float]:
        return [turn.reward - 0.01 * (not turn.is_action_valid) for turn in trajectory.turns]

A reward function replaces Gymnasium's reward wrappers, which the rollout refuses: it plays the environment itself,
without wrappers, and keeps the environment's own reward (`Turn.env_reward`) next to the one that is trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, Protocol

from sdar_agents.types import Trajectory
from sdar_envs.errors import InvalidOption
from sdar_envs.importing import import_named

__all__ = ["RewardFunction", "apply_reward", "load_reward"]


class RewardFunction(Protocol):
    """Protocol of a reward function: maps a finished episode to the rewards of its turns."""

    def __call__(self, trajectory: Trajectory) -> float | Sequence[float]:
        """Return the reward of each turn, or one number for the whole episode, which its last turn gets.

        It must depend on the trajectory alone: runs are repeatable, and a resumed run calls it again.

        Args:
            trajectory: a finished episode with at least one turn. The `reward` of each turn is the environment's;
                `score`, `is_action_valid`, `is_well_formed`, `action` and `completion.text` say what was done, `task`,
                `success` and `stop_reason` how it ended.
        """
        ...


def load_reward(name: str) -> RewardFunction:
    """Return the reward function that `module:function` names.

    Raises:
        UnknownName: it cannot be imported.
        InvalidOption: it is no function.
    """
    reward: RewardFunction = import_named(name, what="a reward function")
    if not callable(reward):
        raise InvalidOption(f"{name} is a {type(reward).__name__}; wanted a function of a trajectory.")
    return reward


def apply_reward(trajectory: Trajectory, reward: RewardFunction, name: str) -> Trajectory:
    """Return the episode with the rewards of a function, and the environment's in `Turn.env_reward`.

    Args:
        trajectory: as it was played. Without a turn it is returned as it is.
        reward: the function.
        name: of the function, for errors.

    Raises:
        InvalidOption: the function returned neither a finite number nor one for each turn.
        Exception: what the function raised, with a note that says where.
    """
    count = len(trajectory.turns)
    if not count:
        return trajectory
    try:
        given: Any = reward(trajectory)
    except Exception as error:
        error.add_note(f"in the reward function {name}, for {trajectory.episode_id!r}")
        raise
    values: Any = [0.0] * (count - 1) + [given] if isinstance(given, Real) else given
    is_list = isinstance(values, Sequence) and len(values) == count and all(isinstance(v, Real) for v in values)
    if not is_list or not all(map(math.isfinite, values)):
        raise InvalidOption(
            f"the reward function {name} returned {given!r:.80} for {trajectory.episode_id!r}, which has {count} "
            "turns; wanted a finite number for the whole episode, or a list with one for each turn."
        )
    turns = (
        replace(turn, reward=float(value), env_reward=turn.reward)
        for turn, value in zip(trajectory.turns, values, strict=True)
    )
    return replace(trajectory, turns=tuple(turns))
