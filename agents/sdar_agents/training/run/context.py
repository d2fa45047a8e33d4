"""Context of a training run: made after play, inserted into the teacher's prompts, with its state in the checkpoint."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, get_args

from sdar_agents.contexts.asking import AskEndpoint, AskPolicy
from sdar_agents.contexts.base import Ask, Context, Cost, Review, View
from sdar_agents.contexts.controls import ContextControl, ControlledContext
from sdar_agents.contexts.inserting import TeacherPrompts, insert_views
from sdar_agents.contexts.registry import LIBRARY, make_context
from sdar_agents.engines.policy import Policy, Sampling
from sdar_agents.engines.servers.endpoint import Endpoint
from sdar_agents.parallel.world import World
from sdar_agents.rollout.settings import RolloutSettings
from sdar_agents.settings.reader import errors_at
from sdar_agents.training.checks.compatibility import check_views
from sdar_agents.training.config import AnalystSettings, TrainConfig
from sdar_agents.training.controls import parse_control
from sdar_agents.types import Row, Trajectory, make_rows
from sdar_envs import Task
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.registry import make_text_env

__all__ = ["Lesson", "RunContext", "context_control", "make_ask", "teacher_limit"]


class Lesson(NamedTuple):
    """What a step's episodes become for the learner.

    Attributes:
        trajectories: with the teacher's prompts.
        rows: of their turns in order, then the context's extra rows.
        metrics: by path, `context/...`.
        cost: of making the context.
    """

    trajectories: tuple[Trajectory, ...]
    rows: list[Row]
    metrics: dict[str, float]
    cost: Cost


class RunContext:
    """Context of a run, its model and its control.

    Args:
        config: of the run.
        policy: renders prompts, and is asked unless `context.analyst.model` names another model.
        rollout: settings of the training rollout, for contexts that play.
        tasks: of the first step.
        view_count: how many views of a turn the method reads; a context's further ones are left out.
        decode: returns the text of token ids.
        world: the ranks of the run, of which the first makes the context for all; None for one process.

    Attributes:
        context: None for the skill library, which is a context before play.

    Raises:
        UnknownName: there is no such context or option, or the environment has no expert.
        InvalidOption: an option cannot be used.
        MissingExtra: the extra of the analyst's endpoint is not installed.
    """

    def __init__(
        self,
        config: TrainConfig,
        policy: Policy,
        rollout: RolloutSettings,
        tasks: Sequence[Task],
        *,
        view_count: int,
        decode: Callable[[Sequence[int]], str],
        world: World | None = None,
    ) -> None:
        self.context: Context | None = None
        self._policy = policy
        self._seed = config.seed
        self._world = world or World()
        self._is_of_task = False
        settings = config.context
        if settings.name == LIBRARY:
            return
        self._limit = teacher_limit(policy, settings.max_prompt_tokens, config.rollout.max_new_tokens)
        given = {"make_env": lambda: make_text_env(rollout.env_id, **rollout.env_kwargs), "decode": decode}
        with errors_at("context"):
            context = make_context(settings.name, settings.options, given)
            check = getattr(context, "check", None)
            if check is not None:
                check(tasks)
        self._view_count: int = getattr(context, "view_count", 1)
        self._read_views = view_count
        check_views(config.method, view_count, settings.name, self._view_count)
        self._is_of_task = bool(getattr(context, "is_of_task", False))
        with errors_at("context.analyst"):
            self._ask = make_ask(settings.analyst, policy)
        control = context_control(config)
        if control is not None and self._view_count:
            context = ControlledContext(context, control, count_tokens=lambda text: len(policy.encode(text)))
        self.context = context

    def teach(
        self,
        trajectories: Sequence[Trajectory],
        step: int,
        *,
        invalid_penalty: float,
        piece: Callable[[int], str] | None = None,
    ) -> Lesson:
        """Return the rows of a step, with what the teacher reads.

        Args:
            trajectories: of the rollout, group by group.
            step: of the run.
            invalid_penalty: see `make_rows`.
            piece: returns the text of a token; see `make_rows`.

        Raises:
            InvalidOption: the context does not return what it should.
            ContextTooLong: not one of its views fits the teacher's prompt.
        """
        if self.context is None:
            rows = [
                row for each in trajectories for row in make_rows(each, invalid_penalty=invalid_penalty, decode=piece)
            ]
            return Lesson(tuple(trajectories), rows, {}, Cost())
        review, cost = self._world.from_first(lambda: self._review(trajectories, step))
        prompts, metrics = insert_views(
            review,
            trajectories,
            self._policy,
            view_count=self._view_count,
            read_views=self._read_views,
            max_tokens=self._limit,
        )
        taught = tuple(_with_prompts(trajectory, prompts) for trajectory in trajectories)
        rows = [row for each in taught for row in _rows(each, prompts, invalid_penalty, piece)]
        metrics |= dict(review.metrics)
        return Lesson(
            taught,
            [*rows, *review.extra_rows],
            {f"context/{name}": float(value) for name, value in metrics.items()},
            cost,
        )

    def _review(self, trajectories: Sequence[Trajectory], step: int) -> tuple[Review, Cost]:
        """Return the context's review of a step, and what it has cost."""
        assert self.context is not None
        before = self._ask.cost
        review = self.context.review(_grouped(trajectories), self._ask, step=step, seed=self._seed)
        if not isinstance(review, Review):
            raise InvalidOption(f"the context returned {review!r:.80}; wanted a sdar_agents.contexts.Review.")
        return review, _difference(self._ask.cost, before) + review.cost

    @property
    def is_of_task(self) -> bool:
        """Whether another attempt at a task can read the context."""
        return self._is_of_task

    def views_of_tasks(self, trajectories: Sequence[Trajectory], *, seed: int) -> dict[str, View]:
        """Return what the context says of each task, by its id, without a trace in its state or in the costs.

        Args:
            trajectories: attempts at the tasks, group by group.
            seed: of everything that is drawn.
        """
        return self._world.from_first(lambda: self._views_of_tasks(trajectories, seed))

    def _views_of_tasks(self, trajectories: Sequence[Trajectory], seed: int) -> dict[str, View]:
        assert self.context is not None
        state, cost = copy.deepcopy(self.state_dict()), self._ask.cost
        review = self.context.review(_grouped(trajectories), self._ask, step=0, seed=seed)
        self.load_state_dict(state)
        self._ask.cost = cost
        views: dict[str, View] = {}
        for trajectory in trajectories:
            [view, *_] = review.views.get((trajectory.episode_id, 0), (None,))
            if view is not None:
                views.setdefault(trajectory.task.id, view)
        return views

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state of the context, for a checkpoint."""
        save = getattr(self.context, "state_dict", None)
        return {} if save is None else dict(save())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        load = getattr(self.context, "load_state_dict", None)
        if load is not None:
            load(state)


def context_control(config: TrainConfig) -> ContextControl | None:
    """Return the control of what the teacher reads; None without one."""
    name = None if config.control is None else parse_control(config.control).name
    return next((control for control in get_args(ContextControl) if control == name), None)


def make_ask(settings: AnalystSettings, policy: Policy) -> Ask:
    """Make the model that a context may ask.

    Raises:
        UnknownName: an endpoint has no such option.
        InvalidOption: a setting is out of range.
        MissingExtra: the extra `openai-compatible` is not installed.
    """
    if settings.model is None:
        return AskPolicy(policy, Sampling(settings.max_new_tokens, settings.temperature))
    ours = {"model", "max_tokens", "temperature"}
    known = [name for name in inspect.signature(Endpoint).parameters if name not in ours]
    for name in settings.options:
        if name not in known:
            raise UnknownName(
                f"options has {name!r}, which is no option of an endpoint; wanted {', '.join(known)}."
                f"{did_you_mean(name, known)}"
            )
    return AskEndpoint(
        settings.model,
        concurrency=settings.concurrency,
        max_tokens=settings.max_new_tokens,
        temperature=settings.temperature,
        **settings.options,
    )


def teacher_limit(policy: Policy, given: int | None, max_new_tokens: int) -> int | None:
    """Return the longest prompt of a teacher: as given, or what the policy's context leaves.

    Raises:
        InvalidOption: a prompt of that length and a completion do not fit the context together.
    """
    context = policy.context_length
    if context is None:
        return given
    if (given or 1) + max_new_tokens > context:
        raise InvalidOption(
            f"context.max_prompt_tokens is {given} and rollout.max_new_tokens {max_new_tokens}, but the policy's "
            f"context has {context} tokens: lower one of them."
        )
    return context - max_new_tokens if given is None else given


def _grouped(trajectories: Sequence[Trajectory]) -> list[list[Trajectory]]:
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.group_id, []).append(trajectory)
    return list(groups.values())


def _with_prompts(trajectory: Trajectory, prompts: Mapping[tuple[str, int], TeacherPrompts]) -> Trajectory:
    """Return an episode whose turns have the first teacher's prompts, and no others."""
    found = [prompts.get((trajectory.episode_id, index)) for index in range(len(trajectory.turns))]
    turns = (
        replace(turn, teacher_prompt_ids=None if made is None else made.first)
        for turn, made in zip(trajectory.turns, found, strict=True)
    )
    return replace(trajectory, turns=tuple(turns))


def _rows(
    trajectory: Trajectory,
    prompts: Mapping[tuple[str, int], TeacherPrompts],
    invalid_penalty: float,
    piece: Callable[[int], str] | None,
) -> list[Row]:
    rows = []
    for row in make_rows(trajectory, invalid_penalty=invalid_penalty, decode=piece):
        made = prompts.get((row.episode_id, row.turn_index))
        if made is not None:
            row = replace(row, more_teacher_prompts=made.more, teacher_weight=made.weight)  # noqa: PLW2901
        rows.append(row)
    return rows


def _difference(now: Cost, before: Cost) -> Cost:
    return Cost(
        now.calls - before.calls,
        now.prompt_tokens - before.prompt_tokens,
        now.completion_tokens - before.completion_tokens,
        now.environment_steps - before.environment_steps,
    )
