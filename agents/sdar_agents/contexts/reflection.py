"""Group reflection: a model reflects on each episode of a group, and merges this into what to do and what to avoid.

The context of GRSD (arXiv 2607.28076), for groups with both outcomes. First, three key points for each episode, with
its outcome told; then the points of solved and unsolved episodes become two lists, which stand behind the task in all
turns of the group. Groups with one outcome have no teacher (GRSD scores them under the plain prompt and does not use
it).

As in the paper and not as in its code, reflections read the observations of the turns; the code cuts each prompt to its
first 400 characters, where no observation is. The trained reflections (their judge and loss) are not part of this
context. GRSD puts the text before the chat, we behind the task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from sdar_agents.contexts.asking import ask_objects, texts_of
from sdar_agents.contexts.base import Ask, Groups, Review, TurnKey, View
from sdar_agents.contexts.stateless import Stateless
from sdar_agents.contexts.telling import fitting_chat, numbered, outcome
from sdar_agents.engines.policy import Messages
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.types import Trajectory
from sdar_envs.rng import derive_seed

__all__ = ["GroupReflection"]

_MOST_LINES = 8


@dataclass(frozen=True, kw_only=True)
class GroupReflection(Stateless):
    """What to do and what to avoid, from a model's reflections on solved and unsolved episodes of the task.

    Attributes:
        points: how many key points of an episode, at most.
        attempts: how often an answer is asked for.
    """

    least_group: ClassVar[int] = 2
    is_of_task: ClassVar[bool] = True

    points: int = setting(3, low=1)
    attempts: int = setting(2, low=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Ask about each episode of the groups with both outcomes, then about each of these groups."""
        mixed = [[episode for episode in group if episode.turns] for group in groups]
        mixed = [group for group in mixed if len({episode.success for episode in group}) == 2]
        episodes = [episode for group in mixed for episode in group]
        chats = [fitting_chat(ask, episode, partial(self._reflect, episode)) for episode in episodes]
        seed = derive_seed(seed, f"reflection {step}")
        found = ask_objects(
            ask,
            chats,
            lambda content: tuple(texts_of(content, "points", most=self.points)),
            attempts=self.attempts,
            seed=seed,
        )
        points = {episode.episode_id: told for episode, told in zip(episodes, found, strict=True) if told}
        # A group whose solved or unsolved episodes say nothing has nothing to compare.
        told = [group for group in mixed if len({e.success for e in group if e.episode_id in points}) == 2]
        merged = ask_objects(
            ask,
            [_merge(group, points) for group in told],
            _read_lists,
            attempts=self.attempts,
            seed=derive_seed(seed, "merge"),
        )
        views: dict[TurnKey, tuple[View | None, ...]] = {}
        for group, view in zip(told, merged, strict=True):
            if view is not None:
                views |= {(e.episode_id, index): (view,) for e in group for index in range(len(e.turns))}
        metrics = {
            "failures": float(sum(each is None for each in (*found, *merged))),
            "asked": float(len(chats) + len(told)),
            "groups_with_both_outcomes": float(len(mixed)),
        }
        return Review(views, metrics=metrics)

    def _reflect(self, episode: Trajectory, shown: str) -> Messages:
        request = [
            f"Your task was: {episode.task.instruction}",
            f"Your attempt, which was {outcome(episode)}:\n{shown}",
            f"Name up to {self.points} key points: which decisions led to this outcome, and in which turn. Claim only "
            'what the attempt shows. Answer with one JSON object and nothing around it:\n{"points": ["one sentence"]}',
        ]
        return [{"role": "user", "content": "\n\n".join(request)}]


def _merge(group: Sequence[Trajectory], points: Mapping[str, tuple[str, ...]]) -> Messages:
    parts = [f"The task: {group[0].task.instruction}"]
    for is_success, heading in (
        (True, "Notes on attempts that solved it:"),
        (False, "Notes on attempts that did not:"),
    ):
        notes = [note for e in group if e.success is is_success for note in points.get(e.episode_id, ())]
        parts.append(f"{heading}\n{numbered(notes)}")
    parts.append(
        "Merge the notes into what to do and what to avoid in this task, the most important first, without repeating "
        "yourself. Answer with one JSON object and nothing around it:\n"
        '{"do": ["one sentence"], "avoid": ["one sentence"]}'
    )
    return [{"role": "user", "content": "\n\n".join(parts)}]


def _read_lists(content: Mapping[str, Any]) -> View:
    """Return the view with both lists.

    Raises:
        ValueError: there are no such lists, or both are empty.
    """
    do = list(texts_of(content, "do", most=_MOST_LINES))
    avoid = list(texts_of(content, "avoid", most=_MOST_LINES))
    if not do and not avoid:
        raise ValueError("both lists are empty")
    lists = [f"{heading}\n{numbered(lines)}" for heading, lines in (("Do:", do), ("Avoid:", avoid)) if lines]
    return View(("What earlier attempts at this task have shown:", *lists))
