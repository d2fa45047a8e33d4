"""What the methods with a teacher share: the gap between teacher and student, its metrics, one more coefficient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.metrics import Metric, masked_metric
from sdar_agents.settings.checks import setting

__all__ = ["Distiller", "gap_metrics"]


@dataclass(frozen=True, kw_only=True)
class Distiller(GRPO):
    """GRPO with a term that pulls the student to the teacher: `L = L_GRPO + distill_coef agg(term)`.

    Rows without a teacher take no part in the term; the weights of the others are what they would be with it.

    Attributes:
        distill_coef: factor of the term.
    """

    needs_teacher: ClassVar[bool] = True

    distill_coef: float = setting(0.01, low=0)

    def _distillation_coefficient(self) -> float:
        return self.distill_coef


def gap_metrics(gap: Tensor, batch: Batch) -> dict[str, Metric]:
    """Return what to know about the gap `(B, L)`: mean and spread, the share above 0 and the share of exactly 0.

    A gap of exactly 0 on many tokens says that teacher and student read the same prompt.
    """
    mask = batch.teacher_mask
    return {
        "distill/gap": masked_metric(gap, mask, spread=True),
        "distill/gap_positive": masked_metric(gap > 0, mask),
        "distill/gap_zero": masked_metric(gap == 0, mask),
        "distill/has_teacher": masked_metric(mask, batch.mask),
    }
