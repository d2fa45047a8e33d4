"""Evaluation of a policy in training: a fixed panel, the same draws every time, apart from everything that trains.

The panel is the first tasks of a split, each played once. Success comes with its 95 % interval (Wilson). Nothing of
torch's or Python's random state is read or changed, and the model's weights are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import sdar_envs
from sdar_agents.engines.policy import Policy
from sdar_agents.rollout.rollout import Rollout, RolloutSettings
from sdar_agents.rollout.skill_prompts import SkillPrompts
from sdar_agents.training.config import EvaluationSettings
from sdar_agents.training.intervals import wilson_interval
from sdar_agents.types import Trajectory
from sdar_envs import Task
from sdar_envs.registry import make_text_env

__all__ = ["Evaluation", "success_metrics"]


class Evaluation:
    """Plays the panel in up to three ways: `greedy`, `sampled`, and greedily `with_skills`.

    Args:
        settings: see there.
        rollout: how training plays.
        policy: plays.
        skills: what `with_skills` shows; None leaves it out.

    Attributes:
        panel: the tasks.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        rollout: RolloutSettings,
        policy: Policy,
        *,
        skills: SkillPrompts | None = None,
    ) -> None:
        self.settings = settings
        self.panel: tuple[Task, ...] = ()
        self._ways: dict[str, Rollout] = {}
        if not (settings.every and settings.tasks):
            return
        kwargs = {**rollout.env_kwargs, **settings.env_kwargs}
        env = make_text_env(rollout.env_id, **kwargs)
        kwargs["split"] = settings.split or type(env).evaluation_split
        others = {name: value for name, value in kwargs.items() if name != "split"}
        self.panel = sdar_envs.tasks(rollout.env_id, split=kwargs["split"], limit=settings.tasks, **others)
        plain = replace(rollout, env_kwargs=kwargs, greedy=True)
        if settings.greedy:
            self._ways["greedy"] = Rollout(plain, policy)
        if settings.sampled:
            self._ways["sampled"] = Rollout(replace(plain, greedy=False, temperature=settings.temperature), policy)
        if settings.with_skills and skills is not None:
            shown = replace(skills, reader="student", control_members=0)
            self._ways["with_skills"] = Rollout(plain, policy, skills=shown)

    def run(self, progress: Callable[[str], None] = lambda _: None) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Play the panel.

        Args:
            progress: told what is being done.

        Returns:
            Metrics by path, such as `eval/greedy/success`, and a row for each episode.
        """
        metrics: dict[str, float] = {}
        rows = []
        for way, rollout in self._ways.items():
            progress(f"evaluation, {way.replace('_', ' ')}")
            result = rollout.collect(self.panel, group_size=1, seed=self.settings.seed, step=0)
            metrics |= {f"eval/{way}/{name}": value for name, value in success_metrics(result.trajectories)}
            metrics[f"eval/{way}/invalid"] = result.metrics["rollout/invalid"]
            metrics[f"eval/{way}/episode_turns"] = result.metrics["rollout/episode_turns"]
            for trajectory in result.trajectories:
                rows.append(
                    {
                        "way": way,
                        "task_id": trajectory.task.id,
                        "task_type": trajectory.task.task_type,
                        "success": trajectory.success,
                        "score": trajectory.score,
                        "turns": len(trajectory.turns),
                        "end_reason": trajectory.end_reason,
                    }
                )
        return metrics, rows

    def close(self) -> None:
        """Close the environments."""
        for rollout in self._ways.values():
            rollout.close()


def success_metrics(trajectories: Sequence[Trajectory]) -> Iterator[tuple[str, float]]:
    """Return the success rate with its interval, the score, and the rate of each kind of task, by name."""
    won = [trajectory.success for trajectory in trajectories]
    low, high = wilson_interval(sum(won), len(won))
    yield "success", sum(won) / len(won)
    yield "success_low", low
    yield "success_high", high
    yield "episodes", float(len(won))
    yield "score", sum(trajectory.score for trajectory in trajectories) / len(won)
    for task_type in sorted({trajectory.task.task_type for trajectory in trajectories}):
        of_type = [trajectory.success for trajectory in trajectories if trajectory.task.task_type == task_type]
        yield f"success_by_type/{task_type}", sum(of_type) / len(of_type)
