"""Advantage shaping: one function that reweights a row's advantage token by token, within bounds and with its sign.

    A'_t = A ((1 - lambda) + lambda clip(f(sign(A) s_t), 1 - clip, 1 + clip))

The methods that shape advantages differ in the signal s, the curve f, the bounds and the schedule of lambda:

| method | s_t | f(x) | clip | lambda |
|---|---|---|---|---|
| `rlsd` | gap T - O of the token | exp(x) | 0.2 | 0.5 to 0 in 100 steps |
| `serl` | the same, tokens of the answer alone | exp(x) | 0.2 | 0.5 to 0 in 50 steps |
| `stepopsd` | the same, tokens of the answer alone | 2 sigmoid(x) | 0.2 | 0.5 to 0 in 50 steps |
| `ocsd` | gap between two views, uncertain turns alone | 1 + tanh(x) | none | 0.5 |
| `agentopsd` | revision of the belief in success, by turn or token | 1 + 0.2 x | 0.2 | 0.5 |
| `grsd` | expm1(sign(A) gap) over its group's mean size | 1 + x | 0.2 | 0.5 |

The bases of these methods are here too: `TokenShaping`, whose signal is the gap of each token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from sdar_agents.algorithms.algorithm import TokenAdvantages
from sdar_agents.algorithms.declarations import Declarations
from sdar_agents.algorithms.gap import gap
from sdar_agents.algorithms.grpo import GRPO
from sdar_agents.algorithms.schedules import warmed_down
from sdar_agents.scoring.batch import Batch
from sdar_agents.scoring.head import Scores
from sdar_agents.scoring.metrics import Metric, masked_metric
from sdar_agents.scoring.shapes import check_shapes
from sdar_agents.settings.checks import setting
from sdar_envs.errors import InvalidOption, did_you_mean

__all__ = ["AnswerShaping", "Curve", "TokenShaping", "shape", "shaping_metrics"]

Curve = Literal["exp", "sigmoid", "tanh", "linear"]
"""f of `shape`: exp(x), 2 sigmoid(x), 1 + tanh(x), 1 + slope x. All are 1 at 0 and increase."""

_MAX_EXPONENT = 20.0


def shape(
    advantages: Tensor,
    signal: Tensor,
    *,
    coefficient: float,
    curve: Curve = "exp",
    clip: float | None = 0.2,
    slope: float = 1.0,
    is_signed: bool = False,
    least: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Shaped advantages `A ((1 - lambda) + lambda w)` with the weights `w = clip(f(sign(A) s), 1 - clip, 1 + clip)`.

    A token with a positive signal gets more of a positive advantage and less of a negative one. With weights from 0 on,
    the sign is always the row's. A signal of 0 leaves the advantage as it is, bit for bit, as does a lambda of 0.

    Args:
        advantages: `(B,)`, A.
        signal: `(B, L)`, s; 0 where nothing is shaped.
        coefficient: lambda, from 0 to 1.
        curve: f, see `Curve`.
        clip: the most that a weight differs from 1; None for no bounds.
        slope: of the linear curve.
        is_signed: the signal has been multiplied by sign(A) already.
        least: the least factor of an advantage; None for none. For bounds above 1, where the sign could turn.

    Returns:
        `(B, L)` each, without gradient: shaped advantages, weights.

    Raises:
        InvalidOption: shapes do not match, or there is no such curve.
    """
    check_shapes("BL", signal=signal)
    if advantages.shape != signal.shape[:1]:
        raise InvalidOption(
            f"advantages must have the shape (B,) = {tuple(signal.shape[:1])} of signal: got {tuple(advantages.shape)}."
        )
    row = advantages.detach()[:, None]
    argument = signal.detach() if is_signed else row.sign() * signal.detach()
    if curve == "exp":
        # Clamped before exp: the clip makes them equal, and a gap of 100 stays finite.
        weights = argument.clamp(-_MAX_EXPONENT, _MAX_EXPONENT).exp()
    elif curve == "sigmoid":
        weights = 2.0 * torch.sigmoid(argument)
    elif curve == "tanh":
        weights = 1.0 + torch.tanh(argument)
    elif curve == "linear":
        weights = 1.0 + slope * argument
    else:
        known = get_args(Curve)
        raise InvalidOption(f"no curve {curve!r}; wanted one of {', '.join(known)}.{did_you_mean(curve, known)}")
    if clip is not None:
        weights = weights.clamp(1.0 - clip, 1.0 + clip)
    factors = (1.0 - coefficient) + coefficient * weights
    if least is not None:
        factors = factors.clamp(min=least)
    return row * factors, weights


