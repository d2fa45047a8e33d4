"""SDPO: self-distillation from a teacher that reads a successful attempt, in place of the policy gradient.

    L = distill_coef agg(min(exp(S - O), ratio_clip) d_t) over the rows whose group has another success

d_t is a divergence between the distributions of student and teacher over k tokens and one rest cell: Jensen-Shannon
(`jsd_topk`, alpha 1/2), the reverse KL (`rkl_topk`, alpha 1) or the forward KL (`fkl_topk`, alpha 0). The importance
weight has no gradient. Rows without a teacher, and with `success_mask` those of groups in which no other episode
succeeds, take no part: the mean is over the others. With `pg_coef` above 0 it is the paper's mixture of both.

Source: SDPO (arXiv 2601.20802), from its released code: top 100 of the student and a rest, importance weights up to 2,
teacher an average of the policy (`learner.teacher: ema`, decay 0.95). Its trust-region teacher is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sdar_agents.algorithms.distiller import Distiller
from sdar_agents.algorithms.gap import gap
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import importance_weight
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.settings.checks import setting
from sdar_agents.types import Row

__all__ = ["SDPO"]


@dataclass(frozen=True, kw_only=True)
class SDPO(Distiller):
    """SDPO: a divergence from a teacher that reads a successful attempt; rewards choose the rows alone.

    Attributes:
        pg_coef: factor of the policy gradient.
        distill_coef: factor of the divergence.
        divergence: `jsd_topk`, `rkl_topk` or `fkl_topk`.
        top_k: tokens that are told apart.
        ratio_clip: cap of the importance weight; null for no weight.
        success_mask: leave out the rows of groups without another successful episode.
    """

    pg_coef: float = setting(0.0, low=0)
    distill_coef: float = setting(1.0, low=0)
    divergence: Literal["jsd_topk", "rkl_topk", "fkl_topk"] = "jsd_topk"
    top_k: int = setting(100, low=1)
    ratio_clip: float | None = setting(2.0, low=1)
    success_mask: bool = True

    def scoring_options(self, base: ScoringOptions) -> ScoringOptions:
        """Return the scoring options with the divergence switched on."""
        return replace(super().scoring_options(base), divergence=self.divergence, top_k=self.top_k)

    def prepare_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows, without a teacher where no other episode of the group succeeds."""
        if not self.success_mask:
            return rows
        solved: dict[str, set[str]] = {}
        for row in rows:
            if row.is_success:
                solved.setdefault(row.group_id, set()).add(row.episode_id)
        return [
            row
            if row.teacher_prompt_ids is None or solved.get(row.group_id, set()) - {row.episode_id}
            else replace(row, teacher_prompt_ids=None)
            for row in rows
        ]

    def distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        """Return the weighted divergence."""
        distances = self._divergences(scores, self.divergence)
        metrics = {f"distill/{self.divergence}": masked_metric(distances, batch.teacher_mask)}
        losses = distances * batch.teacher_scale
        if self.ratio_clip is not None:
            ratio = importance_weight(scores.logprobs, batch.part("old_logprobs"), self.ratio_clip)
            metrics["distill/ratio"] = masked_metric(ratio, batch.teacher_mask)
            losses = losses * ratio
        return Distillation(losses, self.distill_coef, gap(batch, scores), metrics=metrics)
