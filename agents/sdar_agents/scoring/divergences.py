"""Full-vocabulary divergences between student and teacher, and their gradients in the student's logits."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sdar_agents.scoring.options import Divergence

__all__ = ["divergence", "divergence_gradient"]


def divergence(kind: Divergence, logp: Tensor, logq: Tensor, top: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Full-vocabulary divergence `(n,)` of the log-probabilities `(n, V)`, and two sums `(n,)` for its gradient.

    rkl_full   D = sum_v p_v (log p_v - log q_v)
    fkl_full   D = sum_v q_v (log q_v - log p_v)
    jsd_full   D = KL(p||M)/2 + KL(q||M)/2, M = (p + q)/2
    rkl_topk   D = sum_c P_c (log P_c - log Q_c)
    fkl_topk   D = sum_c Q_c (log Q_c - log P_c)
    jsd_topk   D = KL(P||M)/2 + KL(Q||M)/2, M = (P + Q)/2

    where the cells c are the tokens of `top` `(n, k)`, and one cell for all others. They are at most the full ones, and
    equal to them if k is V. With P and Q renormalised on the tokens of `top` and no cell for the others,

    fkl_renormalised   D = sum_c Q_c (log Q_c - log P_c)
    """
    zero = torch.zeros_like(logp[:, 0])
    if kind in ("rkl_full", "fkl_full", "jsd_full"):
        return *_between(kind, logp, logq), zero
    top_p, top_q = logp.gather(1, top), logq.gather(1, top)
    if kind == "fkl_renormalised":
        sum_p, sum_q = top_p.logsumexp(dim=-1), top_q.logsumexp(dim=-1)
        value, _ = _between("fkl_full", top_p - sum_p[:, None], top_q - sum_q[:, None])
        return value, sum_p, sum_q
    rest_p, rest_q = (part.scatter(1, top, -torch.inf).logsumexp(dim=-1) for part in (logp, logq))
    # Without a rest both are -inf and the cell is empty: it must not give -inf - -inf.
    is_empty = rest_p.isinf()
    rest = torch.where(is_empty, 0.0, rest_p - rest_q)
    if kind == "rkl_topk":
        value = (top_p.exp() * (top_p - top_q)).sum(dim=-1) + rest_p.exp() * rest
        return value, value, rest
    # A cell of probability e^-100 in both adds nothing.
    cells = [
        torch.cat((part, other.masked_fill(is_empty, -100.0)[:, None]), dim=1)
        for part, other in ((top_p, rest_p), (top_q, rest_q))
    ]
    return *_between("fkl_full" if kind == "fkl_topk" else "jsd_full", *cells), rest


def _between(kind: str, logp: Tensor, logq: Tensor) -> tuple[Tensor, Tensor]:
    """Return a divergence over all columns, and the first sum of `divergence`."""
    if kind == "fkl_full":
        return (logq.exp() * (logq - logp)).sum(dim=-1), torch.zeros_like(logp[:, 0])
    if kind == "rkl_full":
        value = (logp.exp() * (logp - logq)).sum(dim=-1)
        return value, value
    mixture = torch.logaddexp(logp, logq).sub_(math.log(2.0))
    of_p = (logp.exp() * (logp - mixture)).sum(dim=-1)
    of_q = (logq.exp() * (logq - mixture)).sum(dim=-1)
    return (of_p + of_q) / 2, of_p


def divergence_gradient(
    kind: Divergence, p: Tensor, logp: Tensor, logq: Tensor, *, sums: Tensor, top: Tensor
) -> Tensor:
    """Gradient `(n, v)` of a divergence with respect to some of the student's logits.

    rkl_full   p_v (log p_v - log q_v - D)
    fkl_full   p_v - q_v
    jsd_full   p_v (log p_v - log M_v - KL(p||M)) / 2

    of the `_topk` kinds, with c the cell of v

    rkl_topk   p_v (log P_c - log Q_c - D)
    fkl_topk   p_v (1 - Q_c / P_c)
    jsd_topk   p_v (log P_c - log M_c - KL(P||M)) / 2

    fkl_renormalised   P_v - Q_v in the top, else 0

    Args:
        kind: which.
        p: `(n, v)`.
        logp: its logarithm.
        logq: `(n, v)`, the teacher's.
        sums: `(2, n, 1)`, what `divergence` returned besides the value.
        top: `(n, k)` columns of the likeliest tokens; those outside 0 to v - 1 are not among these logits.
    """
    pivot, rest = sums[0], sums[1]
    if kind == "fkl_full":
        return p - logq.exp()
    if kind == "jsd_full":
        mixture = torch.logaddexp(logp, logq).sub_(math.log(2.0))
        return p * (logp - mixture - pivot) / 2
    ratio = logp - logq
    if kind == "rkl_full":
        return p * (ratio - pivot)
    in_top = _in_top(p, top)
    if kind == "fkl_renormalised":
        return torch.where(in_top, (logp - pivot).exp() - (logq - rest).exp(), 0.0)
    ratio = torch.where(in_top, ratio, rest)
    if kind == "rkl_topk":
        return p * (ratio - pivot)
    if kind == "fkl_topk":
        # Of single tokens p_v Q_c / P_c is q_v, which stays finite where p_v vanishes.
        return p - torch.where(in_top, logq, logp - ratio).exp()
    # log P - log M = log 2 - log(1 + Q / P)
    return p * (math.log(2.0) - F.softplus(-ratio) - pivot) / 2


def _in_top(p: Tensor, top: Tensor) -> Tensor:
    """Return which of the columns `(n, v)` are among the likeliest tokens."""
    inside = (top >= 0) & (top < p.shape[1])
    in_top = torch.zeros_like(p, dtype=torch.bool)
    rows = torch.arange(len(p), device=p.device)[:, None].expand_as(top)
    in_top[rows[inside], top[inside]] = True
    return in_top
