"""A training method of your own: RLOO, REINFORCE with a leave-one-out baseline (arXiv 2402.14740).

In this folder, `sdar train --config alfworld_sdar_tiny --method own_method:RLOO` trains with it;
`--suite alfworld` names the suite whose KL coefficient and penalty it takes if the environment is your own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdar_agents.algorithms import GRPO
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.metrics import Metric
from sdar_agents.settings.checks import setting
from sdar_agents.types import Row


@dataclass(frozen=True, kw_only=True)
class RLOO(GRPO):
    """RLOO: an episode's return minus the mean return of the other episodes of its group.

    It inherits GRPO's settings, clipped surrogate and KL penalty, and replaces the advantages. A method that
    distils overrides `distillation`, one that reweights tokens `token_advantages`, any other `loss`.

    Attributes:
        max_advantage: advantages are clipped to this size.
    """

    max_advantage: float = setting(10.0, low=0)

    def advantages(self, rows: Sequence[Row], batch: Batch) -> tuple[Tensor, dict[str, Metric]]:
        """Return the advantages `(B,)` of all rows of a step, and metrics by path."""
        groups: dict[str, dict[str, float]] = {}
        for row in rows:
            groups.setdefault(row.group_id, {})[row.episode_id] = row.episode_return
        values = []
        for row in rows:
            returns = groups[row.group_id]
            others = (sum(returns.values()) - row.episode_return) / max(len(returns) - 1, 1)
            advantage = row.episode_return - others if len(returns) > 1 else 0.0
            values.append(advantage - row.invalid_penalty)
        advantages = torch.tensor(values, device=batch.mask.device).clamp(-self.max_advantage, self.max_advantage)
        is_clipped = advantages.abs() == self.max_advantage
        share = Metric(is_clipped.sum().double(), torch.tensor(float(len(rows)), dtype=torch.float64))
        return advantages, {"rloo/clipped": share}
