"""SERL: GRPO whose advantages a stale copy of the policy reweights on the tokens of the answer.

    A_t = A ((1 - lambda) + lambda clip(exp(sign(A) (T_t - O_t)), 1 - weight_clip, 1 + weight_clip))

for the tokens behind the thought; those of the thought keep A. lambda falls from 0.5 to 0 in 50 steps. SERL's teacher
is the policy of up to ten steps ago (`learner.teacher: lagged`) and reads hindsight, such as the next observation or a
successful peer.

Source: SERL (arXiv 2605.19447), from its released code; the paper's text was not available. Of its 21 kinds of
hindsight none is chosen here: the context is a setting of the run.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdar_agents.algorithms.shaping import AnswerShaping

__all__ = ["SERL"]


@dataclass(frozen=True, kw_only=True)
class SERL(AnswerShaping):
    """SERL: GRPO with advantages that the teacher reweights on the tokens of the answer."""
