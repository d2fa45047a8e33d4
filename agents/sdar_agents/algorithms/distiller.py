"""Base of the methods that add a distillation term to GRPO's loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.grpo import GRPO, Coefficients
from sdar_agents.algorithms.schedules import warmed_down
from sdar_agents.settings.checks import setting

__all__ = ["Distiller"]


@dataclass(frozen=True, kw_only=True)
class Distiller(GRPO):
    """GRPO with a distillation term: `L = L_GRPO + distill_coef agg(term)`.

    Subclasses give the term by `distillation`. Rows without a teacher take no part in it; the weights of the others are
    what they would be with it.

    Attributes:
        distill_coef: factor of the term.
        distill_first_step: the first step with the term.
        distill_last_step: the last step with the term; null for the run's last.
        distill_warmdown_steps: the factor falls linearly and reaches 0 at this step; 0 for a constant factor.
    """

    needs_teacher: ClassVar[bool] = True

    distill_coef: float = setting(0.01, low=0)
    distill_first_step: int = setting(1, low=1)
    distill_last_step: int | None = setting(None, low=1)
    distill_warmdown_steps: int = setting(0, low=0)

    def declarations(self) -> Declarations:
        """Return that without its coefficient it is GRPO."""
        return Declarations(off={"distill_coef": 0.0}, base=GRPO)

    def distills(self, step: int) -> bool:
        """Return whether the loss has a distillation term at a step."""
        return self.distill_coef != 0 and super().distills(step)

    def coefficients(self, step: int) -> Coefficients:
        """Return the factors of the loss's terms at a step."""
        is_on = self.distill_first_step <= step and (self.distill_last_step is None or step <= self.distill_last_step)
        factor = warmed_down(1.0, step, self.distill_warmdown_steps) if is_on else 0.0
        return super().coefficients(step)._replace(distill=factor)
