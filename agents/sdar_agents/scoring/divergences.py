"""Full-vocabulary divergences between student and teacher, and their gradients in the student's logits."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdar_agents.scoring.options import Divergence

__all__ = ["divergence", "divergence_gradient"]


def divergence(kind: Divergence, logp: Tensor, logq: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Full-vocabulary divergence `(n,)` of the log-probabilities `(n, V)`, and two sums `(n,)` for its gradient.

    rkl_full   D = sum_v p_v (log p_v - log q_v)
    fkl_full   D = sum_v q_v (log q_v - log p_v)
    jsd_full   D = KL(p||M)/2 + KL(q||M)/2, M = (p + q)/2
    rkl_topk   D = sum_c P_c (log P_c - log Q_c)

    where the cells c are p's likeliest tokens, `top` `(n, k)`, and one cell for all others. rkl_topk is at most
    rkl_full, and equal to it if k is V.
    """
    p = logp.exp()
    zero = torch.zeros_like(p[:, 0])
    if kind == "fkl_full":
        return (logq.exp() * (logq - logp)).sum(dim=-1), zero, zero
    if kind == "jsd_full":
        mixture = torch.logaddexp(logp, logq).sub_(math.log(2.0))
        of_p = (p * (logp - mixture)).sum(dim=-1)
        of_q = (logq.exp() * (logq - mixture)).sum(dim=-1)
        return (of_p + of_q) / 2, of_p, zero
    if kind == "rkl_full":
        value = (p * (logp - logq)).sum(dim=-1)
        return value, value, zero
    rest_p, rest_q = (part.scatter(1, top, -torch.inf).logsumexp(dim=-1) for part in (logp, logq))
    # Without a rest both are -inf and the cell is empty: it must not give -inf - -inf.
    rest = torch.where(rest_p.isinf(), 0.0, rest_p - rest_q)
    value = (p.gather(1, top) * (logp - logq).gather(1, top)).sum(dim=-1) + rest_p.exp() * rest
    return value, value, rest


def divergence_gradient(
    kind: Divergence, p: Tensor, logp: Tensor, logq: Tensor, *, sums: Tensor, top: Tensor
) -> Tensor:
    """Gradient `(n, v)` of a divergence with respect to some of the student's logits.

    rkl_full   p_v (log p_v - log q_v - D)
    fkl_full   p_v - q_v
    jsd_full   p_v (log p_v - log M_v - KL(p||M)) / 2
    rkl_topk   p_v (log P_c - log Q_c - D), with c the cell of v

    Args:
        kind: which.
        p: `(n, v)`.
        logp: its logarithm.
        logq: `(n, v)`, the teacher's.
        sums: `(2, n, 1)`, what `divergence` returned besides the value.
        top: `(n, k)` columns of the likeliest tokens; those outside 0 to v - 1 are not among these logits.
    """
    if kind == "fkl_full":
        return p - logq.exp()
    pivot, rest = sums[0], sums[1]
    if kind == "jsd_full":
        mixture = torch.logaddexp(logp, logq).sub_(math.log(2.0))
        return p * (logp - mixture - pivot) / 2
    ratio = logp - logq
    if kind == "rkl_topk":
        inside = (top >= 0) & (top < p.shape[1])
        in_top = torch.zeros_like(p, dtype=torch.bool)
        rows = torch.arange(len(p), device=p.device)[:, None].expand_as(top)
        in_top[rows[inside], top[inside]] = True
        ratio = torch.where(in_top, ratio, rest)
    return p * (ratio - pivot)
