"""Per-token losses as pure functions of `(B, L)` tensors; `aggregate` makes one number of a loss.

Log-probabilities are in nats. `logprobs` (S) is the current policy and carries the gradient; `old_logprobs` (O) is the
policy of the rollout, `ref_logprobs` (R) the frozen reference, T the teacher with skills in its prompt. The gap is
D = T - S (`sdar_agents.algorithms.gap`). Places outside the mask must hold finite numbers, such as 0; their weight is
0.

Ranks and shapes are checked: nothing broadcasts. Losses stay finite: where an exponential would overflow, its argument
is clamped far outside the range in which the loss has a gradient.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from sdar_agents.scoring.shapes import check_shapes
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = [
    "Gate",
    "KlKind",
    "PolicyLoss",
    "aggregate",
    "distillation_loss",
    "importance_weight",
    "kl_estimate",
    "policy_loss",
    "reverse_kl_loss",
    "sdar_gate",
    "skill_sd_loss",
]

KlKind = Literal["k1", "k2", "k3", "abs"]
"""Estimators of KL(policy || reference) from a sampled token: see `kl_estimate`."""

Gate = Literal["gap", "entropy", "entropy_clamped", "soft_or", "soft_or_clamped"]
"""The signal of SDAR's gate: see `sdar_gate`."""

_MAX_EXPONENT = 20.0


class PolicyLoss(NamedTuple):
    """PPO's clipped surrogate of each token, and what was clipped; `(B, L)` each.

    Attributes:
        losses: with gradient.
        ratio: importance ratio of new to old policy, no gradient.
        is_clipped: bool, the clip is active: no gradient.
        is_dual_clipped: bool, the dual clip is active: no gradient.
    """

    losses: Tensor
    ratio: Tensor
    is_clipped: Tensor
    is_dual_clipped: Tensor


def aggregate(losses: Tensor, weights: Tensor) -> Tensor:
    """Loss aggregation: `sum(weights * losses)`.

    Args:
        losses: `(B, L)`.
        weights: `(B, L)` from `token_weights`; they hold the normalisation.

    Returns:
        A scalar; exactly 0, with gradient 0, if all weights are.

    Raises:
        InvalidOption: the shapes differ.
    """
    check_shapes("BL", losses=losses, weights=weights)
    return (losses * weights).sum()


