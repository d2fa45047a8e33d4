"""ADRS: GRPO with the teacher's standardised log-probabilities added to the advantages, in a window of steps.

    x_t = (T_t - mean over the row) / std over the row
    A_t = A + clip(eta g (x_t - mean over the group) / std over the group, -clip, clip)

The gate g of a group is sigmoid(tau V), with V the mean return weighted by a minus that weighted by 1 - a, and
a = sigmoid(mean T of the row - mean of all rows): whether the teacher finds better episodes likelier. Groups without a
difference in scores keep A. eta is 0 outside steps `first_step` to `last_step`, where ADRS is GRPO bit for bit.

`signal: teacher` is x of T, as released. It has no student in it: the term rewards likely tokens, whatever the context.
`signal: gap` takes T - O in place of T.

Source: ADRS (arXiv 2608.03223), from its released code (adrs_utils.py; scripts "fix5"). Where we differ: there the gate
multiplies x before the group's standardisation, which divides it out again (`gate: before`, the same as `none` but for
rounding); here it acts (`gate: after`). The same shaping is also added to the rewards there, where it sums to 0 and
does nothing. The scripts raise the entropy coefficient to 0.01 in the window, which is a second change: set
`window_entropy_coef` for it. Multiplicative shaping is `rlsd` with lambda = eta.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import stdev
from typing import ClassVar, Literal

import torch
from torch import Tensor

from sdar_agents.algorithms.advantages import members_of
from sdar_agents.algorithms.algorithm import TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO, Coefficients
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.metrics import Metric, masked_metric
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.settings.checks import setting
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

__all__ = ["ADRS", "standardised", "teacher_value"]

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class ADRS(GRPO):
    """ADRS: GRPO with a standardised signal of the teacher added to the advantages.

    Attributes:
        eta: factor of the standardised signal.
        shaping_clip: the most that is added or subtracted.
        adaptive_clip: scale the clip of a group by its standard deviation of scores over the median of all groups, if
            that is below 1; as on ALFWorld and Search-QA.
        signal: `teacher` for T, `gap` for T - O.
        gate: where the group's gate multiplies: `after` its standardisation, `before` it, or `none`.
        tau: steepness of the gate.
        first_step: of the window.
        last_step: of the window; null for the run's last.
        window_entropy_coef: factor of the entropy bonus in the window; null for `entropy_coef`.
    """

    needs_teacher: ClassVar[bool] = True
    shapes_advantages: ClassVar[bool] = True

    eta: float = setting(0.02, low=0)
    shaping_clip: float = setting(0.2, low=0)
    adaptive_clip: bool = False
    signal: Literal["teacher", "gap"] = "teacher"
    gate: Literal["after", "before", "none"] = "after"
    tau: float = setting(2.0, low=0)
    first_step: int = setting(21, low=1)
    last_step: int | None = setting(70, low=1)
    window_entropy_coef: float | None = setting(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_step is not None and self.last_step < self.first_step:
            raise InvalidOption(
                f"last_step is {self.last_step}, before first_step {self.first_step}: wanted a later one, or null."
            )

    @property
    def needs_turns(self) -> bool:
        """True: signals are standardised within a turn."""
        return True

    def declarations(self) -> Declarations:
        """Return that without its coefficient it is GRPO."""
        return Declarations(off={"eta": 0.0, "window_entropy_coef": None}, base=GRPO)

    def is_active(self, step: int) -> bool:
        """Return whether a step is in the window."""
        return self.first_step <= step and (self.last_step is None or step <= self.last_step)

    def coefficients(self, step: int) -> Coefficients:
        """Return the factors of the loss's terms at a step."""
        usual = super().coefficients(step)
        if self.window_entropy_coef is None or not self.is_active(step):
            return usual
        return usual._replace(entropy=self.window_entropy_coef)

    def scoring_options(self, base: ScoringOptions) -> ScoringOptions:
        """Return the scoring options with the entropies of the bonus switched on."""
        options = super().scoring_options(base)
        return replace(options, entropies=options.entropies or bool(self.window_entropy_coef))

    def shape_advantages(self, advantages: Tensor, rows: Sequence[Row], batch: Batch, step: int) -> TokenAdvantages:
        """Return the advantages, `(B, L)` with the teacher's signal added in the window."""
        mask = batch.teacher_mask & batch.policy_mask
        active = float(bool(self.eta) and self.is_active(step))
        count = torch.tensor(1.0, dtype=torch.float64)
        metrics = {"distill/active": Metric(count * active, count)}
        if not active:
            return TokenAdvantages(advantages, metrics=metrics)
        teacher = batch.part("teacher_logprobs")
        signals = teacher if self.signal == "teacher" else teacher - batch.part("old_logprobs")
        values = signals.double().masked_fill(~mask, 0.0)
        by_row = torch.stack([standardised(row, own) for row, own in zip(values, mask, strict=True)])
        gates = self._gates(rows, batch, values, mask)
        groups = members_of(batch.group_index)
        deviations = self._deviations(rows, groups)
        median = deviations.quantile(0.5)
        added = torch.zeros_like(values)
        for members, deviation in zip(groups, deviations, strict=True):
            if float(deviation) <= max(self.zero_range, _EPSILON):
                continue
            signal = by_row[members] * (gates[members, None] if self.gate == "before" else 1.0)
            term = self.eta * standardised(signal, mask[members])
            if self.gate == "after":
                term = term * gates[members, None]
            clip = self.shaping_clip
            if self.adaptive_clip:
                clip *= min(1.0, float(deviation / median.clamp(min=_EPSILON)))
            added[members] = term.clamp(-clip, clip)
        added = added.masked_fill(~mask, 0.0).float()
        metrics["distill/gate"] = masked_metric(gates, mask.any(dim=1), spread=True)
        metrics["distill/added_advantage"] = masked_metric(added.abs(), mask)
        return TokenAdvantages(advantages[:, None] + added, metrics=metrics)

    def _gates(self, rows: Sequence[Row], batch: Batch, values: Tensor, mask: Tensor) -> Tensor:
        """Return the gate `(B,)` of each row's group."""
        there = mask.any(dim=1)
        means = values.sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        weights = torch.sigmoid(means - means[there].mean()) if there.any() else torch.zeros_like(means)
        returns = torch.tensor([row.episode_return for row in rows], dtype=torch.float64)
        gates = torch.zeros_like(means)
        for members in members_of(batch.group_index):
            own = members[there[members]]
            gates[members] = torch.sigmoid(self.tau * teacher_value(weights[own], returns[own]))
        return gates

    def _deviations(self, rows: Sequence[Row], groups: Sequence[Tensor]) -> Tensor:
        """Return the standard deviation of each group's scores."""
        deviations = []
        for members in groups:
            own = [rows[i] for i in members.tolist()]
            scores = [row.score for row in own if row.is_trained and row.given_advantage is None]
            deviations.append(stdev(scores) if len(scores) > 1 else 0.0)
        return torch.tensor(deviations, dtype=torch.float64)


def standardised(values: Tensor, mask: Tensor) -> Tensor:
    """Values minus their mean over their standard deviation, both over the mask; 0 elsewhere.

    Args:
        values: any shape, float64.
        mask: bool, the same shape.
    """
    count = mask.sum().clamp(min=1)
    centred = (values - values.masked_fill(~mask, 0.0).sum() / count).masked_fill(~mask, 0.0)
    return centred / ((centred.square().sum() / count).sqrt() + _EPSILON)


def teacher_value(weights: Tensor, returns: Tensor) -> Tensor:
    """Value of the teacher's preference: the mean return weighted by a minus that weighted by 1 - a; 0 for no rows.

    Args:
        weights: `(n,)`, a, above 0 and below 1.
        returns: `(n,)`.
    """
    if not len(weights):
        return returns.new_zeros(())
    others = 1.0 - weights
    return (weights * returns).sum() / weights.sum() - (others * returns).sum() / others.sum()
