"""OCSD: GRPO whose advantages follow what future observations tell about a token, on the most uncertain turns.

The teacher reads two prompts: one with the episode's own future observations, and the same scaffold with them blanked.

    e_t = T_t(full) - T_t(blank)        A_t = A (1 + lambda sign(A) tanh(e_t))

on the share `turn_share` of turns with the highest mean negative log-likelihood under the policy of the rollout; other
turns keep A. The blanked view takes away what the scaffold alone changes.

Source: OCSD (arXiv 2608.04788), from a summary of the paper; no code was released. The share is taken of the turns of a
step that have both views.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sdar_agents.algorithms.algorithm import TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.algorithms.schedules import warmed_down
from sdar_agents.algorithms.shaping import shape, shaping_metrics
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.settings.checks import setting
from sdar_agents.types import Row

__all__ = ["OCSD"]


@dataclass(frozen=True, kw_only=True)
class OCSD(GRPO):
    """OCSD: GRPO with advantages that follow the difference between two views of the teacher.

    Attributes:
        shaping_coef: lambda at the start.
        warmdown_steps: lambda reaches 0 at this step; 0 for a constant lambda.
        turn_share: the share of turns that are shaped, the most uncertain ones.
    """

    needs_teacher: ClassVar[bool] = True
    shapes_advantages: ClassVar[bool] = True
    teacher_views: ClassVar[int] = 2

    shaping_coef: float = setting(0.5, low=0, high=1)
    warmdown_steps: int = setting(0, low=0)
    turn_share: float = setting(0.2, above=0, high=1)

    @property
    def needs_turns(self) -> bool:
        """True: the most uncertain turns are shaped."""
        return True

    def declarations(self) -> Declarations:
        """Return that the sign is kept and factors are within bounds."""
        return Declarations(
            off={"shaping_coef": 0.0}, base=GRPO, bounds=(1.0 - self.shaping_coef, 1.0 + self.shaping_coef)
        )

    def shape_advantages(self, advantages: Tensor, rows: Sequence[Row], batch: Batch, step: int) -> TokenAdvantages:
        """Return the advantages `(B, L)`, reweighted on the most uncertain turns."""
        full, old = batch.part("teacher_logprobs"), batch.part("old_logprobs")
        signal = torch.zeros_like(full)
        mask = torch.zeros_like(batch.mask)
        if batch.more_teachers:
            mask = batch.teacher_mask & batch.more_teachers[0].is_there[:, None]
            mask &= most_uncertain(old, mask, self.turn_share)[:, None]
            signal = (full - batch.more_teachers[0].scored()).masked_fill(~mask, 0.0)
        coefficient = warmed_down(self.shaping_coef, step, self.warmdown_steps)
        shaped, weights = shape(advantages, signal, coefficient=coefficient, curve="tanh", clip=None)
        metrics = shaping_metrics(weights, mask, batch.mask, coefficient)
        metrics["distill/view_difference"] = masked_metric(signal, mask, spread=True)
        return TokenAdvantages(shaped, metrics=metrics)


def most_uncertain(logprobs: Tensor, mask: Tensor, share: float) -> Tensor:
    """Return which rows `(B,)` are the share with the highest mean negative log-likelihood; of those with tokens.

    Args:
        logprobs: `(B, L)`, of the policy of the rollout.
        mask: `(B, L)` bool.
        share: above 0, up to 1; rounded up to whole rows.
    """
    counts = mask.sum(dim=1)
    losses = -logprobs.double().masked_fill(~mask, 0.0).sum(dim=1) / counts.clamp(min=1)
    there = counts > 0
    chosen = torch.zeros_like(there)
    order = losses.masked_fill(~there, -math.inf).argsort(descending=True, stable=True)
    chosen[order[: math.ceil(share * int(there.sum()))]] = True
    return chosen
