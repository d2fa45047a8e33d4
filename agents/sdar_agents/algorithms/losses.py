"""Losses per token, as pure functions: `(B, L)` in, `(B, L)` out; `aggregate` makes one number.

Log-probabilities are in nats. `logprobs` (S) is the current policy and the only argument that carries a gradient;
`old_logprobs` (O) is the policy of the rollout, `ref_logprobs` (R) the frozen reference, `teacher_logprobs` (T) the
teacher, who read skills. The gap is D = T - S. Places outside the mask must hold finite numbers, such as 0; their
weight is 0.

They refuse nothing about the size of numbers and stay finite: where an exponential would overflow, its argument is
clamped far outside the range in which the loss has a gradient.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

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
"""Estimates of KL(policy || reference) from a sampled token: see `kl_estimate`."""

Gate = Literal["gap", "entropy", "entropy_clamped", "soft_or", "soft_or_clamped"]
"""What opens SDAR's gate: see `sdar_gate`."""

_MAX_EXPONENT = 20.0


class PolicyLoss(NamedTuple):
    """`(B, L)` each.

    Attributes:
        losses: with gradient.
        ratio: new to old policy, no gradient.
        is_clipped: bool, the clip took the gradient away.
        is_dual_clipped: bool, the dual clip did.
    """

    losses: Tensor
    ratio: Tensor
    is_clipped: Tensor
    is_dual_clipped: Tensor


def aggregate(losses: Tensor, weights: Tensor) -> Tensor:
    """Return `sum(weights * losses)`.

    Args:
        losses: `(B, L)`.
        weights: `(B, L)` from `token_weights`; they hold the normalisation.

    Returns:
        A scalar; exactly 0, with gradient 0, if all weights are.
    """
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
    """PPO's clipped surrogate: improve, but not further than the rollout can vouch for.

    With r = exp(S - O):

        l = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high)),  and  l = min(l, -A dual_clip)  where A < 0

    Args:
        logprobs: `(B, L)`, with gradient.
        old_logprobs: `(B, L)`.
        advantages: `(B,)` or `(B, L)`.
        clip_low: from 0 to below 1.
        clip_high: 0 or more.
        dual_clip: above 1 + clip_high; None for none. Bounds the loss of a bad token that became much
            likelier.

    Source: PPO (arXiv 1707.06347), dual clip (arXiv 1912.09729), separate bounds (DAPO, arXiv 2503.14476);
        verl/trainer/ppo/core_algos.py, `compute_policy_loss`.
    """
    if advantages.dim() == 1:
        advantages = advantages[:, None]
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
    """An estimate of KL(policy || reference) for each sampled token.

    With x = R - S:

        k1 = -x      k2 = x^2 / 2      k3 = exp(x) - x - 1      abs = |x|

    On policy, k1 and k3 have KL(policy || reference) as expectation; k2 and k3 are never negative. As losses they do
    other things than as estimates: the expected gradient of k1 is 0, of k2 that of KL(policy || reference), of k3 that
    of KL(reference || policy). k3 is at most 10, and has no gradient there.

    Args:
        logprobs: `(B, L)`, with gradient.
        ref_logprobs: `(B, L)`.
        kind: see above.

    Raises:
        InvalidOption: there is no such kind.

    Source: J. Schulman, "Approximating KL divergence" (2020); verl/trainer/ppo/core_algos.py, `kl_penalty`.
    """
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
    """Truncated importance weight of a token: `min(exp(O - sampler), cap)`.

    Corrects for an engine that sampled from slightly other numbers than the trainer computes. Exactly 1 where both
    agree.

    Args:
        old_logprobs: `(B, L)`, the rollout's weights as the trainer computes them.
        sampler_logprobs: `(B, L)`, what the engine said.
        cap: the largest weight, 1 or more.

    Returns:
        `(B, L)`, no gradient.

    Source: Truncated importance sampling (Ionides 2008), per token as in TRL and verl.
    """
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
    """SDAR's gate: how far to trust the teacher on a token.

    With D = T - S and h the student's entropy:

        gap              sigmoid(beta D)
        entropy          sigmoid(beta h)
        soft_or          sigmoid(beta (1 - (1 - h)(1 - D)))

    The entropy gate is never below 1/2. The soft-OR is not bounded: where h > 1, the factor 1 - h is negative and a
    negative gap opens the gate instead of closing it. The `_clamped` kinds put h / log V, from 0 to 1, in its place.

    Args:
        gap: `(B, L)`, in nats.
        beta: steepness; 0 gives 1/2 everywhere, and the teacher plays no part.
        kind: see above.
        entropies: `(B, L)`, in nats; for all kinds but `gap`.
        log_vocabulary: log V; for the clamped kinds.
        center: subtract 1/2. On policy that changes no expected gradient and takes most of its variance away.
        detach: no gradient through the gate, as the paper has it.

    Returns:
        `(B, L)`.

    Raises:
        InvalidOption: there is no such kind, or what it wants is missing.

    Source: SDAR (arXiv 2605.15155), section 2.3; verl/trainer/ppo/sdar_utils.py has the first kind.
    """
    if kind not in get_args(Gate):
        known = get_args(Gate)
        raise InvalidOption(f"no gate {kind!r}; wanted one of {', '.join(known)}.{did_you_mean(kind, known)}")
    if kind == "gap":
        signal = gap
    else:
        if entropies is None:
            raise InvalidOption(f"the gate {kind} wants entropies; got None.")
        if kind.endswith("_clamped"):
            if log_vocabulary is None:
                raise InvalidOption(f"the gate {kind} wants log_vocabulary; got None.")
            entropies = (entropies / log_vocabulary).clamp(0.0, 1.0)
        signal = entropies if kind.startswith("entropy") else 1.0 - (1.0 - entropies) * (1.0 - gap)
    gate = torch.sigmoid(beta * signal)
    if center:
        gate = gate - 0.5
    return gate.detach() if detach else gate


