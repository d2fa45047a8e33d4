"""UCOB: GiGPO, and a gated forward KL on rows that carry the better branch's response to the other branch's prompt.

Half of a group plays with skills, half without. Where both visit one state, the response of the better return is given
as an extra row under the opposite prompt of the other one (`Row.is_trained` False, the winner's prompt as teacher's):

    L = L_GiGPO + distill_coef mean(w g_t KL(q_K || p_K))    g_t = sigmoid(beta (log q - log p)(y_t)), no gradient

over the tokens of the extra rows, with q the distribution under the winner's prompt and p that under the row's own,
both over q's k likeliest tokens: renormalised on them (`fkl_renormalised`, as released) or with a rest cell
(`fkl_topk`). w is min(difference of returns / 0.2, 2), twice that on the answer: `Row.teacher_weight` and
`Row.token_weights`, which the pairs' context sets. The direction follows the returns, so skills can teach the branch
without and the reverse. There is no importance weight, although the row's prompt did not produce its response.

Source: UCOB (arXiv 2606.29502), from its released code (ucob_ray_trainer.py, sdar_utils.py). Left out: the memory that
the policy writes in training, its retrieval by utility and the update of its writer. With rewards of 10, w is at 2 for
almost all pairs of ALFWorld and WebShop.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.distiller import Distiller
from sdar_agents.algorithms.gap import gap
from sdar_agents.algorithms.grpo import Distillation
from sdar_agents.algorithms.losses import sdar_gate
from sdar_agents.algorithms.methods.gigpo import GiGPO
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.settings.checks import setting

__all__ = ["UCOB"]


@dataclass(frozen=True, kw_only=True)
class UCOB(GiGPO, Distiller):
    """UCOB: GiGPO with a gated forward KL on sibling rows.

    Attributes:
        distill_coef: factor of the forward KL.
        beta: steepness of the gate.
        divergence: `fkl_renormalised` or `fkl_topk`.
        top_k: of the teacher's tokens.
    """

    distill_coef: float = setting(0.1, low=0)
    beta: float = setting(5.0, low=0)
    divergence: Literal["fkl_renormalised", "fkl_topk"] = "fkl_renormalised"
    top_k: int = setting(32, low=1)

    def declarations(self) -> Declarations:
        """Return that without its coefficient it is GiGPO."""
        return Declarations(off={"distill_coef": 0.0}, base=GiGPO)

    def scoring_options(self, base: ScoringOptions) -> ScoringOptions:
        """Return the scoring options with the divergence switched on."""
        options = super().scoring_options(base)
        return replace(options, divergence=self.divergence, top_k=self.top_k, top_of="teacher")

    def distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation:
        """Return the gated forward KL, whose mean is over the rows with a teacher."""
        distances = self._divergences(scores, self.divergence)
        current = gap(batch, scores)
        gate = sdar_gate(current, self.beta)
        metrics = {
            f"distill/{self.divergence}": masked_metric(distances, batch.teacher_mask),
            "distill/gate": masked_metric(gate, batch.teacher_mask, spread=True),
        }
        return Distillation(gate * distances * batch.teacher_scale, self.distill_coef, current, gate, metrics)
