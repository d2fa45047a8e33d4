"""Sequence packing: sequences end to end in one row instead of padded, for Hugging Face models.

`enable_packing(model)` gives a model the attention `sdar_packed`. It is scaled dot-product attention; within `packed`,
every sequence attends to itself alone. Its cost is linear in the number of sequences, while the mask that transformers
would build from position ids is quadratic in their total length. It calls the kernel once per sequence: suited to CPUs,
and to accelerators if sequences are long.

On a CPU, tokens that sequences have in common at their beginning are computed once (`sdar_agents.scoring.prefix_tree`):
the prompts of a group begin with the same task, and those of an episode with the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sdar_agents.scoring.prefix_tree import PrefixTree, Segment
from sdar_agents.scoring.tree_attention import tree_attention
from sdar_envs.errors import InvalidOption

__all__ = ["can_pack_trees", "enable_packing", "is_packing_enabled", "packed", "packing_for_now", "packs_trees"]

_NAME = "sdar_packed"
_packs: ContextVar[bool] = ContextVar("packs", default=False)


def enable_packing(model: torch.nn.Module) -> None:
    """Let a Hugging Face model take packed sequences; generation and padded batches are unchanged.

    Raises:
        InvalidOption: the model has sliding windows or a fixed attention.
    """
    if any(getattr(module, "sliding_window", None) is not None for module in model.modules()):
        raise InvalidOption("this model has sliding windows, which packing does not support: use padded batches.")
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, _mask)
    model.set_attn_implementation(_NAME)  # type: ignore[operator]
    if not is_packing_enabled(model):
        raise InvalidOption(f"{type(model).__name__} keeps its own attention: use padded batches.")


def is_packing_enabled(model: torch.nn.Module) -> bool:
    """Return whether `enable_packing` was called on this model."""
    return getattr(getattr(model, "config", None), "_attn_implementation", None) == _NAME


def packs_trees(model: torch.nn.Module) -> bool:
    """Return whether packed rows of a model are prefix trees: on a CPU, whose attention gives log-sum-exps."""
    return next(model.parameters()).device.type == "cpu"


def can_pack_trees(model: Any) -> bool:
    """Return whether a model can compute common beginnings once: on a CPU, with SDPA, without sliding windows."""
    if not packs_trees(model) or not hasattr(model, "set_attn_implementation"):
        return False
    is_usual = getattr(getattr(model, "config", None), "_attn_implementation", None) in ("sdpa", _NAME)
    return is_usual and all(getattr(module, "sliding_window", None) is None for module in model.modules())


@contextmanager
def packing_for_now(model: Any) -> Iterator[None]:
    """Context in which a Hugging Face model takes packed sequences."""
    before = model.config._attn_implementation
    enable_packing(model)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@contextmanager
def packed(tree: PrefixTree) -> Iterator[dict[str, Any]]:
    """Context for one forward pass over packed sequences; yields the model's arguments besides the ids.

    The segments are an argument of every layer, so that gradient checkpointing has them again in the backward pass,
    outside this block.

    Args:
        tree: of the sequences, on the model's device.
    """
    token = _packs.set(True)
    try:
        yield {"position_ids": tree.positions[None], "segments": tree.segments}
    finally:
        _packs.reset(token)


def _mask(*args: Any, **kwargs: Any) -> Tensor | None:
    if _packs.get():
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


def _attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    segments: Sequence[Segment] | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention within each sequence: `(1, N, heads, d)` from queries `(1, heads, N, d)`."""
    if segments is None:
        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return output
    if any(segment.last > segment.end for segment in segments):
        return tree_attention(query, key, value, segments, kwargs.get("scaling")).transpose(1, 2).contiguous(), None
    lengths = [segment.end - segment.start for segment in segments]
    pieces = zip(*(torch.split(part, lengths, dim=2) for part in (query, key, value)), strict=True)
    outputs = [sdpa_attention_forward(module, q, k, v, None, **kwargs)[0] for q, k, v in pieces]
    return torch.cat(outputs, dim=1), None
