"""On-policy self-distillation (OPSD): the sampled reverse KL to the teacher, as a policy gradient.

    OPSD        L = distill_coef agg(-sg(D_t) S_t) + kl_coef agg(KL estimate)
    GRPO+OPSD   L = L_GRPO + distill_coef agg(-sg(D_t) S_t)

On policy the expected gradient of the term is that of KL(student || teacher). The reference's released losses
(`opsd_script`, `grpo_opsd_beta0`) have beta/4 of it for small gaps, or none.

Source: on-policy distillation as in `reverse_kl_loss`; coefficients of SDAR (arXiv 2605.15155), appendix C.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdar_agents.algorithms.distiller import Distiller
from sdar_agents.algorithms.gap import gap
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import reverse_kl_loss
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.settings.checks import setting

__all__ = ["OPSD", "GRPOWithOPSD"]


@dataclass(frozen=True, kw_only=True)
class GRPOWithOPSD(Distiller):
    """GRPO with the sampled reverse KL to the teacher."""

    def distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        """Return the sampled reverse KL as a policy gradient."""
        current = gap(batch, scores)
        return Distillation(reverse_kl_loss(scores.logprobs, current), self.distill_coef, current)


@dataclass(frozen=True, kw_only=True)
class OPSD(GRPOWithOPSD):
    """The sampled reverse KL alone, with the KL penalty to the reference policy; rewards are not used."""

    pg_coef: float = setting(0.0, low=0)
