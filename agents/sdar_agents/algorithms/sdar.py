"""SDAR: GRPO, and the teacher's word on each token, gated by how far it can be trusted.

    L = L_GRPO + distill_coef agg(g_t d_t)

with the gate g_t of `sdar_gate` and d_t the sampled gap T - S (`distillation_loss`) or a divergence over the whole
vocabulary. With the sampled gap and the detached gate `gap`, the gradient is `-distill_coef agg(g_t grad S_t)`: the
teacher acts through the gate alone, and for small gaps the expected gradient is `distill_coef beta / 4` times that of
KL(student || teacher), 0.0125 at the paper's settings. Compare that number with the coefficient of a method without a
gate.

Source: SDAR (arXiv 2605.15155), Algorithm 1, Proposition 2, section 2.3; verl/trainer/ppo/sdar_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sdar_agents.algorithms.distiller import Distiller, gap_metrics
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import Gate, distillation_loss, sdar_gate
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.logprobs import Divergence, Scores
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.settings.checks import setting
from sdar_envs.errors import InvalidOption

__all__ = ["SDAR", "GRPOWithOPSDBeta0", "OPSDScript"]


@dataclass(frozen=True, kw_only=True)
class SDAR(Distiller):
    """SDAR and its settings.

    Attributes:
        beta: steepness of the gate.
        gate: what opens it: `gap`, `entropy`, `soft_or`, or the last two with entropy as a share of log V (`_clamped`).
        gate_center: subtract 1/2 from the gate.
        gate_detach: no gradient through the gate.
        divergence: what the gate multiplies: `sampled` or one over the whole vocabulary.
        top_k: for `rkl_topk`.
    """

    beta: float = setting(5.0, low=0)
    gate: Gate = "gap"
    gate_center: bool = False
    gate_detach: bool = True
    divergence: Literal["sampled", "rkl_full", "fkl_full", "jsd_full", "rkl_topk"] = "sampled"
    top_k: int = setting(64, low=1)

    @property
    def needs_entropies(self) -> bool:
        """Whether `Scores.entropies` is wanted."""
        return self.gate != "gap" or super().needs_entropies

    @property
    def full_divergence(self) -> Divergence | None:
        """The divergence over the whole vocabulary that is wanted in `Scores.divergences`; None for none."""
        return None if self.divergence == "sampled" else self.divergence

    def _distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        gap = self._part(batch, "teacher_logprobs").detach() - scores.logprobs
        gate = sdar_gate(
            gap,
            self.beta,
            self.gate,
            entropies=self._entropies(scores) if self.gate != "gap" else None,
            log_vocabulary=log_vocabulary,
            center=self.gate_center,
            detach=self.gate_detach,
        )
        distance = gap
        if self.full_divergence is not None:
            if scores.divergences is None:
                raise InvalidOption(
                    f"SDAR with divergence={self.divergence} wants divergences in the scores: call "
                    f"score(..., divergence={self.divergence!r}, teacher=view_teacher(...))."
                )
            distance = scores.divergences
        opening = 0.0 if self.gate_center else 0.5
        metrics = gap_metrics(gap.detach(), batch)
        metrics["distill/gate"] = masked_metric(gate, batch.teacher_mask, spread=True)
        metrics["distill/gate_active"] = masked_metric(gate > opening, batch.teacher_mask)
        if self.full_divergence is not None:
            metrics[f"distill/{self.divergence}"] = masked_metric(distance, batch.teacher_mask)
        return Distillation(distillation_loss(distance, gate), metrics, gap.detach(), gate.detach())


@dataclass(frozen=True, kw_only=True)
class OPSDScript(SDAR):
    """OPSD as the reference's scripts run it: SDAR's loss without the policy gradient.

    The KL to the reference model stays. Rewards play no part.

    Source: examples/opsd_trainer.
    """

    pg_coef: float = setting(0.0, low=0)


@dataclass(frozen=True, kw_only=True)
class GRPOWithOPSDBeta0(SDAR):
    """GRPO+OPSD as the reference's scripts run it, a control: SDAR with beta 0.

    The gate is 1/2 everywhere, so the gradient does not depend on the teacher: on policy its expectation is 0, off
    policy it pulls to the policy of the rollout. Use `grpo_opsd` for what the name says.

    Source: examples/grpo_opsd_trainer; an issue of the reference repository (16) asks about it.
    """

    beta: float = setting(0.0, low=0, high=0)
