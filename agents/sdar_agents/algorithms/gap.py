"""Teacher-student gap: teacher minus student log-probability of each sampled token, and its metrics."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import Metric, masked_metric
from sdar_agents.scoring.shapes import check_shapes
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = ["GapKind", "conflict_metric", "gap", "gap_metrics"]

GapKind = Literal["current", "old"]
"""Which policy the gap is to: the current one (D = T - S), or that of the rollout (d = T - O, as in RLSD)."""


def gap(batch: Batch, scores: Scores, kind: GapKind = "current") -> Tensor:
    """Teacher-student gap: teacher minus student log-probability of each sampled token.

        current    D = T - S, with the gradient of S
        old        d = T - O, without gradient

    Args:
        batch: with `teacher_logprobs` (T), and `old_logprobs` (O) for `old`.
        scores: of the current policy (S).
        kind: see above.

    Returns:
        `(B, L)`, in nats. Only places of `batch.teacher_mask` mean anything.

    Raises:
        InvalidOption: the batch lacks log-probs, shapes do not match, or there is no such kind.
    """
    if kind not in get_args(GapKind):
        known = get_args(GapKind)
        raise InvalidOption(f"no gap {kind!r}; wanted {' or '.join(known)}.{did_you_mean(kind, known)}")
    teacher = batch.part("teacher_logprobs").detach()
    student = scores.logprobs if kind == "current" else batch.part("old_logprobs").detach()
    name = "logprobs" if kind == "current" else "old_logprobs"
    check_shapes("BL", **{"teacher_logprobs": teacher, name: student})
    return teacher - student


def gap_metrics(values: Tensor, batch: Batch) -> dict[str, Metric]:
    """Metrics of the gap `(B, L)`: mean, standard deviation, shares above 0 and of exactly 0, share with a teacher.

    A gap of exactly 0 on many tokens means that teacher and student had the same prompt.
    """
    mask = batch.teacher_mask
    return {
        "distill/gap": masked_metric(values, mask, spread=True),
        "distill/gap_positive": masked_metric(values > 0, mask),
        "distill/gap_zero": masked_metric(values == 0, mask),
        "distill/has_teacher": masked_metric(mask, batch.mask),
    }


def conflict_metric(values: Tensor, gate: Tensor | None, advantages: Tensor, batch: Batch) -> Metric:
    """Share of the teacher's weight that is on tokens where gap and advantage have opposite signs, A D < 0.

    Args:
        values: `(B, L)`, the gap; its size is the weight of a token without a gate.
        gate: `(B, L)`; None without one.
        advantages: `(B,)` or `(B, L)`.
        batch: the micro-batch.
    """
    rows = advantages if advantages.dim() == 2 else advantages[:, None]
    weights = torch.where(batch.teacher_mask, (values if gate is None else gate).detach().abs(), 0.0).double()
    return Metric((weights * (rows * values < 0)).sum(), weights.sum())
