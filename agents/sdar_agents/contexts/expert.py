"""Expert: the teacher reads the plan of the environment's expert, or the gold answer.

The context of OPSD (arXiv 2601.18734: the reference solution) on environments. The expert sees the hidden state
(`TextEnv.oracle_plan`), so its plan is made from the state in which the turn was played: the episode's commands are
carried out again in an environment of its own, and must show what they showed then.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

from sdar_agents.contexts.base import Ask, Cost, Groups, Review, TurnKey, View
from sdar_agents.contexts.stateless import Stateless
from sdar_agents.contexts.telling import numbered
from sdar_agents.settings.checks import check_settings
from sdar_agents.types import Trajectory
from sdar_envs import Task, TextEnv
from sdar_envs.errors import EpisodeOver, UnknownName, UnsolvableGame
from sdar_envs.rng import derive_seed

__all__ = ["ExpertPlan"]

_HEADINGS = {
    "plan": "An expert who knows everything would go on with these commands, in this order:",
    "next": "An expert who knows everything would now give this command:",
    "last": "An expert who knows everything would end the task with this command:",
}


@dataclass(frozen=True)
class ExpertPlan(Stateless):
    """The expert's commands from the state of each turn, behind the history.

    Attributes:
        make_env: makes the environment of the rollout; given by the trainer.
        show: the whole `plan`, the `next` command, or the `last` one, which in Search-QA is the gold answer.
    """

    make_env: Callable[[], TextEnv[Any]] = field(repr=False)
    _: KW_ONLY
    show: Literal["plan", "next", "last"] = "plan"
    _envs: list[TextEnv[Any]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_settings(self)

    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse an environment without an expert.

        Raises:
            UnknownName: it has none.
        """
        env = self._env()
        env.reset(seed=0, options={"task_id": tasks[0].id})
        with suppress(UnsolvableGame):
            env.oracle_plan()

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Play the episodes again, and return a view for each turn from which the task can be solved."""
        views: dict[TurnKey, tuple[View | None, ...]] = {}
        counts = {"unsolvable": 0, "failures": 0, "steps": 0}
        for episode in (episode for group in groups for episode in group):
            for index, plan in enumerate(self._plans(episode, derive_seed(seed, episode.group_id), counts)):
                if plan:
                    shown = {"plan": plan, "next": plan[:1], "last": plan[-1:]}[self.show]
                    text = numbered(shown) if self.show == "plan" else shown[0]
                    views[episode.episode_id, index] = (View((_HEADINGS[self.show], text), after="history"),)
        steps = counts.pop("steps")
        metrics = {name: float(count) for name, count in counts.items()}
        return Review(views, metrics=metrics, cost=Cost(environment_steps=steps))

    def _plans(self, episode: Trajectory, seed: int, counts: dict[str, int]) -> list[tuple[str, ...]]:
        """Return the plan in each turn; an empty one where there is none, and no more where the replay differs."""
        plans: list[tuple[str, ...]] = []
        env = self._env()
        observation, _ = env.reset(seed=seed, options={"task_id": episode.task.id})
        for number, turn in enumerate(episode.turns, 1):
            if observation != turn.observation:
                counts["failures"] += len(episode.turns) - len(plans)
                break
            try:
                plans.append(env.oracle_plan())
            except (UnsolvableGame, UnknownName, EpisodeOver):
                # Some tasks of an environment may have no plan though others do.
                plans.append(())
                counts["unsolvable"] += 1
            if number < len(episode.turns):
                observation = env.step(turn.action)[0]
                counts["steps"] += 1
        return plans

    def _env(self) -> TextEnv[Any]:
        if not self._envs:
            self._envs.append(self.make_env())
        return self._envs[0]
