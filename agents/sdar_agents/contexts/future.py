"""Own future observations: the teacher reads what the episode showed after the turn.

The context of OCSD (arXiv 2608.04788): a first view with the observations that followed, and a second with the same
scaffold in which they are blanked, so that the difference of the two gaps is what the observations say and not what the
scaffold does. With one turn and one view it is SERL's next observation (arXiv 2605.19447). OCSD's own text of the
scaffold was not published; this one is ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdar_agents.contexts.base import Ask, Groups, Review, TurnKey, View
from sdar_agents.contexts.stateless import Stateless
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.types import Trajectory

__all__ = ["BlankedFuture", "FutureObservations"]

_BLANK = "(not shown)"


@dataclass(frozen=True, kw_only=True)
class FutureObservations(Stateless):
    """The observations that followed a turn in its own episode, behind the history.

    Attributes:
        turns: how many of them; null for all to the end.
    """

    turns: int | None = setting(3, low=1)

    def __post_init__(self) -> None:
        check_settings(self)

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Return a view for each turn that something followed."""
        views: dict[TurnKey, tuple[View | None, ...]] = {}
        for episode in (episode for group in groups for episode in group):
            for index in range(len(episode.turns)):
                following = self._following(episode, index)
                if following:
                    views[episode.episode_id, index] = self._views(index, following)
        return Review(views)

    def _following(self, episode: Trajectory, index: int) -> list[str]:
        later = [turn.observation for turn in episode.turns[index + 1 :]]
        if episode.final_observation:
            later.append(episode.final_observation)
        return later[: self.turns]

    def _views(self, index: int, following: list[str]) -> tuple[View, ...]:
        return (_view(index, following),)


@dataclass(frozen=True, kw_only=True)
class BlankedFuture(FutureObservations):
    """Two views: the observations that followed, and the same text with each of them blanked."""

    @property
    def view_count(self) -> int:
        """Views of a turn."""
        return 2

    def _views(self, index: int, following: list[str]) -> tuple[View, ...]:
        return _view(index, following), _view(index, [_BLANK] * len(following))


def _view(index: int, following: list[str]) -> View:
    shown = [f"After turn {number}: {text}" for number, text in enumerate(following, index + 1)]
    heading = f"What this attempt will show after turn {index + 1}, the one that is to be answered now:"
    return View((heading, *shown), after="history")