def shaping_metrics(weights: Tensor, shaped: Tensor, mask: Tensor, coefficient: float) -> dict[str, Metric]:
    """Metrics of the weights of a method that shapes advantages.

    Args:
        weights: `(B, L)`.
        shaped: `(B, L)` bool, the tokens that can be shaped.
        mask: `(B, L)` bool, all trained tokens.
        coefficient: lambda.
    """
    return {
        "distill/weight": masked_metric(weights, shaped, spread=True),
        "distill/shaping_coef": masked_metric(weights.new_full(weights.shape, coefficient), mask),
    }


@dataclass(frozen=True, kw_only=True)
class TokenShaping(GRPO):
    """Base of the methods whose teacher reweights advantages by the gap T - O of each token.

    Attributes:
        shaping_coef: lambda at the start.
        warmdown_steps: lambda reaches 0 at this step; 0 for a constant lambda.
        weight_clip: the most that a token's weight differs from 1.
    """

    needs_teacher: ClassVar[bool] = True
    curve: ClassVar[Curve] = "exp"

    shaping_coef: float = setting(0.5, low=0, high=1)
    warmdown_steps: int = setting(100, low=0)
    weight_clip: float = setting(0.2, low=0, high=1)

    def declarations(self) -> Declarations:
        """Return what holds for every setting: the sign is kept, and factors are within bounds."""
        size = self.shaping_coef * self.weight_clip
        return Declarations(off={"shaping_coef": 0.0}, base=GRPO, bounds=(1.0 - size, 1.0 + size))

    def shaped_mask(self, batch: Batch) -> Tensor:
        """Return the tokens `(B, L)` that are shaped."""
        return batch.teacher_mask

    def _has_own_terms(self) -> bool:
        # A factor of the advantage leaves 0 at 0.
        is_shaped = type(self).token_advantages is TokenShaping.token_advantages
        others = ("loss", "_policy_losses")
        return not is_shaped or any(getattr(type(self), name) is not getattr(GRPO, name) for name in others)

    def token_advantages(self, batch: Batch, scores: Scores, step: int) -> TokenAdvantages:
        """Return the advantages per token, reweighted by the gap to the policy of the rollout."""
        old_gap = gap(batch, scores, "old").masked_fill(~batch.teacher_mask, 0.0)
        mask = self.shaped_mask(batch)
        coefficient = warmed_down(self.shaping_coef, step, self.warmdown_steps)
        advantages, weights = shape(
            batch.part("advantages"),
            old_gap.masked_fill(~mask, 0.0),
            coefficient=coefficient,
            curve=self.curve,
            clip=self.weight_clip,
        )
        return TokenAdvantages(advantages, old_gap, shaping_metrics(weights, mask, batch.mask, coefficient))


@dataclass(frozen=True, kw_only=True)
class AnswerShaping(TokenShaping):
    """Base of the methods that shape the tokens of the answer alone, those behind the thought.

    Attributes:
        shaped_tokens: `answer`, or `all` tokens.
        warmdown_steps: lambda reaches 0 at this step; 0 for a constant lambda.
    """

    shaped_tokens: Literal["answer", "all"] = "answer"
    warmdown_steps: int = setting(50, low=0)

    @property
    def needs_turns(self) -> bool:
        """Whether thought and answer of a turn are told apart."""
        return self.shaped_tokens == "answer"

    def shaped_mask(self, batch: Batch) -> Tensor:
        """Return the tokens `(B, L)` that are shaped; none of a row whose thought has an unknown end."""
        if self.shaped_tokens == "all":
            return batch.teacher_mask
        if batch.answer_mask is None:
            if not batch.teacher_mask.any():
                return batch.teacher_mask
            raise InvalidOption(
                f"{type(self).__name__} shapes the tokens behind the thought, and no row knows where that ends: make "
                "rows with make_rows(trajectory, decode=...), or set shaped_tokens to all."
            )
        return batch.teacher_mask & batch.answer_mask
