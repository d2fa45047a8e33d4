"""Weighted means that aggregate exactly over micro-batches and ranks.

A metric is a sum and its weight; only `summarise` divides. So no metric is the mean of the last micro-batch, nor a mean
of means.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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

    A rank may lack some: no row of its share had such a token.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return dict(metrics)
    own = {name: [None if part is None else float(part) for part in metric] for name, metric in metrics.items()}
    found: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(found, own)
    return merge_metrics(
        {
            name: Metric(*(None if part is None else torch.tensor(part, dtype=torch.float64) for part in parts))  # type: ignore[arg-type]
            for name, parts in each.items()
        }
        for each in found
    )


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
