"""Log-probabilities of response tokens under a causal language model, with entropies and divergences.

The backbone runs once; the head runs on the positions that predict trained response tokens, a chunk at a time
(`sdar_agents.scoring.head`), so the `(B, T, V)` logits never exist. All values are in nats.

It refuses models whose logits are not the plain product of states and head (soft caps, scales), dropout while
gradients are computed, and prompts without tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sdar_agents.scoring.batch import Batch, Sequences, pack_rows
from sdar_agents.scoring.head import Scores, TeacherView, head_scores
from sdar_agents.scoring.model_parts import causal_lm, language_backbone, plain_head, scoring_mode
from sdar_agents.scoring.options import DEFAULT_OPTIONS, ScoringOptions
from sdar_agents.scoring.packing import is_packing_enabled, packed, packs_trees
from sdar_agents.scoring.prefix_tree import LEAST_SHARED, prefix_tree
from sdar_agents.scoring.shapes import check_shapes
from sdar_envs.errors import InvalidOption

__all__ = ["response_states", "score", "score_rows", "view_teacher"]


def score(
    model: nn.Module,
    sequences: Sequences,
    mask: Tensor,
    options: ScoringOptions = DEFAULT_OPTIONS,
    *,
    teacher: TeacherView | None = None,
) -> Scores:
    """Log-probabilities of the response tokens under a causal language model.

    Column j of the result is `log softmax(z / temperature)[y_j]`, with z the logits at the token before response
    token j. Where the mask is False, values are 0 and no gradient flows. With gradients enabled the result is
    differentiable; without, the model is in evaluation mode for the time of the call.

    Args:
        model: a Hugging Face causal language model, or peft around one.
        sequences: `(B, T)`.
        mask: `(B, L)` bool, the tokens to score.
        options: temperature, and what to compute besides log-probs.
        teacher: see `view_teacher`; for the same rows and the same mask; needed by a divergence.

    Returns:
        `Scores` of `(B, L)` float32.

    Raises:
        InvalidOption: see above, and the module.
    """
    with scoring_mode(model):
        states = response_states(model, sequences, mask, packing=options.packing)
        weight, bias = plain_head(model)
        rows, columns = mask.nonzero(as_tuple=True)
        targets = sequences.input_ids[rows, sequences.prompt_lengths[rows] + columns]
        flat = head_scores(states, weight, bias, targets, options, teacher=teacher)
    spread = [None if part is None else part.new_zeros(mask.shape).masked_scatter(mask, part) for part in flat]
    return Scores(*spread)  # type: ignore[arg-type]


@torch.no_grad()
def score_rows(
    model: nn.Module,
    sequences: Sequences,
    mask: Tensor,
    options: ScoringOptions = DEFAULT_OPTIONS,
    *,
    max_tokens: int,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Score many rows without gradients, in micro-batches of at most so many tokens (see `score` and `pack_rows`).

    Args:
        model: as for `score`; the micro-batches are moved to its device.
        sequences: `(B, T)`.
        mask: `(B, L)` bool.
        options: as for `score`, without a divergence.
        max_tokens: of a micro-batch. A longer row is a micro-batch of its own.
        progress: called with the number of rows done after each micro-batch.

    Returns:
        `Scores` of `(B, L)` float32 on the device of the mask.
    """
    device = next(model.parameters()).device
    results = [torch.zeros(mask.shape, device=mask.device) for _ in range(1 + options.entropies)]
    for group in pack_rows(sequences, max_tokens, by_prefix=options.packing and packs_trees(model)):
        index = torch.tensor(group, device=mask.device)
        piece = sequences.select(index)
        width = int(piece.response_lengths.max())
        scores = score(model, piece.to(device), mask[index, :width].to(device), options)
        for result, part in zip(results, scores, strict=False):
            assert part is not None
            result[index, :width] = part.to(result)
        if progress is not None:
            progress(len(group))
    return Scores(*results)


@torch.no_grad()
def view_teacher(model: nn.Module, batch: Batch, *, packing: bool = False) -> TeacherView:
    """The teacher's hidden states for the full-vocabulary divergences of a micro-batch.

    The head is the model's own, not a copy: it must not be trained between this and the backward pass. To keep the
    weights of the rollout over several optimiser steps, give a copy of the model.

    Args:
        model: the teacher.
        batch: with `teacher` sequences.
        packing: see `ScoringOptions`.

    Raises:
        InvalidOption: the batch has no teacher prompts.
    """
    if batch.teacher is None:
        raise InvalidOption("the batch has no teacher prompts; wanted rows with teacher_prompt_ids.")
    with scoring_mode(model):
        states = response_states(model, batch.teacher, batch.mask, packing=packing)
    weight, bias = plain_head(model)
    return TeacherView(states, weight.detach(), None if bias is None else bias.detach())


def response_states(model: nn.Module, sequences: Sequences, mask: Tensor, *, packing: bool = False) -> Tensor:
    """Last hidden states `(N, H)` that predict the N masked response tokens, in the mask's row-major order.

    Args:
        model: as for `score`, which says what is done about dropout.
        sequences: `(B, T)`.
        mask: `(B, L)` bool.
        packing: see `ScoringOptions`.

    Raises:
        InvalidOption: the mask has tokens that the sequences do not, a prompt is empty, or packing is not enabled.
    """
    check_shapes("BL", mask=mask)
    prompts, responses = sequences.prompt_lengths, sequences.response_lengths
    if len(prompts) and int(prompts.min()) < 1:
        raise InvalidOption("a prompt is empty; the first response token needs a token before it.")
    if mask.shape[0] != len(responses) or (mask.sum(dim=1) > responses).any():
        raise InvalidOption(f"the mask {tuple(mask.shape)} does not belong to these {len(responses)} sequences.")
    rows, columns = mask.nonzero(as_tuple=True)
    backbone = language_backbone(model)
    if not packing:
        # No attention mask: under causal attention the padding on the right is invisible to every token.
        states = backbone(input_ids=sequences.input_ids, use_cache=False).last_hidden_state
        picked: Tensor = states[rows, prompts[rows] - 1 + columns]
        return picked
    if not is_packing_enabled(causal_lm(model)):
        raise InvalidOption("packing is not enabled for this model: call enable_packing(model) first.")
    lengths = sequences.lengths
    least = LEAST_SHARED if packs_trees(model) else None
    tree = prefix_tree(sequences.input_ids, lengths, least=least).to(sequences.input_ids.device)
    input_ids = sequences.input_ids[tree.rows, tree.positions]
    with packed(tree) as arguments:
        states = backbone(input_ids=input_ids[None], use_cache=False, **arguments).last_hidden_state[0]
    starts = lengths.cumsum(0) - lengths
    flat: Tensor = states[tree.index[starts[rows] + prompts[rows] - 1 + columns]]
    return flat
