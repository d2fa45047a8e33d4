"""Scoring with shared prompt prefixes: what rows have in common at their beginning is encoded once.

The teacher's prompts of a task share the skills, which are most of them. On a CPU rows are packed as prefix trees
(`can_pack_trees(model)`); on an accelerator they are grouped by prefix, and each group reads a cache of its keys
(`can_cache_prefix(model)`); other models are scored row by row.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from sdar_agents.scoring.batch import Sequences, pack_by_length
from sdar_agents.scoring.head import head_scores
from sdar_agents.scoring.logprobs import score_rows
from sdar_agents.scoring.model_parts import causal_lm, language_backbone, plain_head, scoring_mode
from sdar_agents.scoring.options import DEFAULT_OPTIONS, ScoringOptions
from sdar_agents.scoring.packing import can_pack_trees, packing_for_now
from sdar_agents.scoring.prefix_cache import can_cache_prefix, encode_prefix

__all__ = ["prefix_groups", "score_shared_prefixes"]


@torch.no_grad()
def score_shared_prefixes(
    model: nn.Module,
    sequences: Sequences,
    mask: Tensor,
    options: ScoringOptions = DEFAULT_OPTIONS,
    *,
    max_tokens: int,
    least_prefix: int = 64,
) -> Tensor:
    """Log-probabilities without gradients; shared prompt prefixes are encoded once.

    Equal to `score_rows(...).logprobs` but for rounding.

    Args:
        model: as for `score`; the micro-batches are moved to its device.
        sequences: `(B, T)`.
        mask: `(B, L)` bool. Rows without a token to score are not read.
        options: as for `score`.
        max_tokens: of a micro-batch, on an accelerator without the prefix.
        least_prefix: on an accelerator, a shorter prefix is encoded again for each row.

    Returns:
        `(B, L)` log-probs, float32 on the device of the mask.
    """
    result = torch.zeros(mask.shape, device=mask.device)
    scored = mask.any(dim=1)
    alone = scored.clone()
    lm = causal_lm(model)
    packs = can_pack_trees(lm)
    if can_cache_prefix(lm):
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
        options = replace(options, packing=True) if packs else options
        with packing_for_now(lm) if packs else nullcontext():
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
    with scoring_mode(model):
        prefix = encode_prefix(backbone, causal_lm(model).config, sequences.input_ids[:1, :length])
        for rows in pack_by_length((sequences.lengths - length).tolist(), max_tokens):
            piece = sequences.select(torch.tensor(rows, device=device))
            own = mask[rows, : int(piece.response_lengths.max())]
            suffix = piece.input_ids[:, length:]
            positions = torch.arange(length, piece.input_ids.shape[1], device=device).expand_as(suffix)
            output = backbone(input_ids=suffix, position_ids=positions, use_cache=True, **prefix.read())
            i, j = own.nonzero(as_tuple=True)
            at = piece.prompt_lengths[i] + j
            states = output.last_hidden_state[i, at - 1 - length]
            scores = head_scores(states, weight, bias, piece.input_ids[i, at], options).logprobs
            spread = torch.zeros(own.shape, device=device).masked_scatter(own, scores.float())
            result[rows, : own.shape[1]] = spread.cpu()
    return result
