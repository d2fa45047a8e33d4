"""Skill-SD: GRPO, and the importance-weighted reverse KL to the teacher.

    L = L_GRPO + distill_coef agg(rho_t k3_t)

The term's expected gradient is exactly that of KL(student || teacher) (`skill_sd_loss`). SDAR's at its defaults is that
times 0.0125, twelve times this method's published coefficient of 0.001: compare at equal weight.

Source: Skill-SD (arXiv 2604.10674); verl/trainer/ppo/skillsd_utils.py. The reference's warm-down never reached its
actor and is left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdar_agents.algorithms.distiller import Distiller, gap_metrics
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import skill_sd_loss
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.logprobs import Scores
from sdar_agents.settings.checks import setting

__all__ = ["SkillSD"]


@dataclass(frozen=True, kw_only=True)
class SkillSD(Distiller):
    """Skill-SD and its settings.

    Attributes:
        distill_coef: factor of the term.
    """

    distill_coef: float = setting(0.001, low=0)

    def _distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        teacher = self._part(batch, "teacher_logprobs")
        gap = (teacher - scores.logprobs).detach()
        losses = skill_sd_loss(scores.logprobs, self._part(batch, "old_logprobs"), teacher)
        return Distillation(losses, gap_metrics(gap, batch), gap)
