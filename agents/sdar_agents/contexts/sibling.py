"""Successful sibling: the teacher reads another episode of the group that solved the task.

The context of SDPO (arXiv 2601.20802: a successful solution, behind the task) and of StepOPSD (arXiv 2605.27140: the
first successful peer). An episode is never its own sibling; without another success its turns have no teacher, which is
SDPO's success mask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from sdar_agents.contexts.base import Ask, Groups, Review, TurnKey, View
from sdar_agents.contexts.stateless import Stateless
from sdar_agents.contexts.telling import action_of, numbered, transcript
from sdar_agents.settings.checks import check_settings
from sdar_agents.types import Trajectory

__all__ = ["SuccessfulSibling"]


@dataclass(frozen=True, kw_only=True)
class SuccessfulSibling(Stateless):
    """Another episode of the same task that was solved, in all turns.

    Attributes:
        choose: the first of the group, or the one with the fewest turns.
        observations: show its observations too; otherwise its actions alone.
        only_failed: give unsolved episodes a teacher, and no others.
    """

    least_group: ClassVar[int] = 2
    is_of_task: ClassVar[bool] = True

    choose: Literal["first", "shortest"] = "first"
    observations: bool = False
    only_failed: bool = False

    def __post_init__(self) -> None:
        check_settings(self)

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Return the same view for all turns of an episode."""
        views: dict[TurnKey, tuple[View | None, ...]] = {}
        alone = 0
        for group in groups:
            won = [episode for episode in group if episode.success and episode.turns]
            if self.choose == "shortest":
                won.sort(key=lambda episode: len(episode.turns))
            for episode in group:
                other = next((each for each in won if each is not episode), None)
                if other is None or (self.only_failed and episode.success):
                    alone += 1
                    continue
                view = self._view(other)
                views |= {(episode.episode_id, index): (view,) for index in range(len(episode.turns))}
        return Review(views, metrics={"episodes_without_sibling": float(alone)})

    def _view(self, other: Trajectory) -> View:
        if self.observations:
            return View(("Another attempt at this task succeeded:", transcript(other)))
        actions = numbered([action_of(other, index) for index in range(len(other.turns))])
        return View(("Another attempt at this task succeeded with these actions, in this order:", actions))
