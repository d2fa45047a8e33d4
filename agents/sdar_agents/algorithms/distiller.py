"""Base of the methods that add a distillation term to GRPO's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.settings.checks import setting

__all__ = ["Distiller"]


@dataclass(frozen=True, kw_only=True)
class Distiller(GRPO):
    """GRPO with a distillation term: `L = L_GRPO + distill_coef agg(term)`.

    Subclasses give the term by `distillation`. Rows without a teacher take no part in it; the weights of the others are
    what they would be with it.

    Attributes:
        distill_coef: factor of the term.
    """

    needs_teacher: ClassVar[bool] = True

    distill_coef: float = setting(0.01, low=0)
