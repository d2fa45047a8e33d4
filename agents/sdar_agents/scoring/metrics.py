"""Weighted means that aggregate exactly over micro-batches and ranks.

A metric is a sum and its weight; only `summarise` divides. So no metric is the mean of the last micro-batch, nor a mean
of means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sdar_envs.errors import InvalidOption

__all__ = ["Metric", "masked_metric", "merge_metrics", "reduce_metrics", "summarise"]


class Metric(NamedTuple):
    """A weighted mean as sum and weight; 0-d tensors without gradient.

    Attributes:
        total: the weighted sum of the values.
        weight: the sum of the weights.
        squares: the weighted sum of the squared values; None without the standard deviation.
    """

    total: Tensor
    weight: Tensor
    squares: Tensor | None = None


def masked_metric(values: Tensor, mask: Tensor, *, spread: bool = False) -> Metric:
    """Mean over the values where the mask is True.

    Args:
        values: any shape.
        mask: bool, the same shape.
        spread: the standard deviation too.

    Raises:
        InvalidOption: the shapes differ.
    """
    if values.shape != mask.shape:
        raise InvalidOption(f"mask must have the shape of values, {tuple(values.shape)}: got {tuple(mask.shape)}.")
    # Sums over a step can have millions of terms: float32 would lose the small ones.
    kept = torch.where(mask, values.detach(), 0.0).double()
    return Metric(kept.sum(), mask.sum().double(), (kept * kept).sum() if spread else None)


def merge_metrics(parts: Iterable[Mapping[str, Metric]]) -> dict[str, Metric]:
    """Merge the metrics of micro-batches."""
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
    """Merge the metrics of all ranks of `torch.distributed`; without a process group nothing changes. Collective.

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
    """Return means by name, and `<name>_std` (population standard deviation) where kept; NaN without weight."""
    summary = {}
    for name, metric in metrics.items():
        weight = float(metric.weight)
        mean = float(metric.total) / weight if weight else math.nan
        summary[name] = mean
        if metric.squares is not None:
            variance = float(metric.squares) / weight - mean * mean if weight else math.nan
            summary[f"{name}_std"] = math.sqrt(max(variance, 0.0)) if weight else math.nan
    return summary
