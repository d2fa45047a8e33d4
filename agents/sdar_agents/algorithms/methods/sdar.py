"""SDAR: GRPO with gated token-level self-distillation.

    L = L_GRPO + distill_coef agg(g_t d_t)

with the gate g_t of `sdar_gate` and d_t the sampled gap T - S (`distillation_loss`) or a divergence over the full
vocabulary. With the sampled gap and the detached gate `gap`, the gradient is `-distill_coef agg(g_t grad S_t)`: the
teacher enters through the gate alone, and for small gaps the expected gradient is `distill_coef beta / 4` times that of
KL(student || teacher), 0.0125 at the paper's settings. Compare that number with the coefficient of a method without a
gate.

Source: SDAR (arXiv 2605.15155), Algorithm 1, Proposition 2, section 2.3; verl/trainer/ppo/sdar_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sdar_agents.algorithms.distiller import Distiller
from sdar_agents.algorithms.gap import gap
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import Gate, distillation_loss, sdar_gate
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.settings.checks import setting

__all__ = ["SDAR", "GRPOWithOPSDBeta0", "OPSDScript"]


@dataclass(frozen=True, kw_only=True)
class SDAR(Distiller):
    """SDAR: GRPO with gated token-level self-distillation.

    Attributes:
        beta: steepness of the gate.
        gate: the gate's signal: `gap`, `entropy`, `soft_or`, or the last two with entropy as a share of log V
            (`_clamped`).
        gate_center: subtract 1/2 from the gate.
        gate_detach: no gradient through the gate.
        divergence: what the gate multiplies: `sampled` or one over the full vocabulary.
        top_k: for `_topk`.
    """

    beta: float = setting(5.0, low=0)
    gate: Gate = "gap"
    gate_center: bool = False
    gate_detach: bool = True
    divergence: Literal["sampled", "rkl_full", "fkl_full", "jsd_full", "rkl_topk", "fkl_topk", "jsd_topk"] = "sampled"
    top_k: int = setting(64, low=1)

    def scoring_options(self, base: ScoringOptions) -> ScoringOptions:
        """Return the scoring options with the entropies of the gate and the full divergence switched on."""
        options = super().scoring_options(base)
        return replace(
            options,
            entropies=options.entropies or self.gate != "gap",
            divergence=None if self.divergence == "sampled" else self.divergence,
            top_k=self.top_k,
        )

    def distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        """Return the gated gap or divergence."""
        current = gap(batch, scores)
        gate = sdar_gate(
            current,
            self.beta,
            self.gate,
            entropies=self._entropies(scores) if self.gate != "gap" else None,
            log_vocabulary=log_vocabulary,
            center=self.gate_center,
            detach=self.gate_detach,
        )
        opening = 0.0 if self.gate_center else 0.5
        metrics = {
            "distill/gate": masked_metric(gate, batch.teacher_mask, spread=True),
            "distill/gate_active": masked_metric(gate > opening, batch.teacher_mask),
        }
        distance = current
        if self.divergence != "sampled":
            distance = self._divergences(scores, self.divergence)
            metrics[f"distill/{self.divergence}"] = masked_metric(distance, batch.teacher_mask)
        return Distillation(distillation_loss(distance, gate), self.distill_coef, current, gate, metrics)


@dataclass(frozen=True, kw_only=True)
class OPSDScript(SDAR):
    """OPSD as the reference's scripts run it: SDAR's loss without the policy gradient.

    The KL penalty to the reference policy stays. Rewards are not used.

    Source: examples/opsd_trainer.
    """

    pg_coef: float = setting(0.0, low=0)


@dataclass(frozen=True, kw_only=True)
class GRPOWithOPSDBeta0(SDAR):
    """GRPO+OPSD as the reference's scripts run it, a control: SDAR with beta 0.

    The gate is 1/2 everywhere, so the gradient does not depend on the teacher: on policy its expectation is 0, off
    policy it pulls to the policy of the rollout. `grpo_opsd` is GRPO with on-policy self-distillation.

    Source: examples/grpo_opsd_trainer; an issue of the reference repository (16) asks about it.
    """

    beta: float = setting(0.0, low=0, high=0)