def policy_loss(
    logprobs: Tensor,
    old_logprobs: Tensor,
    advantages: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.2,
    dual_clip: float | None = 3.0,
) -> PolicyLoss:
    """PPO's clipped surrogate objective, with dual clip.

    The rollout's samples are off-policy once the weights have moved; the clip bounds how far one rollout can move the
    policy.
    With the importance ratio r = exp(S - O):

        l = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)),  and  l = min(l, -A dual_clip)  where A < 0

    Args:
        logprobs: `(B, L)`, with gradient.
        old_logprobs: `(B, L)`.
        advantages: `(B,)` or `(B, L)`.
        clip_low: from 0 to below 1.
        clip_high: 0 or more.
        dual_clip: above 1 + clip_high; None for none. Bounds the loss of a token with negative advantage that became
            much likelier.

    Returns:
        `PolicyLoss` of `(B, L)`.

    Raises:
        InvalidOption: shapes do not match.

    Source: PPO (arXiv 1707.06347), dual clip (arXiv 1912.09729), separate bounds (DAPO, arXiv 2503.14476);
        verl/trainer/ppo/core_algos.py, `compute_policy_loss`.
    """
    check_shapes("BL", logprobs=logprobs, old_logprobs=old_logprobs)
    if advantages.shape == logprobs.shape[:1]:
        advantages = advantages[:, None]
    elif advantages.shape != logprobs.shape:
        raise InvalidOption(
            f"advantages must have the shape (B,) or (B, L) of logprobs, which is {tuple(logprobs.shape)}: got "
            f"{tuple(advantages.shape)}."
        )
    ratio = (logprobs - old_logprobs.detach()).clamp(-_MAX_EXPONENT, _MAX_EXPONENT).exp()
    plain = -advantages * ratio
    clipped = -advantages * ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    losses = torch.maximum(plain, clipped)
    is_clipped = clipped > plain
    is_dual_clipped = torch.zeros_like(is_clipped)
    if dual_clip is not None:
        bound = -advantages * dual_clip
        is_dual_clipped = (advantages < 0) & (losses > bound)
        losses = torch.where(is_dual_clipped, bound.expand_as(losses), losses)
    return PolicyLoss(losses, ratio.detach(), is_clipped, is_dual_clipped)


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, kind: KlKind = "k3") -> Tensor:
    """Estimate of KL(policy || reference) for each sampled token, for the KL penalty to the reference policy.

    With x = R - S:

        k1 = -x      k2 = x^2 / 2      k3 = exp(x) - x - 1      abs = |x|

    On policy, k1 and k3 have KL(policy || reference) as expectation; k2 and k3 are never negative. As losses they do
    other things than as estimates: the expected gradient of k1 is 0, of k2 that of KL(policy || reference), of k3 that
    of KL(reference || policy). k3 is at most 10, and has no gradient there.

    Args:
        logprobs: `(B, L)`, with gradient.
        ref_logprobs: `(B, L)`.
        kind: see above.

    Returns:
        `(B, L)`, in nats.

    Raises:
        InvalidOption: shapes do not match, or there is no such kind.

    Source: J. Schulman, "Approximating KL divergence" (2020); verl/trainer/ppo/core_algos.py, `kl_penalty`.
    """
    check_shapes("BL", logprobs=logprobs, ref_logprobs=ref_logprobs)
    difference = ref_logprobs.detach() - logprobs
    if kind == "k1":
        return -difference
    if kind == "k2":
        return difference.square() / 2
    if kind == "k3":
        bounded = difference.clamp(-_MAX_EXPONENT, _MAX_EXPONENT)
        return (bounded.exp() - bounded - 1.0).clamp(-10.0, 10.0)
    if kind == "abs":
        return difference.abs()
    known = get_args(KlKind)
    raise InvalidOption(f"no estimate {kind!r} of a KL; wanted one of {', '.join(known)}.{did_you_mean(kind, known)}")


def importance_weight(old_logprobs: Tensor, sampler_logprobs: Tensor, cap: float) -> Tensor:
    """Truncated importance sampling weight of each token: `min(exp(O - sampler), cap)`.

    Corrects for a sampling engine whose log-probs differ slightly from the trainer's for the same weights. Exactly 1
    where both agree.

    Args:
        old_logprobs: `(B, L)`, the rollout's weights as the trainer computes them.
        sampler_logprobs: `(B, L)`, as the sampling engine computed them.
        cap: the largest weight, 1 or more.

    Returns:
        `(B, L)`, no gradient.

    Raises:
        InvalidOption: shapes do not match.

    Source: Truncated importance sampling (Ionides 2008), per token as in TRL and verl.
    """
    check_shapes("BL", old_logprobs=old_logprobs, sampler_logprobs=sampler_logprobs)
    difference = (old_logprobs - sampler_logprobs).detach()
    return difference.clamp(-_MAX_EXPONENT, math.log(cap)).exp().clamp(max=cap)


