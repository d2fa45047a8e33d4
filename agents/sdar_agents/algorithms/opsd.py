"""On-policy self-distillation: the sampled reverse KL to the teacher, as a policy gradient.

    OPSD        L = distill_coef agg(-sg(D_t) S_t) + kl_coef agg(KL estimate)
    GRPO+OPSD   L = L_GRPO + distill_coef agg(-sg(D_t) S_t)

On policy the expected gradient of the term is that of KL(student || teacher), where the reference's released loss
(`opsd_script`, `grpo_opsd_beta0`) has beta/4 of it for small gaps, or none.

Source: on-policy distillation as in `reverse_kl_loss`; coefficients of SDAR (arXiv 2605.15155), appendix C.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdar_agents.algorithms.distiller import Distiller, gap_metrics
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import reverse_kl_loss
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.logprobs import Scores
from sdar_agents.settings.checks import setting

__all__ = ["OPSD", "GRPOWithOPSD"]


@dataclass(frozen=True, kw_only=True)
class GRPOWithOPSD(Distiller):
    """GRPO and the sampled reverse KL to the teacher."""

    def _distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        teacher = self._part(batch, "teacher_logprobs")
        gap = (teacher - scores.logprobs).detach()
        return Distillation(reverse_kl_loss(scores.logprobs, teacher), gap_metrics(gap, batch), gap)


@dataclass(frozen=True, kw_only=True)
class OPSD(GRPOWithOPSD):
    """The sampled reverse KL alone, with the KL to the reference model; rewards play no part."""

    pg_coef: float = setting(0.0, low=0)
