"""Shared-prefix attention: prefix keys and values are computed once per group of sequences (prefix caching).

    with shared_prefix(model) as cache:
        model(input_ids=prefix, use_cache=False, **cache.write())
        model(input_ids=suffixes, position_ids=..., use_cache=False, **cache.read())

Queries of all rows attend to the prefix in one product, without a mask; each row's own suffix is causal attention as
usual. The two outputs are combined by their log-sum-exps, which gives what one softmax over both would. Padding belongs
on the right. CPU only: the log-sum-exps come from the CPU kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

__all__ = ["PrefixCache", "can_share_prefix", "shared_prefix"]

_NAME = "sdar_shared_prefix"


@dataclass(slots=True)
class PrefixCache:
    """Prefix cache: keys and values by layer, `(1, heads, P, d)` each."""

    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    is_written: bool = False

    def write(self) -> dict[str, Any]:
        """Return the model argument for the pass over the prefix."""
        self.layers.clear()
        self.is_written = False
        return {"prefix_cache": self}

    def read(self) -> dict[str, Any]:
        """Return the model argument for a pass over suffixes."""
        self.is_written = True
        return {"prefix_cache": self}


def can_share_prefix(model: nn.Module) -> bool:
    """Return whether a model can use it: on a CPU, with SDPA or packed attention, without sliding windows."""
    if next(model.parameters()).device.type != "cpu" or not hasattr(model, "set_attn_implementation"):
        return False
    is_usual = getattr(getattr(model, "config", None), "_attn_implementation", None) in ("sdpa", "sdar_packed")
    return is_usual and all(getattr(module, "sliding_window", None) is None for module in model.modules())


@contextmanager
def shared_prefix(model: Any) -> Iterator[PrefixCache]:
    """Context in which a Hugging Face model has shared-prefix attention; yields its cache."""
    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, lambda *_, **__: None)
    before = model.config._attn_implementation
    model.set_attn_implementation(_NAME)
    try:
        yield PrefixCache()
    finally:
        model.set_attn_implementation(before)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    prefix_cache: PrefixCache,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Return `(B, T, heads, d)`."""
    # Under autocast, rotated queries and keys are float32; the public function would cast them, the kernel does not.
    query, key = query.to(value.dtype), key.to(value.dtype)
    output, sums = _attend(query, key, value, scaling, is_causal=True)
    if not prefix_cache.is_written:
        prefix_cache.layers[module.layer_idx] = key, value
        return output.transpose(1, 2).contiguous(), None
    rows, heads, length, size = query.shape
    together = query.transpose(0, 1).reshape(1, heads, rows * length, size)
    before, before_sums = _attend(together, *prefix_cache.layers[module.layer_idx], scaling, is_causal=False)
    before = before.reshape(heads, rows, length, size).transpose(0, 1)
    before_sums = before_sums.reshape(heads, rows, length).transpose(0, 1)
    share = torch.sigmoid(before_sums - sums)[..., None].to(output.dtype)
    return torch.lerp(output, before, share).transpose(1, 2).contiguous(), None


def _attend(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, *, is_causal: bool
) -> tuple[Tensor, Tensor]:
    """Return the attention `(B, heads, T, d)` and its log-sum-exps `(B, heads, T)`."""
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    # The public function does not return the sums.
    output, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, is_causal, scale=scaling
    )
    return output, sums
