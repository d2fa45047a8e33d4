"""Token marks: the teacher's gap and SDAR's gate of every sampled token, for the viewer.

    result = learner.learn(rows, step, keep_signals=True)
    marks = token_marks(rows, result.signals, policy.decode)  # one list per row, one dictionary per token

`sdar view` colours a turn's tokens by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdar_agents.types import Row
from sdar_envs.errors import InvalidOption

__all__ = ["TokenSignals", "token_marks", "turn_marks"]


class TokenSignals(NamedTuple):
    """Gap and gate of every token of a step's rows, on the CPU.

    Attributes:
        gaps: `(B, L)` float32, teacher minus student log-probability in nats, as the method's loss takes it; NaN for
            tokens that are not trained, and for rows without a teacher.
        gates: `(B, L)` float32, NaN in the same places, and everywhere if the method has no gate.
    """

    gaps: Tensor
    gates: Tensor

    @classmethod
    def empty(cls, rows: int, columns: int) -> TokenSignals:
        """Return signals of so many rows and columns, all NaN."""
        return cls(torch.full((rows, columns), math.nan), torch.full((rows, columns), math.nan))


def token_marks(rows: Sequence[Row], signals: TokenSignals, decode: Callable[[int], str]) -> list[list[dict[str, Any]]]:
    """Text, gap and gate of every token, for the viewer.

    Args:
        rows: of a step.
        signals: `LearnResult.signals` of these rows.
        decode: returns the text of a token id, such as `TransformersPolicy.decode`.

    Returns:
        For each row, in order, a list with one `{"text": str, "gap": float, "gate": float}` per response token. A
        number that is unknown or not finite is left out, so that all of it can be written as JSON.

    Raises:
        InvalidOption: there is not one row of signals per row.
    """
    if len(rows) != len(signals.gaps):
        raise InvalidOption(f"signals must align with the rows: got {len(signals.gaps)}, expected {len(rows)}.")
    marks = []
    for row, gaps, gates in zip(rows, signals.gaps.tolist(), signals.gates.tolist(), strict=True):
        # Signals are as wide as the longest response.
        tokens: list[dict[str, Any]] = []
        for token, gap, gate in zip(row.response_ids, gaps, gates, strict=False):
            numbers = {name: value for name, value in (("gap", gap), ("gate", gate)) if math.isfinite(value)}
            tokens.append({"text": decode(token), **numbers})
        marks.append(tokens)
    return marks


def turn_marks(rows: Sequence[Row], marks: Sequence[list[dict[str, Any]]]) -> list[list[dict[str, Any]]]:
    """Return the marks of each turn: those of a row of several turns are divided among them.

    Args:
        rows: of a step.
        marks: of these rows, see `token_marks`.
    """
    divided: list[list[dict[str, Any]]] = []
    for row, tokens in zip(rows, marks, strict=True):
        if row.token_turns is None:
            divided.append(tokens)
            continue
        turns: list[list[dict[str, Any]]] = [[] for _ in range(max(row.token_turns, default=-1) + 1)]
        for token, turn in zip(tokens, row.token_turns, strict=True):
            if turn >= 0:
                turns[turn].append(token)
        divided += turns
    return divided
