"""Chunked language-model head: log-probs, entropies and divergences without the `(N, V)` logits.

Logits exist for a chunk at a time, forward and again backward, so memory does not grow with the vocabulary. Whatever
the model's dtype, log-softmax and everything after it is float32 (float64 for a float64 model). All values are in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from sdar_agents.scoring.divergences import divergence, divergence_gradient
from sdar_agents.scoring.options import DEFAULT_OPTIONS, TOP_K_DIVERGENCES, ScoringOptions
from sdar_agents.scoring.shapes import check_shapes
from sdar_envs.errors import InvalidOption

__all__ = ["Scores", "TeacherView", "head_scores"]


class Scores(NamedTuple):
    """Scores of given tokens, `(B, L)` or `(N,)` each, in nats; None for what was not asked for.

    Attributes:
        logprobs: log-probability of each token.
        entropies: entropy of the distribution at each token.
        divergences: divergence from the teacher's distribution at each token.
    """

    logprobs: Tensor
    entropies: Tensor | None = None
    divergences: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class TeacherView:
    """The teacher's token distributions, as hidden states and head, at the student's positions; no gradient.

    Attributes:
        states: `(N, H)`.
        weight: `(V, H)`.
        bias: `(V,)` or None.
    """

    states: Tensor
    weight: Tensor
    bias: Tensor | None = None


def head_scores(
    states: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    options: ScoringOptions = DEFAULT_OPTIONS,
    *,
    teacher: TeacherView | None = None,
) -> Scores:
    """Score tokens from hidden states and head, chunk by chunk; the backward pass recomputes the logits.

    Args:
        states: `(N, H)`.
        weight: `(V, H)`.
        bias: `(V,)` or None.
        targets: `(N,)` token ids.
        options: what to compute; `packing` plays no part here.
        teacher: of N positions; needed by a divergence.

    Returns:
        `Scores` of `(N,)`, float32 or float64.

    Raises:
        InvalidOption: shapes do not match, or the divergence has no teacher.
    """
    check_shapes("NH", states=states)
    check_shapes("VH", weight=weight)
    check_shapes("N", targets=targets)
    if len(states) != len(targets) or states.shape[1] != weight.shape[1]:
        raise InvalidOption(
            f"states, weight and targets must be (N, H), (V, H) and (N,): got {tuple(states.shape)}, "
            f"{tuple(weight.shape)} and {tuple(targets.shape)}."
        )
    if options.divergence is not None and (teacher is None or len(teacher.states) != len(states)):
        got = None if teacher is None else len(teacher.states)
        raise InvalidOption(f"{options.divergence} needs a teacher with {len(states)} positions; got {got}.")
    if options.head_dtype is None:
        device = states.device.type
        is_autocast = torch.is_autocast_enabled(device)
        options = replace(options, head_dtype=torch.get_autocast_dtype(device) if is_autocast else states.dtype)
    outputs = _HeadScores.apply(states, weight, bias, targets, teacher, options)  # type: ignore[no-untyped-call]
    return Scores(
        outputs[0],
        outputs[1] if options.entropies else None,
        outputs[2] if options.divergence is not None else None,
    )


def _chunks(count: int, other: int, options: ScoringOptions) -> Iterator[slice]:
    """Cut `count` rows so that a chunk of `other` columns has at most `chunk_elements` elements."""
    size = max(1, options.chunk_elements // max(other, 1))
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _logits(states: Tensor, weight: Tensor, bias: Tensor | None, options: ScoringOptions) -> Tensor:
    """Return `(n, v)` logits over the temperature, in float32 or float64; a new tensor."""
    dtype = options.head_dtype
    bias = None if bias is None else bias.to(dtype)
    logits = F.linear(states.to(dtype), weight.to(dtype), bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if options.temperature == 1.0 else logits.div_(options.temperature)


class _HeadScores(torch.autograd.Function):
    """`(3, N)`: log-probs, entropies, divergences (0 where not asked for).

    The forward pass goes over tokens, with all logits of a token at a time. With p the probabilities, the gradients of
    one token with respect to its logits z are

        d log p_y / dz_v = [v = y] - p_v
        d H / dz_v       = -p_v (log p_v + H)
        d D / dz_v       : see `divergence_gradient`

    which need of the other logits only sums that the forward pass kept. So the backward pass goes over the vocabulary,
    with all tokens at a time: each row of the head gets its whole gradient from one product, summed in full precision.
    """

    @staticmethod
    def forward(  # noqa: PLR0917  (autograd passes its arguments by position)
        ctx: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        teacher: TeacherView | None,
        options: ScoringOptions,
    ) -> Tensor:
        count, kind = len(states), options.divergence
        out = states.new_zeros(3, count, dtype=torch.promote_types(states.dtype, torch.float32))
        # Log-sum-exps of student and teacher, then what `divergence` keeps.
        sums = out.new_zeros(4, count)
        top = torch.zeros(count, 0, dtype=torch.long, device=states.device)
        if kind in TOP_K_DIVERGENCES:
            top = top.new_zeros(count, min(options.top_k, len(weight)))
        with torch.autocast(states.device.type, enabled=False):
            head = weight.to(options.head_dtype)
            teacher_head = None if teacher is None else teacher.weight.to(options.head_dtype)
            for chunk in _chunks(count, len(weight), options):
                logp = _logits(states[chunk], head, bias, options)
                sums[0, chunk] = logp.logsumexp(dim=-1)
                logp.sub_(sums[0, chunk, None])
                out[0, chunk] = logp.gather(1, targets[chunk, None])[:, 0]
                if options.entropies:
                    out[1, chunk] = -(logp.exp() * logp).sum(dim=-1)
                if kind is not None and teacher is not None and teacher_head is not None:
                    logq = _logits(teacher.states[chunk], teacher_head, teacher.bias, options)
                    sums[1, chunk] = logq.logsumexp(dim=-1)
                    logq.sub_(sums[1, chunk, None])
                    if kind in TOP_K_DIVERGENCES:
                        likeliest = logp if options.top_of == "student" else logq
                        top[chunk] = likeliest.topk(top.shape[1], dim=-1).indices
                    out[2, chunk], sums[2, chunk], sums[3, chunk] = divergence(kind, logp, logq, top[chunk])
        ctx.save_for_backward(states, weight, bias, targets, out[1], sums, top)
        ctx.teacher = teacher
        ctx.options = options
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        states, weight, bias, targets, entropy, sums, top = ctx.saved_tensors
        teacher: TeacherView | None = ctx.teacher
        options: ScoringOptions = ctx.options
        wants_states, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        full = torch.promote_types(states.dtype, torch.float32)
        d_states = torch.zeros_like(states, dtype=full) if wants_states else None
        d_weight = torch.zeros_like(weight) if wants_weight else None
        d_bias = torch.zeros_like(bias) if wants_bias else None
        of_logprob, of_entropy, of_divergence = grad[:, :, None]
        rows = torch.arange(len(states), device=states.device)
        with torch.autocast(states.device.type, enabled=False):
            cast_states = states.to(options.head_dtype)
            for chunk in _chunks(len(weight) if len(states) else 0, len(states), options):
                head = weight[chunk].to(options.head_dtype)
                logp = _logits(cast_states, head, None if bias is None else bias[chunk], options)
                logp.sub_(sums[0, :, None])
                d_logits = logp.exp()
                extra = None
                if options.divergence is not None and teacher is not None:
                    teacher_bias = None if teacher.bias is None else teacher.bias[chunk]
                    logq = _logits(teacher.states, teacher.weight[chunk], teacher_bias, options)
                    logq.sub_(sums[1, :, None])
                    extra = divergence_gradient(
                        options.divergence, d_logits, logp, logq, sums=sums[2:, :, None], top=top - chunk.start
                    )
                    extra.mul_(of_divergence)
                if options.entropies:
                    d_logits.mul_(logp.add_(entropy[:, None]).mul_(-of_entropy).sub_(of_logprob))
                else:
                    d_logits.mul_(-of_logprob)
                here = (targets >= chunk.start) & (targets < chunk.stop)
                d_logits[rows[here], targets[here] - chunk.start] += of_logprob[here, 0]
                if extra is not None:
                    d_logits.add_(extra)
                if options.temperature != 1.0:
                    d_logits.div_(options.temperature)
                if d_bias is not None:
                    d_bias[chunk] = d_logits.sum(dim=0)
                d_logits = d_logits.to(options.head_dtype)
                if d_states is not None:
                    d_states.add_(d_logits @ head)
                if d_weight is not None:
                    d_weight[chunk] = d_logits.t() @ cast_states
        d_states = None if d_states is None else d_states.to(states.dtype)
        return d_states, d_weight, d_bias, None, None, None
