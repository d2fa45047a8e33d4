"""Schedules of coefficients over the steps of a run."""

from __future__ import annotations

__all__ = ["warmed_down"]


def warmed_down(coefficient: float, step: int, steps: int) -> float:
    """Return a coefficient that falls linearly to 0: `coefficient (1 - step / steps)`, and 0 from then on.

    Args:
        coefficient: at the start.
        step: of the run, from 1.
        steps: of the warm-down; 0 for none.
    """
    if steps == 0:
        return coefficient
    return coefficient * (1.0 - step / steps) if step < steps else 0.0
