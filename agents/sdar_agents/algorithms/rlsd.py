"""RLSD: GRPO whose advantages the teacher shapes token by token, within bounds and with the row's sign.

    A_t = A ((1 - lambda) + lambda clip(exp(sign(A) (T_t - O_t)), 1 - weight_clip, 1 + weight_clip))

lambda falls to 0 over the first `warmdown_steps`; from there on, RLSD is GRPO. Rows without a teacher keep their
advantage.

Source: RLSD (arXiv 2604.03128); verl/trainer/ppo/rlsd_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdar_agents.algorithms.advantages import rlsd_advantages, rlsd_coefficient
from sdar_agents.algorithms.distiller import gap_metrics
from sdar_agents.algorithms.grpo import GRPO, TokenAdvantages
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.settings.checks import setting

__all__ = ["RLSD"]


@dataclass(frozen=True, kw_only=True)
class RLSD(GRPO):
    """RLSD and its settings.

    Attributes:
        shaping_coef: lambda at the start.
        warmdown_steps: lambda reaches 0 at this step; 0 for a constant lambda.
        weight_clip: the most that a token's weight differs from 1.
    """

    needs_teacher: ClassVar[bool] = True

    shaping_coef: float = setting(0.5, low=0, high=1)
    warmdown_steps: int = setting(100, low=0)
    weight_clip: float = setting(0.2, low=0, high=1)

    def _advantages_per_token(self, batch: Batch, step: int) -> TokenAdvantages:
        gap = self._part(batch, "teacher_logprobs") - self._part(batch, "old_logprobs")
        gap = gap.masked_fill(~batch.teacher_mask, 0.0)
        coefficient = rlsd_coefficient(step, coefficient=self.shaping_coef, warmdown_steps=self.warmdown_steps)
        advantages, weights = rlsd_advantages(
            self._part(batch, "advantages"), gap, coefficient=coefficient, clip=self.weight_clip
        )
        metrics = gap_metrics(gap, batch)
        metrics["distill/weight"] = masked_metric(weights, batch.teacher_mask, spread=True)
        metrics["distill/shaping_coef"] = masked_metric(weights.new_full(weights.shape, coefficient), batch.mask)
        return TokenAdvantages(advantages, metrics, gap)
