"""An episode in progress: what a rollout keeps of it until it is a `Trajectory`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sdar_agents.contexts.base import View
from sdar_agents.types import EpisodeStopReason, Trajectory, Turn
from sdar_envs import Task, TextEnv
from sdar_envs.chat import Conversation
from sdar_skills import Skill

__all__ = ["RunningEpisode"]


@dataclass(slots=True, eq=False)
class RunningEpisode:
    """One episode that is being played.

    Attributes:
        task: the task that is played.
        group_id: of its trajectory.
        episode_id: of its trajectory.
        seed: of everything that is drawn in it.
        env: plays it.
        conversation: its prompts and the turns that they show.
        skills: chosen for it, best first; None for a control or without skills.
        acts_with_skills: whether the student's prompt has them.
        counts_as_shown: whether the ledger is told of them: not where a mixed rollout plays without.
        view: a context that stands in all its prompts; None for none.
        observation: the latest.
        info: the latest.
        turns: all turns, as the trajectory keeps them.
        shown: the skills that stood in one of its prompts, by id.
        stop_reason: why it ended; None while it runs.
        failure: what its environment raised.
    """

    task: Task
    group_id: str
    episode_id: str
    seed: int
    env: TextEnv[Any]
    conversation: Conversation
    skills: tuple[Skill, ...] | None
    acts_with_skills: bool = False
    counts_as_shown: bool = True
    view: View | None = None
    observation: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    shown: dict[str, Skill] = field(default_factory=dict)
    stop_reason: EpisodeStopReason | None = None
    failure: Exception | None = None

    @property
    def is_running(self) -> bool:
        """Whether it takes another turn."""
        return self.stop_reason is None and self.failure is None

    def trajectory(self) -> Trajectory:
        """Return the record of the episode, which has ended."""
        assert self.stop_reason is not None
        return Trajectory(
            task=self.task,
            seed=self.seed,
            group_id=self.group_id,
            episode_id=self.episode_id,
            turns=tuple(self.turns),
            success=bool(self.info["is_success"]),
            stop_reason=self.stop_reason,
            score=float(self.info["score"]),
            final_observation=self.observation,
            mode=self.conversation.mode,
        )
