"""Metrics of a record that follow from its episodes alone, whoever played them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sdar_benchmarks.analysis.summary import PanelSummary, Summary

__all__ = ["played_metrics"]


def played_metrics(summary: PanelSummary) -> dict[str, Any]:
    """Return the metrics that playing the actions again gives again; no times, tokens and costs.

    Args:
        summary: of a panel that says how many actions were invalid.
    """
    numbers = summary.total
    assert numbers.invalid_share is not None
    return {
        "success": _interval(numbers.success_rate, numbers.success_interval),
        "score": _interval(numbers.mean_score, numbers.score_interval),
        "steps": round(numbers.mean_steps, 4),
        "invalid": round(numbers.invalid_share, 6),
        "pass_at_k": {k: round(mean, 6) for k, (mean, _, _) in numbers.pass_at_k.items()},
        "task_types": _groups(summary.task_types),
        "data_sets": _groups(summary.data_sets),
    }


def _groups(summaries: Mapping[str, Summary]) -> dict[str, dict[str, float]]:
    return {
        name: {
            "episodes": numbers.episodes,
            "success": round(numbers.success_rate, 6),
            "score": round(numbers.mean_score, 6),
        }
        for name, numbers in summaries.items()
    }


def _interval(value: float, interval: Sequence[float]) -> dict[str, float]:
    low, high = interval
    return {"value": round(value, 6), "low": round(low, 6), "high": round(high, 6)}
