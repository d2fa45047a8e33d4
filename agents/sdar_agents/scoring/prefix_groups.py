"""Scoring with shared prompt prefixes: rows are grouped by prefix, and each prefix is encoded once per group.

The teacher's prompts of a task share the skills, which are most of them. On a CPU it needs `can_share_prefix(model)`,
on an accelerator `can_cache_prefix(model)`; other models are scored row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from sdar_agents.scoring.batch import Sequences, pack_by_length
from sdar_agents.scoring.head import head_scores
from sdar_agents.scoring.logprobs import score_rows
from sdar_agents.scoring.model_parts import causal_lm, language_backbone, plain_head, scoring_mode
from sdar_agents.scoring.options import DEFAULT_OPTIONS, ScoringOptions
from sdar_agents.scoring.prefix_cache import can_cache_prefix, encode_prefix
from sdar_agents.scoring.shared_prefix import can_share_prefix, shared_prefix

__all__ = ["prefix_groups", "score_prefix_groups"]


@torch.no_grad()
def score_prefix_groups(
    model: nn.Module,
    sequences: Sequences,
    mask: Tensor,
    options: ScoringOptions = DEFAULT_OPTIONS,
    *,
    max_tokens: int,
    least_prefix: int = 64,
) -> Tensor:
    """Log-probabilities without gradients; each shared prompt prefix is encoded once.

    Equal to `score_rows(...).logprobs` but for rounding.

    Args:
        model: as for `score`; the micro-batches are moved to its device.
        sequences: `(B, T)`.
        mask: `(B, L)` bool. Rows without a token to score are not read.
        options: as for `score`; `packing` is for rows that share nothing.
        max_tokens: of a micro-batch, without the prefix.
        least_prefix: a shorter prefix is encoded again for each row.

    Returns:
        `(B, L)` log-probs, float32 on the device of the mask.
    """
    result = torch.zeros(mask.shape, device=mask.device)
    scored = mask.any(dim=1)
    alone = scored.clone()
    if can_share_prefix(causal_lm(model)) or can_cache_prefix(causal_lm(model)):
        for index, length in prefix_groups(sequences, scored.nonzero()[:, 0], least_prefix)[1]:
            alone[index] = False
            rows, width = sequences.select(index), int(sequences.response_lengths[index].max())
            result[index, :width] = _score_group(
                model, rows, mask[index, :width], length, options, max_tokens=max_tokens
            ).to(result)
    rest = alone.nonzero()[:, 0]
    if len(rest):
        piece = sequences.select(rest)
        width = int(piece.response_lengths.max())
        scores = score_rows(model, piece, mask[rest, :width], options, max_tokens=max_tokens)
        result[rest, :width] = scores.logprobs
    return result


def prefix_groups(
    sequences: Sequences, index: Tensor, least: int, depth: int = 100
) -> tuple[int, list[tuple[Tensor, int]]]:
    """Group rows by shared prompt prefix, so that the fewest tokens are encoded twice.

    Args:
        sequences: all rows.
        index: the rows to group.
        least: tokens that the rows of a group must have in common.
        depth: how often groups may be divided.

    Returns:
        How many tokens that saves, and the groups: rows, and the length of their prefix. Rows that are in none are left
        out. The last token of a prompt is never part of a prefix: it predicts the first of the response.
    """
    if len(index) < 2:
        return 0, []
    limit = int(sequences.prompt_lengths[index].min()) - 1
    ids = sequences.input_ids[index, :limit]
    differs = (ids != ids[:1]).any(dim=0).nonzero()
    length = int(differs[0, 0]) if len(differs) else limit
    together = (length * (len(index) - 1), [(index, length)]) if length >= least else (0, [])
    if length == limit or not depth:
        return together
    following = sequences.input_ids[index, length]
    tokens = sorted(set(following.tolist()))
    parts = [prefix_groups(sequences, index[following == token], least, depth - 1) for token in tokens]
    apart = sum(saved for saved, _ in parts), [group for _, groups in parts for group in groups]
    return apart if apart[0] > together[0] else together


def _score_group(
    model: nn.Module, sequences: Sequences, mask: Tensor, length: int, options: ScoringOptions, *, max_tokens: int
) -> Tensor:
    """Return the log-probs `(b, l)` of rows that have their first `length` tokens in common."""
    backbone = language_backbone(model)
    weight, bias = plain_head(model)
    result = torch.zeros(mask.shape)
    device = weight.device
    sequences, mask = sequences.to(device), mask.to(device)
    with scoring_mode(model), _prefix(model, backbone, sequences.input_ids[:1, :length]) as read:
        for rows in pack_by_length((sequences.lengths - length).tolist(), max_tokens):
            piece = sequences.select(torch.tensor(rows, device=device))
            own = mask[rows, : int(piece.response_lengths.max())]
            suffix = piece.input_ids[:, length:]
            positions = torch.arange(length, piece.input_ids.shape[1], device=device).expand_as(suffix)
            output = backbone(input_ids=suffix, position_ids=positions, **read())
            i, j = own.nonzero(as_tuple=True)
            at = piece.prompt_lengths[i] + j
            states = output.last_hidden_state[i, at - 1 - length]
            scores = head_scores(states, weight, bias, piece.input_ids[i, at], options).logprobs
            spread = torch.zeros(own.shape, device=device).masked_scatter(own, scores.float())
            result[rows, : own.shape[1]] = spread.cpu()
    return result


@contextmanager
def _prefix(model: nn.Module, backbone: nn.Module, input_ids: Tensor) -> Iterator[Callable[[], dict[str, Any]]]:
    """Context with an encoded prefix `(1, P)`; yields a function that returns the arguments of a pass over suffixes."""
    if not can_share_prefix(causal_lm(model)):
        keys = encode_prefix(backbone, causal_lm(model).config, input_ids)
        yield lambda: {"use_cache": True, **keys.read()}
        return
    with shared_prefix(causal_lm(model)) as cache:
        backbone(input_ids=input_ids, use_cache=False, **cache.write())
        yield lambda: {"use_cache": False, **cache.read()}
