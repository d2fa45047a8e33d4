"""The `Context` protocol: what a teacher reads, made from finished groups of episodes.

A context of your own is a class with `review`, and with `state_dict` and `load_state_dict` if it remembers anything:

    class FirstCommand:
        def review(self, groups, ask, *, step, seed):
            views = {}
            for group in groups:
                best = max(group, key=lambda episode: episode.episode_return)
                text = f"A good first command is {best.turns[0].action}."
                views |= {(episode.episode_id, 0): (View((text,)),) for episode in group if episode.turns}
            return Review(views)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from sdar_agents.engines.policy import Messages
from sdar_agents.types import Completion, Row, Trajectory
from sdar_envs.prompt import Place

__all__ = ["Ask", "Context", "Cost", "Groups", "Place", "Review", "TurnKey", "View", "Views"]


class View(NamedTuple):
    """What one teacher reads in one turn, besides what the student read.

    Attributes:
        paragraphs: inserted into the turn's prompt. Where there are several, the first introduces the others: the
            controls keep it and replace the rest.
        after: what they follow: the task, or the past turns.
        weight: of this turn in the distillation; 0 or more.
    """

    paragraphs: tuple[str, ...]
    after: Place = "task"
    weight: float = 1.0


TurnKey = tuple[str, int]
"""A turn of a step: `Trajectory.episode_id`, and its number from 0."""

Views = Mapping[TurnKey, tuple[View | None, ...]]
"""The views of each turn, one for each teacher. A turn without views, or without the first, has no teacher."""

Groups = Sequence[Sequence[Trajectory]]
"""Finished episodes, those of one task in a group."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What making contexts costs.

    Attributes:
        calls: requests to a model, repeated ones included.
        prompt_tokens: that it read.
        completion_tokens: that it generated.
        environment_steps: commands that were carried out in environments, beside those of the rollout.
    """

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    environment_steps: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.environment_steps + other.environment_steps,
        )


class Review(NamedTuple):
    """What a context makes of a step's episodes.

    Attributes:
        views: see `Views`.
        extra_rows: further rows to train on, such as another episode's answer under this one's prompt
            (`Row.is_trained`, `Row.given_advantage`).
        metrics: by name; logged as `context/<name>`.
        cost: besides that of `Ask`, which counts for itself.
    """

    views: Views
    extra_rows: Sequence[Row] = ()
    metrics: Mapping[str, float] = MappingProxyType({})
    cost: Cost = Cost()


class Ask(Protocol):
    """Protocol of the model that a context may ask: the policy itself, or one behind an endpoint.

    Attributes:
        name: of the model, for errors.
        cost: of all requests so far.
    """

    name: str
    cost: Cost

    def __call__(self, chats: Sequence[Messages], *, seed: int) -> list[Completion | None]:
        """Return an answer to each chat; None where there is none, because the chat is too long or a request failed.

        Args:
            chats: chat messages of each request.
            seed: of everything that is sampled.
        """
        ...

    def fits(self, chat: Messages) -> bool:
        """Return whether a chat leaves room for an answer, as far as it is known here."""
        ...


class Context(Protocol):
    """Protocol of a context that is made after play.

    It may have these attributes: `view_count`, the views of a turn (1 if there is none); `least_group`, the least
    number of episodes in a group that it can work with; `needs_both_prompts`, whether turns must have the prompts with
    and without skills (`skills.mixed`); `is_of_task`, whether all turns of an episode have the same view, which another
    attempt at the task can read too (the evaluation `with_context` plays it). `check(tasks)`, if there is one, is
    called before training with the tasks of the first step, to refuse what cannot work. Without `state_dict` and
    `load_state_dict` there is no state to save.
    """

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Return what the teachers of these episodes read.

        It must depend on the arguments and the state alone: runs are repeatable, and a resumed run calls it again.

        Args:
            groups: finished episodes, with rewards. Episodes may have no turn.
            ask: a model; not every context needs one.
            step: of the run, from 1.
            seed: of the run.
        """
        ...

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state, as JSON values, for a checkpoint."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        ...
