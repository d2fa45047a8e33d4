"""Skill-SD: GRPO with the importance-weighted reverse KL to the teacher.

    L = L_GRPO + distill_coef agg(rho_t k3_t)

The term's expected gradient is exactly that of KL(student || teacher) (`skill_sd_loss`). SDAR's at its defaults is that
times 0.0125, twelve times this method's published coefficient of 0.001: compare at equal weight.

Source: Skill-SD (arXiv 2604.10674); verl/trainer/ppo/skillsd_utils.py. The reference's warm-down never reached its
actor and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdar_agents.algorithms.distiller import Distiller
from sdar_agents.algorithms.gap import gap
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import skill_sd_loss
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.settings.checks import setting

__all__ = ["SkillSD"]


@dataclass(frozen=True, kw_only=True)
class SkillSD(Distiller):
    """Skill-SD: GRPO with the importance-weighted reverse KL to the teacher.

    Attributes:
        distill_coef: factor of the term.
    """

    distill_coef: float = setting(0.001, low=0)

    def distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        """Return the importance-weighted k3 of student and teacher."""
        current = gap(batch, scores)
        losses = skill_sd_loss(scores.logprobs, batch.part("old_logprobs"), current)
        return Distillation(losses, self.distill_coef, current)
