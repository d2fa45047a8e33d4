"""Attention over a prefix tree, with gradients, on a CPU.

Within its segment a token sees what is before it; to the segments above, the queries of all segments below attend in
one product without a mask. The outputs are combined by their log-sum-exps, which gives what one softmax over all keys
would. The backward pass of each product takes the combined output and log-sum-exps: with them, the kernel's softmax is
the part that its keys have in the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sdar_agents.scoring.prefix_tree import Segment

__all__ = ["attend", "tree_attention"]


def tree_attention(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scaling: float | None = None
) -> Tensor:
    """Return the attention `(1, heads, N, d)` of the tokens of a prefix tree.

    Args:
        query: `(1, heads, N, d)`.
        key: `(1, key heads, N, d)`; their number divides that of the heads.
        value: as the keys.
        segments: of the tree.
        scaling: of the products; None for `d ** -0.5`.
    """
    key, value = _repeated(query, key, value)
    # Under autocast, rotated queries and keys are float32; the public function would cast them, the kernel does not.
    query, key = query.to(value.dtype), key.to(value.dtype)
    output: Tensor = _TreeAttention.apply(query, key, value, (tuple(segments), scaling))  # type: ignore[no-untyped-call]
    return output


@torch.no_grad()
def attend(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scaling: float | None = None
) -> Tensor:
    """Return what `tree_attention` does, without a graph."""
    return _attend(query, *_repeated(query, key, value), segments, scaling)[0]


def _repeated(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Return keys and values for each head of the queries."""
    groups = query.shape[1] // key.shape[1]
    if groups == 1:
        return key, value
    return key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, segments: Sequence[Segment], scaling: float | None
) -> tuple[Tensor, Tensor]:
    """Return the outputs, and the log-sum-exps of their products `(1, heads, N)`."""
    output = torch.empty_like(query)
    # As the kernel has them: float32 also for bfloat16.
    sums = query.new_empty(query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32))
    for start, end, _ in segments:
        own = slice(start, end)
        output[:, :, own], sums[:, :, own] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[:, :, own], key[:, :, own], value[:, :, own], 0.0, True, scale=scaling
        )
    for start, end, last in segments:
        if last == end:
            continue
        above, below = slice(start, end), slice(end, last)
        part, part_sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query[:, :, below], key[:, :, above], value[:, :, above], 0.0, False, scale=scaling
        )
        share = torch.sigmoid(part_sums - sums[:, :, below])[..., None].to(output.dtype)
        output[:, :, below] = torch.lerp(output[:, :, below], part, share)
        sums[:, :, below] = torch.logaddexp(sums[:, :, below], part_sums)
    return output, sums


class _TreeAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, options: tuple[tuple[Segment, ...], float | None]
    ) -> Tensor:
        segments, scaling = options
        output, sums = _attend(query, key, value, segments, scaling)
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.segments, ctx.scaling = segments, scaling
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (grad,) = gradients
        query, key, value, output, sums = ctx.saved_tensors
        grad = grad.to(output.dtype)
        found = [torch.zeros_like(part) for part in (query, key, value)]

        def add(at: slice, seen: slice, *, is_causal: bool) -> None:
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                grad[:, :, at], query[:, :, at], key[:, :, seen], value[:, :, seen], output[:, :, at], sums[:, :, at],
                0.0, is_causal, scale=ctx.scaling,
            )  # fmt: skip
            for total, part, place in zip(found, parts, (at, seen, seen), strict=True):
                total[:, :, place] += part

        for start, end, last in ctx.segments:
            add(slice(start, end), slice(start, end), is_causal=True)
            if last > end:
                add(slice(end, last), slice(start, end), is_causal=False)
        return found[0], found[1], found[2], None
