"""OPID: GRPO with the gap to a teacher that reads hindsight skills added to the advantage of each token.

The teacher reads two prompts: with a skill for the episode, and with a skill for this turn where the analyst found one.

    A_t = A + episode_coef (T_t(episode) - O_t) + step_coef (T_t(step) - O_t)

`step_priority`: a turn with a skill of its own is scored under that alone. `additive`: both terms. A turn without
either keeps A. At ratio 1 the gradient is that of `grpo_opsd` with the same coefficient. At the published 0.001 the
term is about a thousandth of an advantage, so it matters where A is 0.

Source: OPID (arXiv 2606.26790), from its released code (opid/analysis.py). The scripts set both coefficients to 0.001
and most of them leave the standard deviation out (`advantage_std: false`); the code's defaults are 1 and 0. Left out:
the options that no script uses (standardised or clipped gaps, a loss of its own).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from sdar_agents.algorithms.algorithm import TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import masked_metric
from sdar_agents.settings.checks import setting

__all__ = ["OPID"]


@dataclass(frozen=True, kw_only=True)
class OPID(GRPO):
    """OPID: GRPO with the gaps under an episode's and a turn's skill added to the advantages.

    Attributes:
        episode_coef: factor of the gap under the episode's skill, the teacher's first view.
        step_coef: factor of the gap under the turn's skill, the second view.
        routing: `step_priority` or `additive`.
    """

    needs_teacher: ClassVar[bool] = True
    teacher_views: ClassVar[int] = 2

    episode_coef: float = setting(0.001, low=0)
    step_coef: float = setting(0.001, low=0)
    routing: Literal["step_priority", "additive"] = "step_priority"

    @property
    def needs_turns(self) -> bool:
        """True: the second view is of a turn."""
        return True

    def declarations(self) -> Declarations:
        """Return that without its coefficients it is GRPO."""
        return Declarations(off={"episode_coef": 0.0, "step_coef": 0.0}, base=GRPO)

    def token_advantages(self, batch: Batch, scores: Scores, step: int) -> TokenAdvantages:
        """Return the advantages `(B, L)` with the gaps added."""
        old = batch.part("old_logprobs").detach()
        episode = (batch.part("teacher_logprobs").detach() - old).masked_fill(~batch.teacher_mask, 0.0)
        turn, has_turn = torch.zeros_like(episode), torch.zeros_like(batch.has_teacher)
        if batch.more_teachers:
            has_turn = batch.more_teachers[0].is_there
            turn = (batch.more_teachers[0].scored() - old).masked_fill(~(batch.mask & has_turn[:, None]), 0.0)
        weighted = self.episode_coef * episode
        if self.routing == "step_priority":
            weighted = weighted.masked_fill(has_turn[:, None], 0.0)
        added = weighted + self.step_coef * turn
        advantages = batch.part("advantages")[:, None] + added
        metrics = {
            "distill/added_advantage": masked_metric(added.abs(), batch.mask),
            "distill/has_step_view": masked_metric(has_turn, batch.mask.any(dim=1)),
        }
        return TokenAdvantages(advantages, torch.where(has_turn[:, None], turn, episode), metrics)