def sdar_gate(
    gap: Tensor,
    beta: float,
    kind: Gate = "gap",
    *,
    entropies: Tensor | None = None,
    log_vocabulary: float | None = None,
    center: bool = False,
    detach: bool = True,
) -> Tensor:
    """SDAR's gate: the weight of the teacher's signal on each token.

    With D = T - S and h the student's entropy:

        gap              sigmoid(beta D)
        entropy          sigmoid(beta h)
        soft_or          sigmoid(beta (1 - (1 - h)(1 - D)))

    The entropy gate is never below 1/2. The soft-OR is not bounded: where h > 1, the factor 1 - h is negative and a
    negative gap opens the gate instead of closing it. The `_clamped` kinds use h / log V, from 0 to 1, instead of h.

    Args:
        gap: `(B, L)`, in nats.
        beta: steepness; 0 gives 1/2 everywhere, independent of the teacher.
        kind: see above.
        entropies: `(B, L)`, in nats; for all kinds but `gap`.
        log_vocabulary: log V; for the clamped kinds.
        center: subtract 1/2. On policy that changes no expected gradient and removes most of its variance.
        detach: no gradient through the gate, as in the paper.

    Returns:
        `(B, L)`, from 0 to 1 (from -1/2 to 1/2 if centred).

    Raises:
        InvalidOption: shapes do not match, there is no such kind, or an argument that it needs is missing.

    Source: SDAR (arXiv 2605.15155), section 2.3; verl/trainer/ppo/sdar_utils.py has the first kind.
    """
    check_shapes("BL", gap=gap, entropies=entropies)
    if kind not in get_args(Gate):
        known = get_args(Gate)
        raise InvalidOption(f"no gate {kind!r}; wanted one of {', '.join(known)}.{did_you_mean(kind, known)}")
    if kind == "gap":
        signal = gap
    else:
        if entropies is None:
            raise InvalidOption(f"the gate {kind} needs entropies; got None.")
        if kind.endswith("_clamped"):
            if log_vocabulary is None:
                raise InvalidOption(f"the gate {kind} needs log_vocabulary; got None.")
            entropies = (entropies / log_vocabulary).clamp(0.0, 1.0)
        signal = entropies if kind.startswith("entropy") else 1.0 - (1.0 - entropies) * (1.0 - gap)
    gate = torch.sigmoid(beta * signal)
    if center:
        gate = gate - 0.5
    return gate.detach() if detach else gate


def distillation_loss(gap: Tensor, gate: Tensor) -> Tensor:
    """SDAR's loss: `g D`, with D = T - S.

    With a detached gate its gradient is `-g grad S`: it raises the log-prob of every sampled token in proportion to the
    gate, and the teacher enters through the gate alone. Its value is minus an estimate of a KL, and usually negative.
    On policy and for small gaps, its expected gradient is beta/4 times that of KL(student || teacher).

    Args:
        gap: `(B, L)`, gradient through S; or a divergence per token.
        gate: `(B, L)` from `sdar_gate`.

    Returns:
        `(B, L)`.

    Raises:
        InvalidOption: shapes do not match.

    Source: SDAR (arXiv 2605.15155), Algorithm 1 and Proposition 2; verl/trainer/ppo/sdar_utils.py.
    """
    check_shapes("BL", gap=gap, gate=gate)
    return gate * gap


def reverse_kl_loss(logprobs: Tensor, gap: Tensor) -> Tensor:
    """Sampled reverse KL as a policy gradient: `-sg(D) S`, with D = T - S.

    On policy, its expected gradient is exactly that of KL(student || teacher): it lowers the log-prob of tokens that
    the teacher finds less likely than the student. Its value has no meaning.

    Args:
        logprobs: `(B, L)`, with gradient.
        gap: `(B, L)`; its gradient is not used.

    Returns:
        `(B, L)`.

    Raises:
        InvalidOption: shapes do not match.

    Source: on-policy distillation as TRL, slime and ms-swift have it; the gradient is REINFORCE with reward D.
    """
    check_shapes("BL", logprobs=logprobs, gap=gap)
    return -gap.detach() * logprobs


def skill_sd_loss(logprobs: Tensor, old_logprobs: Tensor, gap: Tensor) -> Tensor:
    """Skill-SD's loss: the importance-weighted k3 of student and teacher.

    With D = T - S and rho = exp(S - O), which keeps its gradient:

        l = rho (exp(D) - 1 - D),    grad l = -rho D grad S

    Its expected gradient is that of KL(student || teacher), also off-policy; with rho detached it would be that of
    another divergence. Exponents are clamped at 20 and 10.

    Args:
        logprobs: `(B, L)`, with gradient.
        old_logprobs: `(B, L)`.
        gap: `(B, L)`, gradient through S.

    Returns:
        `(B, L)`.

    Raises:
        InvalidOption: shapes do not match.

    Source: Skill-SD (arXiv 2604.10674); verl/trainer/ppo/skillsd_utils.py.
    """
    check_shapes("BL", logprobs=logprobs, old_logprobs=old_logprobs, gap=gap)
    k3 = torch.exp(gap.clamp(max=_MAX_EXPONENT)) - 1.0 - gap
    ratio = torch.exp((logprobs - old_logprobs.detach()).clamp(max=10.0))
    return ratio * k3