def distillation_loss(gap: Tensor, gate: Tensor) -> Tensor:
    """SDAR's loss: `g D`, with D = T - S.

    With a detached gate its gradient is `-g grad S`: it raises every sampled token, by how much the gate says, and the
    teacher acts through the gate alone. Its value is minus an estimate of a KL, usually negative; do not read it as
    one. On policy and for small gaps, its expected gradient is beta/4 times that of KL(student || teacher).

    Args:
        gap: `(B, L)`, gradient through S.
        gate: `(B, L)` from `sdar_gate`.

    Source: SDAR (arXiv 2605.15155), Algorithm 1 and Proposition 2; verl/trainer/ppo/sdar_utils.py.
    """
    return gate * gap


def reverse_kl_loss(logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """The sampled reverse KL as a policy gradient: `-sg(D) S`.

    On policy, its expected gradient is exactly that of KL(student || teacher). A token that the teacher likes less is
    pushed down. The value means nothing.

    Args:
        logprobs: `(B, L)`, with gradient.
        teacher_logprobs: `(B, L)`.

    Source: on-policy distillation as TRL, slime and ms-swift have it; the gradient is REINFORCE with reward D.
    """
    return -(teacher_logprobs - logprobs).detach() * logprobs


def skill_sd_loss(logprobs: Tensor, old_logprobs: Tensor, teacher_logprobs: Tensor) -> Tensor:
    """Skill-SD's loss: the importance-weighted k3 of student and teacher.

    With e = S - T and rho = exp(S - O), which keeps its gradient:

        l = rho (exp(-e) - 1 + e),    grad l = rho e grad S

    The gradient is that of KL(student || teacher), corrected for the age of the rollout: without the gradient of rho it
    would be another divergence's. Exponents are clamped at 20 and 10.

    Args:
        logprobs: `(B, L)`, with gradient.
        old_logprobs: `(B, L)`.
        teacher_logprobs: `(B, L)`.

    Source: Skill-SD (arXiv 2604.10674); verl/trainer/ppo/skillsd_utils.py.
    """
    excess = logprobs - teacher_logprobs.detach()
    k3 = torch.exp((-excess).clamp(max=_MAX_EXPONENT)) - 1.0 + excess
    ratio = torch.exp((logprobs - old_logprobs.detach()).clamp(max=10.0))
    return ratio * k3
