"""Means that stay exact when a batch is cut: each metric is a sum with its weight, and only the last step divides.

A mean over the last micro-batch, or a mean of means, is what this module exists to prevent. It keeps no history and
writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Metric", "masked_metric", "merge_metrics", "reduce_metrics", "summarise"]


class Metric(NamedTuple):
    """A mean in parts; 0-d tensors without gradient.

    Attributes:
        total: the weighted sum of the values.
        weight: the sum of the weights.
        squares: the weighted sum of the squared values; None if nobody wants the spread.
    """

    total: Tensor
    weight: Tensor
    squares: Tensor | None = None


def masked_metric(values: Tensor, mask: Tensor, *, spread: bool = False) -> Metric:
    """Return the metric of the values where the mask is True, each with weight 1.

    Args:
        values: any shape.
        mask: bool, the same shape.
        spread: keep what the standard deviation needs.
    """
    # Sums over a step can have millions of terms: float32 would lose the small ones.
    kept = torch.where(mask, values.detach(), 0.0).double()
    return Metric(kept.sum(), mask.sum().double(), (kept * kept).sum() if spread else None)


def merge_metrics(parts: Iterable[Mapping[str, Metric]]) -> dict[str, Metric]:
    """Return the metrics of all parts together."""
    merged: dict[str, Metric] = {}
    for part in parts:
        for name, metric in part.items():
            before = merged.get(name)
            if before is None:
                merged[name] = metric
                continue
            squares = None
            if metric.squares is not None and before.squares is not None:
                squares = before.squares + metric.squares
            merged[name] = Metric(before.total + metric.total, before.weight + metric.weight, squares)
    return merged


def reduce_metrics(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """Return the metrics of all ranks of `torch.distributed` together; the same without a process group. Collective.

    Every rank must have the same names, which the same algorithm gives.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()) or not metrics:
        return dict(metrics)
    names = sorted(metrics)
    zero = torch.zeros((), dtype=torch.float64)
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    rows = [torch.stack([(zero if part is None else part).double().cpu() for part in metrics[name]]) for name in names]
    table = torch.stack(rows).to(device)
    torch.distributed.all_reduce(table)
    return {
        name: Metric(total, weight, None if metrics[name].squares is None else squares)
        for name, (total, weight, squares) in zip(names, table.cpu(), strict=True)
    }


def summarise(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """Return the means by name, and `<name>_std` (of the population) where the spread was kept; NaN without weight."""
    summary = {}
    for name, metric in metrics.items():
        weight = float(metric.weight)
        mean = float(metric.total) / weight if weight else math.nan
        summary[name] = mean
        if metric.squares is not None:
            variance = float(metric.squares) / weight - mean * mean if weight else math.nan
            summary[f"{name}_std"] = math.sqrt(max(variance, 0.0)) if weight else math.nan
    return summary
