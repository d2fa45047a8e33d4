"""GRSD: GRPO whose advantages are scaled by how much a teacher with the group's reflection agrees with each turn.

    d = mean over the turn's tokens of T - O        q = sign(A) d        u = expm1(clip(q, -20, 20))
    n = u / (mean |u| over the group's turns + 1e-6)    g = clip(n, -g_max, g_max), 0 where |n| <= dead_zone
    A' = A max(1 + lambda g, 0.1)

The teacher reads what the group's successes and failures have taught (`context: reflection`). Groups whose episodes all
succeed, or all fail, have nothing to compare: with `mixed_groups` their rows have no teacher and keep their advantage.
Because n is scaled by its group, at g_max 0.2 it is at a bound for most turns, whatever the size of the gaps: the
factor is close to 1 -+ 0.1.

Source: GRSD (arXiv 2607.28076), from its released code (grsd_utils.py). Where we differ: g_max is 0.2 as in the README
and the scripts, 3.0 is the code's default. Reflections that are trained come as rows with a given advantage, in the
summed loss as the paper has it, not in an optimiser step of their own. `granularity: token` without `scale_by_group` is
RLSD with `weight_clip = g_max`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sdar_agents.algorithms.advantages import members_of
from sdar_agents.algorithms.algorithm import TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.algorithms.schedules import warmed_down
from sdar_agents.algorithms.shaping import shape, shaping_metrics
from sdar_agents.scoring.batch import Batch
from sdar_agents.settings.checks import setting
from sdar_agents.types import Row

__all__ = ["GRSD", "relative_agreement"]

_LEAST_FACTOR = 0.1


@dataclass(frozen=True, kw_only=True)
class GRSD(GRPO):
    """GRSD: GRPO with advantages scaled by the teacher's agreement, relative to the group.

    Attributes:
        shaping_coef: lambda at the start.
        warmdown_steps: lambda reaches 0 at this step; 0 for a constant lambda.
        g_max: bound of g.
        dead_zone: n of this size or less counts as 0.
        granularity: `turn`, or `token` with d of each token.
        scale_by_group: divide u by its mean size in the group.
        mixed_groups: only groups with successes and failures have a teacher.
    """

    needs_teacher: ClassVar[bool] = True
    shapes_advantages: ClassVar[bool] = True

    shaping_coef: float = setting(0.5, low=0, high=1)
    warmdown_steps: int = setting(0, low=0)
    g_max: float = setting(0.2, above=0)
    dead_zone: float = setting(0.0, low=0)
    granularity: Literal["turn", "token"] = "turn"
    scale_by_group: bool = True
    mixed_groups: bool = True

    @property
    def needs_turns(self) -> bool:
        """Whether the agreement is that of a turn."""
        return self.granularity == "turn"

    def declarations(self) -> Declarations:
        """Return that the sign is kept and factors are within bounds."""
        size = self.shaping_coef * self.g_max
        return Declarations(off={"shaping_coef": 0.0}, base=GRPO, bounds=(max(1.0 - size, _LEAST_FACTOR), 1.0 + size))

    def prepare_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows, without a teacher in groups whose episodes all have the same outcome."""
        if not self.mixed_groups:
            return rows
        outcomes: dict[str, set[bool]] = {}
        for row in rows:
            if row.is_trained and row.given_advantage is None:
                outcomes.setdefault(row.group_id, set()).add(row.is_success)
        return [
            row
            if row.teacher_prompt_ids is None or len(outcomes.get(row.group_id, ())) == 2
            else replace(row, teacher_prompt_ids=None)
            for row in rows
        ]

    def shape_advantages(self, advantages: Tensor, rows: Sequence[Row], batch: Batch, step: int) -> TokenAdvantages:
        """Return the advantages `(B, L)`, scaled by the teacher's agreement."""
        mask = batch.teacher_mask & batch.policy_mask
        gaps = (batch.part("teacher_logprobs") - batch.part("old_logprobs")).double().masked_fill(~mask, 0.0)
        values, valid = gaps, mask
        if self.granularity == "turn":
            values = gaps.sum(dim=1, keepdim=True) / mask.sum(dim=1, keepdim=True).clamp(min=1)
            valid = mask.any(dim=1, keepdim=True)
        signed = advantages.sign()[:, None].double() * values
        agreement = relative_agreement(signed, valid, batch.group_index if self.scale_by_group else None)
        agreement = agreement.masked_fill(agreement.abs() <= self.dead_zone, 0.0)
        coefficient = warmed_down(self.shaping_coef, step, self.warmdown_steps)
        shaped, weights = shape(
            advantages,
            agreement.expand_as(gaps).masked_fill(~mask, 0.0).float(),
            coefficient=coefficient,
            curve="linear",
            clip=self.g_max,
            is_signed=True,
            least=_LEAST_FACTOR,
        )
        metrics = shaping_metrics(weights, mask, batch.mask, coefficient)
        return TokenAdvantages(shaped, metrics=metrics)


def relative_agreement(signed: Tensor, valid: Tensor, group_index: Tensor | None) -> Tensor:
    """Agreement `n = u / (mean |u| + 1e-6)` with `u = expm1(q)`, the mean over the valid values of the group.

    Args:
        signed: `(B, K)`, q = sign(A) d; K is 1 for turns.
        valid: `(B, K)` bool; 0 elsewhere.
        group_index: `(B,)`; None for u itself.

    Returns:
        `(B, K)`.
    """
    values = torch.expm1(signed.clamp(-20.0, 20.0)).masked_fill(~valid, 0.0)
    if group_index is None:
        return values
    scaled = torch.zeros_like(values)
    for members in members_of(group_index):
        count = valid[members].sum().clamp(min=1)
        scaled[members] = values[members] / (values[members].abs().sum() / count + 1e-6)
    return scaled
