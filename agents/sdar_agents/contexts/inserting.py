"""Teacher prompts from views: paragraphs inserted into the turns' own prompts, within a token limit.

Nothing is cut. A prompt that is too long loses history, oldest turn first. Where the view does not fit without history,
the turn has no teacher, and is counted: half a view would be another context.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sdar_agents.contexts.base import Review, TurnKey, View
from sdar_agents.engines.policy import Policy
from sdar_agents.types import Trajectory
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import PromptParts
from sdar_skills.context import ContextTooLong

__all__ = ["TeacherPrompts", "fit_view", "insert_views"]


class TeacherPrompts(NamedTuple):
    """The teacher's prompts of a turn, as token ids.

    Attributes:
        first: of the first teacher.
        more: of the others; None where one has no view in this turn.
        weight: of the turn in the distillation.
    """

    first: tuple[int, ...]
    more: tuple[tuple[int, ...] | None, ...]
    weight: float


def insert_views(
    review: Review,
    trajectories: Sequence[Trajectory],
    policy: Policy,
    *,
    view_count: int,
    max_tokens: int | None,
    read_views: int | None = None,
) -> tuple[dict[TurnKey, TeacherPrompts], dict[str, float]]:
    """Return the teacher's prompts of the turns that have a view, and metrics.

    Metrics: `views` (turns with a teacher), `missing` (turns without), `misfits` (views that did not fit),
    `shrunk_prompts`, `dropped_turns` (of history, in these), `prompt_tokens`.

    Args:
        review: of these episodes.
        trajectories: with the parts of their prompts.
        policy: renders and encodes.
        view_count: views of a turn, at most.
        max_tokens: limit of a teacher's prompt; None for none.
        read_views: only so many are made into prompts; None for all.

    Raises:
        InvalidOption: the review is not what a context returns.
        ContextTooLong: not one view fits.
    """
    turns = {(t.episode_id, index): turn.parts for t in trajectories for index, turn in enumerate(t.turns)}
    _check(review, turns, view_count)
    counts: Counter[str] = Counter()
    prompts: dict[TurnKey, TeacherPrompts] = {}
    for key, views in review.views.items():
        parts = turns[key]
        assert parts is not None
        first, *others = [
            None if view is None else _fitted(parts, view, policy, max_tokens, counts) for view in views[:read_views]
        ]
        if first is not None and views[0] is not None:
            prompts[key] = TeacherPrompts(first, tuple(others), views[0].weight)
            counts["prompt_tokens"] += sum(len(ids) for ids in (first, *others) if ids is not None)
    _report_misfits(counts, len(prompts), max_tokens)
    names = ("misfits", "shrunk_prompts", "dropped_turns", "prompt_tokens")
    metrics = {"views": float(len(prompts)), "missing": float(len(turns) - len(prompts))}
    return prompts, metrics | {name: float(counts[name]) for name in names}


def fit_view(
    parts: PromptParts, view: View, policy: Policy, limit: int | None
) -> tuple[list[dict[str, str]], tuple[int, ...], int] | None:
    """Return a prompt with a view and as much history as fits: messages, token ids, and the number of dropped turns.

    Args:
        parts: the prompt without the view.
        view: what is inserted.
        policy: renders and encodes.
        limit: of the prompt in tokens; None for none.

    Returns:
        None if the view does not fit without any history.
    """
    for shown in range(parts.shown_turns, -1, -1):
        messages = replace(parts, history_length=shown).messages(view.paragraphs, view.after)
        ids = policy.encode(policy.render(messages))
        if limit is None or len(ids) <= limit:
            return messages, ids, parts.shown_turns - shown
    return None


def _fitted(
    parts: PromptParts, view: View, policy: Policy, limit: int | None, counts: Counter[str]
) -> tuple[int, ...] | None:
    """Return the token ids of `fit_view`, counted."""
    found = fit_view(parts, view, policy, limit)
    if found is None:
        counts["misfits"] += 1
        return None
    _, ids, dropped = found
    counts["shrunk_prompts"] += dropped > 0
    counts["dropped_turns"] += dropped
    return ids


def _report_misfits(counts: Counter[str], inserted: int, limit: int | None) -> None:
    if not counts["misfits"]:
        return
    message = (
        f"{counts['misfits']} contexts do not fit into a teacher's prompt of {limit} tokens: raise "
        "context.max_prompt_tokens, or choose a shorter context."
    )
    if not inserted:
        raise ContextTooLong(message)
    warnings.warn(f"{message} These turns have no teacher.", RuntimeWarning, stacklevel=3)


def _check(review: Review, turns: Mapping[TurnKey, PromptParts | None], view_count: int) -> None:
    """Refuse what is no review of these turns.

    Raises:
        InvalidOption: the message says what a context has to return.
    """
    for key, views in review.views.items():
        if key not in turns:
            raise InvalidOption(
                f"the context has views of {key!r:.80}, which is no turn of this step; wanted (episode_id, index of "
                "the turn from 0)."
            )
        if not isinstance(views, tuple) or isinstance(views, View) or not 1 <= len(views) <= view_count:
            raise InvalidOption(
                f"the context has {views!r:.80} for {key}; wanted a tuple of 1 to {view_count} views (view_count)."
            )
        for view in views:
            if view is not None and not _is_view(view):
                raise InvalidOption(
                    f"the context has {view!r:.80} for {key}; wanted None or a View: a tuple of texts, after 'task' or "
                    "'history', with a weight from 0."
                )


def _is_view(view: object) -> bool:
    return (
        isinstance(view, View)
        and isinstance(view.paragraphs, tuple)
        and all(isinstance(text, str) for text in view.paragraphs)
        and view.after in ("task", "history")
        and math.isfinite(view.weight)
        and view.weight >= 0
    )
