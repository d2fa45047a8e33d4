"""GRPO: group-relative advantages, PPO's clipped surrogate, and a KL penalty to the reference policy.

    L = pg_coef agg(PPO clip) + kl_coef agg(KL estimate) - entropy_coef agg(H)

The other methods inherit from it: they are this loss with one more term or with other advantages, and with their
coefficient at 0 they are GRPO, bit for bit. There is no critic and no reward per token.

Source: GRPO (arXiv 2402.03300); verl/workers/actor/dp_actor.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from sdar_agents.algorithms.advantages import (
    AdvantageStats,
    compared_rows,
    given_advantages,
    group_advantages,
    group_metrics,
)
from sdar_agents.algorithms.algorithm import LossOutput, TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.gap import conflict_metric, gap, gap_metrics
from sdar_agents.algorithms.losses import KlKind, aggregate, importance_weight, kl_estimate, policy_loss
from sdar_agents.scoring.batch import Aggregation, Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import Metric, masked_metric
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.scoring.shapes import check_shapes
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

__all__ = ["GRPO", "Coefficients", "Distillation", "TokenAdvantages"]

_NO_METRICS: Mapping[str, Metric] = MappingProxyType({})


class Coefficients(NamedTuple):
    """Factors of the loss's terms at a step.

    Attributes:
        policy: of the policy gradient.
        kl: of the KL penalty.
        entropy: of the entropy bonus.
        distill: of the distillation term, besides `Distillation.coefficient`.
    """

    policy: float
    kl: float
    entropy: float
    distill: float = 1.0


class Distillation(NamedTuple):
    """The distillation term that a method adds to GRPO's loss.

    Attributes:
        losses: `(B, L)`, with gradient.
        coefficient: factor of their aggregate; at 0 the term is left out.
        gap: `(B, L)`, see `LossOutput`.
        gate: `(B, L)`, see `LossOutput`; None without a gate.
        metrics: by path, besides those of the gap.
    """

    losses: Tensor
    coefficient: float
    gap: Tensor
    gate: Tensor | None = None
    metrics: Mapping[str, Metric] = _NO_METRICS


@dataclass(frozen=True, kw_only=True)
class GRPO:
    """Group Relative Policy Optimization (GRPO), and the base class of the other methods.

    Attributes:
        pg_coef: factor of the policy gradient.
        clip_low: PPO's clip: the importance ratio may fall this far below 1 before the gradient stops.
        clip_high: and rise this far above 1.
        dual_clip: bound on the ratio where the advantage is negative; None for none.
        kl_coef: factor of the KL penalty to the reference policy; by suite in `sdar train`, see `registry.SUITES`.
        kl_kind: estimator of the KL.
        entropy_coef: factor of the entropy bonus.
        aggregation: how losses per token become one number.
        response_limit: the longest response that is sampled, in tokens; for `seq-mean-token-sum-norm`.
        advantage_stats: what a group's mean and standard deviation are taken over.
        advantage_std: divide by the standard deviation; False as in Dr. GRPO.
        zero_range: in groups whose scores differ by less, advantages are 0; 0 turns the rule off.
        invalid_penalty: subtracted from the score of a turn whose completion is malformed.
        penalty_after: subtract the penalty from the advantage, not from the score that is normalised. In a group that
            is equal otherwise, division by the standard deviation would inflate the penalty.
        sampler_cap: cap of the importance weight that corrects for the sampling engine's log-probs; None for no
            correction.
    """

    needs_teacher: ClassVar[bool] = False
    student_sees_skills: ClassVar[bool] = False
    shapes_advantages: ClassVar[bool] = False
    teacher_views: ClassVar[int] = 1

    pg_coef: float = setting(1.0, low=0)
    clip_low: float = setting(0.2, low=0, high=1)
    clip_high: float = setting(0.2, low=0)
    dual_clip: float | None = setting(3.0, low=1)
    kl_coef: float = setting(0.01, low=0)
    kl_kind: KlKind = "k3"
    entropy_coef: float = setting(0.0)
    aggregation: Aggregation = "token-mean"
    response_limit: int | None = setting(None, low=1)
    advantage_stats: AdvantageStats = "turn"
    advantage_std: bool = True
    zero_range: float = setting(1e-6, low=0)
    invalid_penalty: float = setting(0.1, low=0)
    penalty_after: bool = False
    sampler_cap: float | None = setting(2.0, low=1)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.dual_clip is not None and self.dual_clip < 1.0 + self.clip_high:
            raise InvalidOption(
                f"dual_clip is {self.dual_clip}, below 1 + clip_high = {1.0 + self.clip_high}; wanted more, or null."
            )
        if self.aggregation == "seq-mean-token-sum-norm" and self.response_limit is None:
            raise InvalidOption("seq-mean-token-sum-norm divides by response_limit, which is null: set it.")
        if self.advantage_stats == "episode" and self.invalid_penalty and not self.penalty_after:
            raise InvalidOption(
                "advantage_stats is episode and invalid_penalty is subtracted from the scores of turns: a turn's "
                "penalty would be divided by the deviation of episodes. Set penalty_after or invalid_penalty=0."
            )

    @property
    def needs_reference(self) -> bool:
        """Whether `Batch.ref_logprobs` must be there."""
        return self.kl_coef != 0

    @property
    def needs_turns(self) -> bool:
        """Whether it takes each row for one turn of an episode; override where states, turns or answers count."""
        return False

    def scoring_options(self, base: ScoringOptions) -> ScoringOptions:
        """Return the scoring options with what `loss` needs of the scores switched on."""
        return replace(base, entropies=base.entropies or self.entropy_coef != 0)

    def declarations(self) -> Declarations:
        """Return what holds for the method at these settings, for `check_algorithm` to test; override to declare it."""
        return Declarations()

    def coefficients(self, step: int) -> Coefficients:
        """Return the factors of the loss's terms at a step; override for warm-downs and windows.

        Args:
            step: of the run, from 1.
        """
        return Coefficients(self.pg_coef, self.kl_coef, self.entropy_coef)

    def prepare_rows(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Return the rows of a step as the method uses them, as many and in the same order; override to change them.

        A method whose teacher reads only some rows takes `teacher_prompt_ids` from the others here, so that they are
        not scored.

        Args:
            rows: of all groups, each group complete.
        """
        return rows

    def advantages(self, rows: Sequence[Row], batch: Batch) -> tuple[Tensor, dict[str, Metric]]:
        """Group-relative advantages `(B,)` of all rows of a step, and metrics of the groups.

        A row with a given advantage keeps it, and one that is not trained has 0; neither counts in its group.

        Args:
            rows: of all groups, each group complete, in the batch's order. Make them with `invalid_penalty`.
            batch: of these rows.

        Raises:
            InvalidOption: rows and batch do not align.
        """
        if len(rows) != len(batch):
            raise InvalidOption(f"rows must align with the batch: got {len(rows)}, expected {len(batch)}.")
        compared = compared_rows(rows)
        own = [rows[i] for i in compared.tolist()]
        returns = torch.tensor([row.episode_return for row in own], dtype=torch.float64)
        penalties = torch.tensor([row.invalid_penalty for row in own], dtype=torch.float64)
        groups, episodes = batch.group_index.cpu()[compared], batch.episode_index.cpu()[compared]
        advantages = group_advantages(
            returns if self.penalty_after else returns - penalties,
            groups,
            episodes,
            stats=self.advantage_stats,
            divide_by_std=self.advantage_std,
            zero_range=self.zero_range,
        )
        if self.penalty_after:
            advantages = (advantages.double() - penalties).float()
        every = given_advantages(rows).index_copy(0, compared, advantages)
        return every.to(batch.mask.device), group_metrics(returns, returns - penalties, groups)

    def shape_advantages(self, advantages: Tensor, rows: Sequence[Row], batch: Batch, step: int) -> TokenAdvantages:
        """Return the advantages of all rows of a step, reweighted by what the teacher says; override to shape them.

        It is called once per step, where `shapes_advantages` is True: with whole groups and episodes, and before any
        update. `token_advantages` sees a micro-batch alone.

        Args:
            advantages: `(B,)`, what `advantages` returned.
            rows: of the step.
            batch: of these rows, with `old_logprobs`, and `teacher_logprobs` if the method has a teacher, on the CPU.
            step: of the run, from 1.
        """
        return TokenAdvantages(advantages)

    def distills(self, step: int) -> bool:
        """Return whether the loss has a distillation term at a step."""
        return type(self).distillation is not GRPO.distillation and self.coefficients(step).distill != 0

    def rows_with_gradient(self, batch: Batch, step: int) -> Tensor:
        """Return the rows `(B,)` bool of a mini-batch in which the loss has a gradient.

        A row of advantage 0 has none where neither the KL penalty nor the entropy bonus applies, and no teacher is
        distilled. The learner spares the backward pass of such rows. A method with another `loss` or other
        `token_advantages` has a gradient in all rows, unless it overrides this too.

        Args:
            batch: with `advantages`.
            step: of the run, from 1.
        """
        coefficients = self.coefficients(step)
        if self._has_own_terms() or coefficients.entropy or (coefficients.kl and self.needs_reference):
            return batch.mask.any(dim=1)
        advantages = batch.part("advantages")
        has_advantage = (advantages != 0).any(dim=1) if advantages.dim() == 2 else advantages != 0
        has_gradient = batch.policy_mask.any(dim=1) & has_advantage & (coefficients.policy != 0)
        return has_gradient | batch.teacher_mask.any(dim=1) if self.distills(step) else has_gradient

    def _has_own_terms(self) -> bool:
        """Return whether a subclass computes something else than a policy loss that is 0 where the advantage is."""
        names = ("loss", "token_advantages", "_policy_losses")
        return any(getattr(type(self), name) is not getattr(GRPO, name) for name in names)

    def loss(self, batch: Batch, scores: Scores, *, step: int = 1, log_vocabulary: float | None = None) -> LossOutput:
        """Loss of a micro-batch.

        Args:
            batch: with `old_logprobs`, `advantages` and the `weights` of its mini-batch (`Batch.weighed`), and whatever
                the method needs: `ref_logprobs`, `teacher_logprobs`.
            scores: of the current policy at the batch's mask, with gradient, under `scoring_options`.
            step: of the run, from 1; for schedules.
            log_vocabulary: log V; for clamped entropy gates.

        Returns:
            The loss, whose sum over micro-batches and ranks is that of the mini-batch.

        Raises:
            InvalidOption: the batch or the scores lack something, or shapes do not match.
        """
        mask, weights = batch.policy_mask, batch.part("weights")
        check_shapes(
            "BL", mask=mask, logprobs=scores.logprobs, entropies=scores.entropies, divergences=scores.divergences
        )
        coefficients = self.coefficients(step)
        advantages, signal, shaping_metrics = self.token_advantages(batch, scores, step)
        gate = None
        losses, policy_metrics = self._policy_losses(batch, scores, advantages)
        metrics = {**shaping_metrics, **policy_metrics}
        policy_term = aggregate(losses, weights)
        parts = {"policy": coefficients.policy * policy_term}
        metrics["loss/policy"] = _share(policy_term, batch)
        if self.needs_reference:
            reference = kl_estimate(scores.logprobs, batch.part("ref_logprobs"), self.kl_kind)
            kl = aggregate(reference, weights)
            parts["kl"] = coefficients.kl * kl
            metrics["kl/ref"] = masked_metric(reference, mask)
            metrics["loss/kl"] = _share(kl, batch)
        if scores.entropies is not None:
            metrics["policy/entropy"] = masked_metric(scores.entropies, mask)
        if coefficients.entropy:
            parts["entropy"] = -coefficients.entropy * aggregate(self._entropies(scores), weights)
        added = self.distillation(batch, scores, log_vocabulary)
        if added is not None:
            signal, gate = added.gap, added.gate
            distill = aggregate(added.losses, batch.part("distill_weights") * batch.teacher_mask)
            metrics |= added.metrics
            metrics["loss/distill"] = _share(distill, batch)
            # Left out at 0, so that not even a NaN of the teacher reaches the student.
            if added.coefficient and coefficients.distill:
                parts["distill"] = added.coefficient * coefficients.distill * distill
        if signal is not None:
            signal = signal.detach()
            metrics |= gap_metrics(signal, batch)
            metrics["distill/conflict"] = conflict_metric(signal, gate, advantages, batch)
        total = sum(parts.values(), start=torch.zeros_like(policy_term))
        metrics["loss/total"] = _share(total, batch)
        return LossOutput(total, parts, metrics, signal, None if gate is None else gate.detach())

    def token_advantages(self, batch: Batch, scores: Scores, step: int) -> TokenAdvantages:
        """Return the advantages of a micro-batch; override to reweight them token by token.

        Args:
            batch: as for `loss`.
            scores: as for `loss`.
            step: as for `loss`.
        """
        values = batch.part("advantages")
        if not (self.shapes_advantages and self.needs_teacher):
            return TokenAdvantages(values)
        return TokenAdvantages(values, gap(batch, scores, "old").masked_fill(~batch.teacher_mask, 0.0))

    def distillation(self, batch: Batch, scores: Scores, log_vocabulary: float | None) -> Distillation | None:
        """Return a term that is added to the loss, None for none; override to distil.

        Args:
            batch: as for `loss`.
            scores: as for `loss`.
            log_vocabulary: as for `loss`.
        """
        return None

    def _policy_losses(self, batch: Batch, scores: Scores, advantages: Tensor) -> tuple[Tensor, dict[str, Metric]]:
        """Return PPO's clipped surrogate `(B, L)`, corrected for the sampling engine's log-probs, and its metrics."""
        old, mask = batch.part("old_logprobs"), batch.policy_mask
        policy = policy_loss(
            scores.logprobs,
            old,
            advantages,
            clip_low=self.clip_low,
            clip_high=self.clip_high,
            dual_clip=self.dual_clip,
        )
        metrics = {
            "policy/clip_fraction": masked_metric(policy.is_clipped, mask),
            # PPO clips a ratio from below where the advantage is negative, from above where it is positive.
            "policy/clip_low_fraction": masked_metric(policy.is_clipped & (policy.ratio < 1), mask),
            "policy/clip_high_fraction": masked_metric(policy.is_clipped & (policy.ratio > 1), mask),
            "policy/dual_clip_fraction": masked_metric(policy.is_dual_clipped, mask),
            "policy/ratio": masked_metric(policy.ratio, mask, spread=True),
            "kl/old": masked_metric(kl_estimate(scores.logprobs.detach(), old), mask),
        }
        if batch.sampler_logprobs is None:
            return policy.losses, metrics
        metrics["sampler/difference"] = masked_metric((old - batch.sampler_logprobs).abs(), mask)
        if self.sampler_cap is None:
            return policy.losses, metrics
        correction = importance_weight(old, batch.sampler_logprobs, self.sampler_cap)
        metrics["sampler/weight"] = masked_metric(correction, mask)
        return policy.losses * correction, metrics

    def _entropies(self, scores: Scores) -> Tensor:
        if scores.entropies is None:
            raise InvalidOption(
                f"{type(self).__name__} needs entropies in the scores: call score(..., "
                "algorithm.scoring_options(options))."
            )
        return scores.entropies

    def _divergences(self, scores: Scores, kind: str) -> Tensor:
        if scores.divergences is None:
            raise InvalidOption(
                f"{type(self).__name__} with divergence={kind} needs divergences in the scores: call score(..., "
                "algorithm.scoring_options(options), teacher=view_teacher(...))."
            )
        return scores.divergences


def _share(value: Tensor, batch: Batch) -> Metric:
    """Return a loss as a metric: over a mini-batch's micro-batches, values sum to its loss and weights to 1."""
    tokens = 1.0 if batch.totals is None else max(batch.totals.tokens, 1.0)
    return Metric(value.detach().double(), batch.policy_mask.sum().double() / tokens)
