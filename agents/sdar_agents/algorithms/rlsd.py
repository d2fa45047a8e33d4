"""RLSD: GRPO whose advantages the teacher reweights token by token, within bounds and with the row's sign.

    A_t = A ((1 - lambda) + lambda clip(exp(sign(A) (T_t - O_t)), 1 - weight_clip, 1 + weight_clip))

lambda falls to 0 over the first `warmdown_steps`; from then on, RLSD is GRPO. Rows without a teacher keep their
advantage.

Source: RLSD (arXiv 2604.03128); verl/trainer/ppo/rlsd_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdar_agents.algorithms.advantages import rlsd_advantages, rlsd_coefficient
from sdar_agents.algorithms.gap import gap
from sdar_agents.algorithms.grpo import GRPO, TokenAdvantages
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.settings.checks import setting

__all__ = ["RLSD"]


@dataclass(frozen=True, kw_only=True)
class RLSD(GRPO):
    """RLSD: GRPO with advantages that the teacher reweights token by token.

    Attributes:
        shaping_coef: lambda at the start.
        warmdown_steps: lambda reaches 0 at this step; 0 for a constant lambda.
        weight_clip: the most that a token's weight differs from 1.
    """

    needs_teacher: ClassVar[bool] = True

    shaping_coef: float = setting(0.5, low=0, high=1)
    warmdown_steps: int = setting(100, low=0)
    weight_clip: float = setting(0.2, low=0, high=1)

    def token_advantages(self, batch: Batch, scores: Scores, step: int) -> TokenAdvantages:
        """Return the advantages per token, reweighted by the gap to the policy of the rollout."""
        old_gap = gap(batch, scores, "old").masked_fill(~batch.teacher_mask, 0.0)
        coefficient = rlsd_coefficient(step, coefficient=self.shaping_coef, warmdown_steps=self.warmdown_steps)
        advantages, weights = rlsd_advantages(
            batch.part("advantages"), old_gap, coefficient=coefficient, clip=self.weight_clip
        )
        metrics = {
            "distill/weight": masked_metric(weights, batch.teacher_mask, spread=True),
            "distill/shaping_coef": masked_metric(weights.new_full(weights.shape, coefficient), batch.mask),
        }
        return TokenAdvantages(advantages, old_gap, metrics)
