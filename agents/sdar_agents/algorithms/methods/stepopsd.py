"""StepOPSD: GRPO whose advantages a stale copy of the policy reweights, with an equal budget for each turn.

    A_t = A ((1 - lambda) + lambda clip(2 sigmoid(sign(A) (T_t - O_t)), 1 - weight_clip, 1 + weight_clip))

for the tokens behind the thought; those of the thought keep A. lambda falls from 0.5 to 0 in 50 steps. Turns count
equally, however long they are: the aggregation is `seq-mean-token-mean`. Its teacher is the policy of about ten steps
ago (`learner.teacher: lagged`) and reads the first successful episode of the group.

Source: StepOPSD (arXiv 2605.27140), from a summary of the paper. No code was released; the equal budget is read as the
aggregation above.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from sdar_agents.algorithms.shaping import AnswerShaping, Curve
from sdar_agents.scoring.batch import Aggregation

__all__ = ["StepOPSD"]


@dataclass(frozen=True, kw_only=True)
class StepOPSD(AnswerShaping):
    """StepOPSD: GRPO with advantages that the teacher reweights, each turn with the same budget."""

    curve: ClassVar[Curve] = "sigmoid"

    aggregation: Aggregation = "seq-mean-token-mean"
