"""AgentOPSD: GRPO whose advantages follow how each turn, or token, revises the teacher's belief in success.

With the gap D = T - O, the log-odds of success move by what the teacher finds likelier than the policy:

    logit V_k = logit V_0 + s_k,    s_k = gamma s_(k-1) + e_k,    q_k = V_k - V_(k-1)
    z_k = (q_k - mean q) / (std q + 1e-6)
    A_k = A ((1 - lambda) + lambda clip(1 + slope sign(A) z_k, 1 - weight_clip, 1 + weight_clip))

    turn    e_k is the sum of D over the tokens of turn k; z over the turns of the episode
    token   e_t is D of token t; the recursion, and z, restart in each turn; the standard deviation is
            sqrt(var + 1e-6) + 1e-6, so that gaps below about 0.001 nats fade

V_0 is the success rate of the group, from 1e-4 to 1 - 1e-4, and V from 1e-6 to 1 - 1e-6. Standardising makes the turn
form free of scale: whatever the size of the gaps, they fill the band of 1 -+ lambda weight_clip.

Source: AgentOPSD (arXiv 2608.05987), from its released code (opsd_utils.py). Where we differ: the code takes V_0 from
returns, which are 0 or 10 on ALFWorld and WebShop, so that a single success in a group of eight pins it to 0.9999;
here it is the success rate, from 0 to 1, and `return_scale: 1` gives the released prior. The README calls the method
turn-level (the default here), the released launchers of WebShop and Search-QA set the token form. They set gamma to 1;
summaries of the paper have 0.95.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sdar_agents.algorithms.advantages import members_of
from sdar_agents.algorithms.algorithm import TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.algorithms.schedules import warmed_down
from sdar_agents.algorithms.shaping import shape, shaping_metrics
from sdar_agents.scoring.batch import Batch
from sdar_agents.settings.checks import setting
from sdar_agents.types import Row

__all__ = ["AgentOPSD", "belief_revisions", "group_priors"]

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class AgentOPSD(GRPO):
    """AgentOPSD: GRPO with advantages that follow the revisions of the teacher's belief in success.

    Attributes:
        shaping_coef: lambda at the start.
        warmdown_steps: lambda reaches 0 at this step; 0 for a constant lambda.
        weight_clip: the most that a weight differs from 1.
        slope: of the weight in the standardised revision.
        granularity: `turn` or `token`.
        gamma: decay of earlier evidence.
        return_scale: null takes V_0 from the success rate; a number from the mean score over it, 1 as released.
    """

    needs_teacher: ClassVar[bool] = True
    shapes_advantages: ClassVar[bool] = True

    shaping_coef: float = setting(0.5, low=0, high=1)
    warmdown_steps: int = setting(0, low=0)
    weight_clip: float = setting(0.2, low=0, high=1)
    slope: float = setting(0.2, low=0)
    granularity: Literal["turn", "token"] = "turn"
    gamma: float = setting(1.0, low=0, high=1)
    return_scale: float | None = setting(None, above=0)

    @property
    def needs_turns(self) -> bool:
        """True: beliefs are revised from turn to turn."""
        return True

    def declarations(self) -> Declarations:
        """Return that the sign is kept and factors are within bounds."""
        size = self.shaping_coef * self.weight_clip
        return Declarations(off={"shaping_coef": 0.0}, base=GRPO, bounds=(1.0 - size, 1.0 + size))

    def shape_advantages(self, advantages: Tensor, rows: Sequence[Row], batch: Batch, step: int) -> TokenAdvantages:
        """Return the advantages `(B, L)`, reweighted by the revisions of the belief."""
        mask = batch.teacher_mask & batch.policy_mask
        gaps = (batch.part("teacher_logprobs") - batch.part("old_logprobs")).double().masked_fill(~mask, 0.0)
        priors = group_priors(rows, batch, self.return_scale)
        if self.granularity == "turn":
            signal = self._by_turn(gaps, priors, batch, mask.any(dim=1))[:, None].expand_as(gaps)
        else:
            signal = self._by_token(gaps, priors, mask)
        coefficient = warmed_down(self.shaping_coef, step, self.warmdown_steps)
        shaped, weights = shape(
            advantages,
            signal.masked_fill(~mask, 0.0).float(),
            coefficient=coefficient,
            curve="linear",
            slope=self.slope,
            clip=self.weight_clip,
        )
        return TokenAdvantages(shaped, metrics=shaping_metrics(weights, mask, batch.mask, coefficient))

    def _by_turn(self, gaps: Tensor, priors: Tensor, batch: Batch, shaped: Tensor) -> Tensor:
        """Return the standardised revisions `(B,)`, over the turns of each episode that are shaped."""
        evidence, standardised = gaps.sum(dim=1), torch.zeros_like(priors)
        for members in members_of(batch.episode_index):
            turns = members[shaped[members]]
            if not len(turns):
                continue
            turns = turns[batch.turn_index[turns].argsort(stable=True)]
            revisions = belief_revisions(priors[turns[:1]], evidence[turns][None], self.gamma)[0]
            deviation = revisions.std(correction=0) + _EPSILON
            standardised[turns] = (revisions - revisions.mean()) / deviation
        return standardised

    def _by_token(self, gaps: Tensor, priors: Tensor, mask: Tensor) -> Tensor:
        """Return the standardised revisions `(B, L)`, over the tokens of each turn."""
        revisions = belief_revisions(priors, gaps, self.gamma).masked_fill(~mask, 0.0)
        count = mask.sum(dim=1, keepdim=True).clamp(min=1)
        centred = (revisions - revisions.sum(dim=1, keepdim=True) / count).masked_fill(~mask, 0.0)
        variance = centred.square().sum(dim=1, keepdim=True) / count
        return centred / ((variance + _EPSILON).sqrt() + _EPSILON)


def belief_revisions(priors: Tensor, evidence: Tensor, gamma: float = 1.0) -> Tensor:
    """Changes of the belief in success, `q_k = V_k - V_(k-1)` with `logit V_k = logit V_0 + s_k`.

    Args:
        priors: `(n,)`, V_0, above 0 and below 1.
        evidence: `(n, K)`, e_k in nats.
        gamma: `s_k = gamma s_(k-1) + e_k`.

    Returns:
        `(n, K)`; exactly 0 where there is no evidence.
    """
    start = priors.logit()
    before = start.sigmoid().clamp(_EPSILON, 1.0 - _EPSILON)
    total = torch.zeros_like(start)
    revisions = []
    for column in evidence.unbind(dim=1):
        total = gamma * total + column
        belief = (start + total).sigmoid().clamp(_EPSILON, 1.0 - _EPSILON)
        revisions.append(belief - before)
        before = belief
    return torch.stack(revisions, dim=1) if revisions else torch.zeros_like(evidence)


def group_priors(rows: Sequence[Row], batch: Batch, return_scale: float | None = None) -> Tensor:
    """Prior belief in success `(B,)` float64 of each row's group, from 1e-4 to 1 - 1e-4.

    Args:
        rows: of whole groups.
        batch: of these rows.
        return_scale: None for the success rate of the group's episodes; a number for the mean score of their first
            rows over it.
    """
    values = torch.zeros(len(rows), dtype=torch.float64)
    for members in members_of(batch.group_index):
        first: dict[str, Row] = {}
        for i in members.tolist():
            row = rows[i]
            if row.is_trained and row.given_advantage is None:
                kept = first.setdefault(row.episode_id, row)
                first[row.episode_id] = min(kept, row, key=lambda row: row.turn_index)
        scores = [row.is_success if return_scale is None else row.score / return_scale for row in first.values()]
        values[members] = sum(scores) / max(len(scores), 1)
    return values.clamp(1e-4, 1.0 - 1e-4)
