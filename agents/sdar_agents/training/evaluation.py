"""Held-out evaluation during training: a fixed panel of tasks, played with the same random draws every time.

`with_skills` and `with_context` are the teacher's own success: the policy plays with what the teacher reads. For a
context after play each task is played by a group first, which the context is made from.

The panel is a sample of a split (`sdar_envs.registry.sample_tasks`), each task played once. The success rate has a 95 %
interval (Wilson). Neither the random state of torch or Python nor the model's weights are changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from sdar_agents.contexts.base import View
from sdar_agents.engines.policy import Policy
from sdar_agents.parallel import World
from sdar_agents.rollout.rollout import Rollout
from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.training.config import EvaluationSettings
from sdar_agents.training.intervals import wilson_interval
from sdar_agents.training.run.context import RunContext
from sdar_agents.training.splits import evaluated_split
from sdar_agents.types import Trajectory
from sdar_envs import Task
from sdar_envs.registry import sample_tasks

__all__ = ["Evaluation", "success_metrics"]


class Evaluation:
    """Evaluator of a policy on the panel: `greedy`, `sampled`, and greedily `with_skills` and `with_context`.

    Args:
        settings: see `EvaluationSettings`.
        rollout: settings of the training rollout.
        policy: the policy that is evaluated.
        skills: what `with_skills` shows; None leaves it out.
        context: what `with_context` shows; None leaves it out, as does one that is not of the task.
        world: the ranks of the run, each of which plays some of the tasks; None for one process.

    Attributes:
        panel: the tasks.
        split: that they are of; None if nothing is evaluated.

    Raises:
        UnknownName: there is no such split, or none that results are reported on.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        rollout: RolloutSettings,
        policy: Policy,
        *,
        skills: SkillPrompts | None = None,
        context: RunContext | None = None,
        world: World | None = None,
    ) -> None:
        self.settings = settings
        self.panel: tuple[Task, ...] = ()
        self.split: str | None = None
        self._ways: dict[str, Rollout] = {}
        self._context: RunContext | None = None
        if not (settings.every and settings.tasks):
            return
        rollout, source, self.split = evaluated_split(rollout, settings.env_kwargs, settings.split)
        self.panel = sample_tasks(source, self.split, settings.tasks)
        # The environment's own reward: results are success and score, whatever training shapes.
        plain = replace(rollout, greedy=True, reward=None)
        if settings.greedy:
            self._ways["greedy"] = Rollout(plain, policy, world=world)
        if settings.sampled:
            sampled = replace(plain, greedy=False, temperature=settings.temperature)
            self._ways["sampled"] = Rollout(sampled, policy, world=world)
        if settings.with_skills and skills is not None:
            shown = replace(skills, reader="student", control_members=0)
            self._ways["with_skills"] = Rollout(plain, policy, skills=shown, world=world)
        if settings.with_context and context is not None and context.is_of_task:
            self._context = context
            self._ways["with_context"] = Rollout(plain, policy, world=world)
            self._before = Rollout(replace(rollout, reward=None), policy, world=world)

    def run(self, progress: Callable[[str], None] = lambda _: None) -> tuple[dict[str, float], list[dict[str, Any]]]:
        """Play the panel.

        Args:
            progress: called with what is being done.

        Returns:
            Metrics by path, such as `eval/greedy/success`, and a row for each episode.
        """
        metrics: dict[str, float] = {}
        rows = []
        for way, rollout in self._ways.items():
            progress(f"evaluation, {way.replace('_', ' ')}")
            views = self._views() if way == "with_context" else {}
            result = rollout.collect(self.panel, group_size=1, seed=self.settings.seed, step=0, views=views)
            if way == "with_context":
                metrics["eval/with_context/views"] = len(views) / len(self.panel)
            metrics |= {f"eval/{way}/{name}": value for name, value in success_metrics(result.trajectories)}
            for name in ("malformed", "invalid", "episode_turns"):
                metrics[f"eval/{way}/{name}"] = result.metrics[f"rollout/{name}"]
            for trajectory in result.trajectories:
                rows.append(
                    {
                        "way": way,
                        "task_id": trajectory.task.id,
                        "task_type": trajectory.task.task_type,
                        "success": trajectory.success,
                        "score": trajectory.score,
                        "turns": len(trajectory.turns),
                        "stop_reason": trajectory.stop_reason,
                    }
                )
        return metrics, rows

    def _views(self) -> dict[str, View]:
        """Return the context of each task that has one, made from a group of attempts at it."""
        assert self._context is not None
        size, seed = self.settings.context_group, self.settings.seed
        played = self._before.collect(self.panel, group_size=size, seed=seed, step=0).trajectories
        return self._context.views_of_tasks(played, seed=seed)

    def close(self) -> None:
        """Close the environments."""
        for rollout in self._ways.values():
            rollout.close()
        if self._context is not None:
            self._before.close()


def success_metrics(trajectories: Sequence[Trajectory]) -> Iterator[tuple[str, float]]:
    """Yield the success rate with its interval, the mean score, and the rate of each task type, by name."""
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
