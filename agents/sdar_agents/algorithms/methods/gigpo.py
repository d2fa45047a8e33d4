"""GiGPO: GRPO with a second, step-level group: rows of a group at the same observation.

    A = A_episode + step_coef A_step

    A_episode   GRPO's advantage of the row's score
    A_step      G_t minus the mean of G over the rows of the group at the same state, over their standard deviation
                where `advantage_std` is set
    G_t         discounted return from the turn on, sum over k of gamma^k r_(t+k)

A state that one row alone visits has the step advantage 0. At step_coef 0, GiGPO is GRPO bit for bit.

Source: GiGPO (arXiv 2505.10978) and verl-agent (gigpo/core_gigpo.py), whose scripts set its mode to `mean_norm`: here
`advantage_std: false`, the default of this method. The malformed-answer penalty enters the episode's part alone, as
there. Both parts leave groups without a difference at 0 (`zero_range`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from torch import Tensor

from sdar_agents.algorithms.advantages import compared_rows, group_advantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.metrics import Metric
from sdar_agents.settings.checks import setting
from sdar_agents.types import Row

__all__ = ["GiGPO", "discounted_returns", "state_groups"]


@dataclass(frozen=True, kw_only=True)
class GiGPO(GRPO):
    """GiGPO: GRPO with step-level advantages among the rows of a group at the same state.

    Attributes:
        step_coef: factor of the step-level advantage.
        gamma: discount of the return from a turn on, per turn.
        state_similarity: observations at least this similar are one state, by `difflib`; 1 for equal ones alone.
            verl-agent takes 0.9 on Search-QA.
        advantage_std: divide both parts by the standard deviation of their group.
    """

    step_coef: float = setting(1.0, low=0)
    gamma: float = setting(0.95, low=0, high=1)
    state_similarity: float = setting(1.0, above=0, high=1)
    advantage_std: bool = False

    @property
    def needs_turns(self) -> bool:
        """True: states are of turns."""
        return True

    def declarations(self) -> Declarations:
        """Return that without its coefficient it is GRPO."""
        return Declarations(off={"step_coef": 0.0, "advantage_std": True}, base=GRPO)

    def advantages(self, rows: Sequence[Row], batch: Batch) -> tuple[Tensor, dict[str, Metric]]:
        """Episode-level plus step-level advantages `(B,)`, and metrics of the groups.

        Args:
            rows: as for `GRPO.advantages`; `Row.turn_reward` and `Row.state` are read too.
            batch: of these rows.
        """
        advantages, metrics = super().advantages(rows, batch)
        if not self.step_coef:
            return advantages, metrics
        compared = compared_rows(rows)
        own = [rows[i] for i in compared.tolist()]
        states = state_groups(own, self.state_similarity)
        steps = group_advantages(
            discounted_returns(own, self.gamma),
            states,
            torch.arange(len(own)),
            divide_by_std=self.advantage_std,
            zero_range=self.zero_range or 1e-6,
        ).to(advantages.device)
        advantages = advantages.index_add(0, compared.to(advantages.device), self.step_coef * steps)
        sizes = states.bincount()
        metrics["group/states_shared"] = Metric(
            (sizes[states] > 1).sum().double(), torch.tensor(float(len(own)), dtype=torch.float64)
        )
        return advantages, metrics


def discounted_returns(rows: Sequence[Row], gamma: float) -> Tensor:
    """Return from each turn on, `G_t = r_t + gamma G_(t+1)`, `(B,)` float64.

    Args:
        rows: whole episodes, in any order.
        gamma: discount per turn.
    """
    episodes: dict[str, list[int]] = {}
    for i in sorted(range(len(rows)), key=lambda i: -rows[i].turn_index):
        episodes.setdefault(rows[i].episode_id, []).append(i)
    returns = torch.zeros(len(rows), dtype=torch.float64)
    for members in episodes.values():
        following = 0.0
        for i in members:
            following = rows[i].turn_reward + gamma * following
            returns[i] = following
    return returns


def state_groups(rows: Sequence[Row], similarity: float = 1.0) -> Tensor:
    """Number `(B,)` of each row's state: rows of one group with equal, or similar, observations share it.

    Args:
        rows: of any groups.
        similarity: the least ratio of `difflib.SequenceMatcher` to the first observation of a state, from 0 to 1; 1
            for equal observations alone.
    """
    numbers: dict[tuple[str, str], int] = {}
    first: dict[str, list[tuple[str, int]]] = {}
    found = []
    for row in rows:
        key = row.group_id, row.state
        if key not in numbers:
            known = first.setdefault(row.group_id, [])
            near = (n for text, n in known if similarity < 1 and _ratio(text, row.state, similarity) >= similarity)
            number = next(near, None)
            if number is None:
                number = len(numbers)
                known.append((row.state, number))
            numbers[key] = number
        found.append(numbers[key])
    return torch.tensor(found, dtype=torch.long)


def _ratio(left: str, right: str, least: float) -> float:
    """Return how similar two texts are; an upper bound where that is below `least` already."""
    matcher = SequenceMatcher(None, left, right, autojunk=False)
    bound = min(matcher.real_quick_ratio(), matcher.quick_ratio())
    return bound if bound < least else matcher.ratio()
