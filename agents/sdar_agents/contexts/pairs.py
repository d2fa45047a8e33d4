"""Sibling pairs of UCOB: the better answer to an observation, under the prompt of the other branch.

UCOB (arXiv 2606.29502) lets a part of each group play with skills in the prompt and the rest without (`skills.mixed`),
and keeps the prompt of the other branch in every turn. Turns of a group that saw exactly the same observation are
compared by their discounted returns to go. The best is the winner. For each of the others whose return is lower by more
than `margin`, at most `most` of them, the widest gaps first, there is an extra row: the winner's answer under that
turn's prompt of the branch in which the winner did not play. Its teacher reads the winner's own prompt, so the
direction of the distillation follows the returns. Extra rows are distilled alone: they have no policy gradient.

The weight of a row is `min(gap / scale, cap)`, and tokens of the command's block count `action_weight` times. With
rewards of 10 one turn's discount reaches the cap already, as in the released code; divide `scale` by the reward's size
for the weight that the paper describes. The released code compares observations of Search-QA as strings here too. Its
skill memory, which the policy writes during training, is left out: skills come from the library.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import ClassVar, NamedTuple

from sdar_agents.contexts.base import Ask, Groups, Review
from sdar_agents.contexts.spans import action_span, returns_to_go
from sdar_agents.contexts.stateless import Stateless
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.types import Row, Trajectory, Turn

__all__ = ["SiblingPairs"]


class _Record(NamedTuple):
    """A well-formed turn: its episode, its number from 0 and its return to go."""

    episode: Trajectory
    number: int
    value: float

    @property
    def turn(self) -> Turn:
        return self.episode.turns[self.number]

    def prompt(self, *, with_skills: bool) -> tuple[int, ...] | None:
        """Return the turn's prompt of a branch; None if it did not fit."""
        return self.turn.prompt_ids if bool(self.turn.skill_ids) == with_skills else self.turn.teacher_prompt_ids


@dataclass(frozen=True)
class SiblingPairs(Stateless):
    """Extra rows with the better answer of two turns at one observation; no views.

    Attributes:
        decode: returns the text of token ids; given by the trainer.
        gamma: discount of the returns to go, per turn.
        margin: smaller differences of returns make no row.
        most: rows for an observation of a group.
        scale: the difference of returns that has weight 1.
        cap: greatest weight.
        action_weight: of the tokens of the command's block, relative to the others.
    """

    needs_both_prompts: ClassVar[bool] = True
    least_group: ClassVar[int] = 2

    decode: Callable[[Sequence[int]], str] = field(repr=False)
    _: KW_ONLY
    gamma: float = setting(0.95, low=0, high=1)
    margin: float = setting(0.05, low=0)
    most: int = setting(2, low=1)
    scale: float = setting(0.2, above=0)
    cap: float = setting(2.0, above=0)
    action_weight: float = setting(2.0, low=0)

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def view_count(self) -> int:
        """No views: extra rows have the teacher."""
        return 0

    def review(self, groups: Groups, ask: Ask, *, step: int, seed: int) -> Review:
        """Return the extra rows of all groups."""
        rows = [row for group in groups for row in self._rows(group)]
        return Review({}, rows, {"pairs": float(len(rows))})

    def _rows(self, group: Sequence[Trajectory]) -> Iterator[Row]:
        at: dict[str, list[_Record]] = {}
        for episode in group:
            values = returns_to_go([turn.reward for turn in episode.turns], self.gamma)
            for index, turn in enumerate(episode.turns):
                if turn.is_well_formed and turn.completion.token_ids:
                    at.setdefault(turn.observation, []).append(_Record(episode, index, values[index]))
        for records in at.values():
            winner = max(records, key=lambda record: record.value)
            others = sorted((r for r in records if r is not winner), key=lambda record: record.value)
            gaps = [(winner.value - other.value, other) for other in others]
            chosen = [(gap, other) for gap, other in gaps if gap > self.margin][: self.most]
            yield from (row for gap, other in chosen if (row := self._row(winner, other, gap)) is not None)

    def _row(self, winner: _Record, other: _Record, gap: float) -> Row | None:
        """Return the winner's answer under the other turn's prompt; None if that prompt did not fit."""
        prompt = other.prompt(with_skills=not winner.turn.skill_ids)
        if prompt is None:
            return None
        completion = winner.turn.completion
        first, last = action_span(completion.token_ids, self.decode)
        count = len(completion.token_ids)
        return Row(
            prompt_ids=prompt,
            response_ids=completion.token_ids,
            group_id=winner.episode.group_id,
            episode_id=f"{winner.episode.episode_id}/{winner.number} for {other.episode.episode_id}/{other.number}",
            turn_index=winner.number,
            episode_return=winner.episode.episode_return,
            is_truncated=completion.stop_reason == "length",
            teacher_prompt_ids=winner.turn.prompt_ids,
            is_trained=False,
            teacher_weight=min(gap / self.scale, self.cap),
            token_weights=tuple(self.action_weight if first <= i < last else 1.0 for i in range(count)),
        )
