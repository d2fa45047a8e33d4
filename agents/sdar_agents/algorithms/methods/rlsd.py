"""RLSD: GRPO whose advantages the teacher reweights token by token, within bounds and with the row's sign.

    A_t = A ((1 - lambda) + lambda clip(exp(sign(A) (T_t - O_t)), 1 - weight_clip, 1 + weight_clip))

lambda falls to 0 over the first `warmdown_steps`; from then on, RLSD is GRPO. Rows without a teacher keep their
advantage.

Source: RLSD (arXiv 2604.03128); verl/trainer/ppo/rlsd_utils.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from sdar_agents.algorithms.shaping import TokenShaping

__all__ = ["RLSD"]


@dataclass(frozen=True, kw_only=True)
class RLSD(TokenShaping):
    """RLSD: GRPO with advantages that the teacher reweights token by token."""
