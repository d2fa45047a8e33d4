"""Negative controls: what the teacher reads is wrong, empty or about something else, and all else stays the same.

A method that gains as much under a control as it does without it gains from something else than the context. Controls
of the loss (`permuted-weights`, `no-sign`, `teacher-is-student`) are in `sdar_agents.algorithms`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from sdar_agents.contexts.base import Ask, Context, Groups, Review, TurnKey, View, Views
from sdar_skills.library.budget import TokenCounter
from sdar_skills.retrieval.controls import neutral_text

__all__ = ["ContextControl", "ControlledContext"]

ContextControl = Literal["wrong-skills", "empty-skills", "neutral-text"]
"""`wrong-skills`: the context of another task. `empty-skills`: the paragraph that introduces the context, alone.
`neutral-text`: a text on something else, as many tokens long."""


class ControlledContext:
    """Context after play whose views are replaced, each by one of the same kind and weight.

    For `wrong-skills` an episode gets the views of the next group with another task, member by member and turn by turn;
    where that has none for a turn, there is no teacher.

    Args:
        context: makes the views.
        control: see `ContextControl`.
        count_tokens: counts the tokens of a text.
    """

    def __init__(self, context: Context, control: ContextControl, *, count_tokens: TokenCounter) -> None:
        self._context = context
        self._control = control
        self._count_tokens = count_tokens

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Return the context's review with other views."""
        review = self._context.review(groups, ask, step=step, seed=seed)
        if self._control == "wrong-skills":
            return review._replace(views=_of_other_tasks(review.views, groups))
        views = {turn: tuple(view and self._changed(view) for view in found) for turn, found in review.views.items()}
        return review._replace(views=views)

    def state_dict(self) -> Mapping[str, Any]:
        """Return the state of the context."""
        return self._context.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the context."""
        self._context.load_state_dict(state)

    def _changed(self, view: View) -> View:
        heading = view.paragraphs[: len(view.paragraphs) > 1]
        if self._control == "empty-skills":
            return view._replace(paragraphs=heading)
        tokens = self._count_tokens("\n\n".join(view.paragraphs[len(heading) :]))
        return view._replace(paragraphs=(*heading, neutral_text(tokens, self._count_tokens)))


def _of_other_tasks(views: Views, groups: Groups) -> Views:
    """Return views of the same turns, taken from the next group with another task that has some."""
    filled = [
        [episode for episode in group if any((episode.episode_id, i) in views for i in range(len(episode.turns)))]
        for group in groups
    ]
    changed: dict[TurnKey, tuple[View | None, ...]] = {}
    for place, group in enumerate(groups):
        following = [*range(place + 1, len(groups)), *range(place)]
        donors = next((filled[i] for i in following if filled[i] and filled[i][0].task.id != group[0].task.id), [])
        for member, episode in enumerate(group if donors else ()):
            donor = donors[member % len(donors)]
            for index in range(len(episode.turns)):
                last = (donor.episode_id, min(index, len(donor.turns) - 1))
                if (episode.episode_id, index) in views and last in views:
                    changed[episode.episode_id, index] = views[last]
    return changed
