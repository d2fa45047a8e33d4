"""Prefix caching on accelerators: keys and values of a shared prompt prefix, read by any number of suffixes.

    prefix = encode_prefix(backbone, config, input_ids)
    states = backbone(input_ids=suffixes, position_ids=..., use_cache=True, **prefix.read())

The prefix is encoded once. Each layer joins its keys with those of the suffixes for the time of its own attention, so
memory holds them for one layer at a time.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import DynamicCache, DynamicLayer

__all__ = ["PrefixKeys", "can_cache_prefix", "encode_prefix"]


def can_cache_prefix(model: nn.Module) -> bool:
    """Return whether a model can use it: on an accelerator, without sliding windows."""
    is_plain = all(getattr(module, "sliding_window", None) is None for module in model.modules())
    return is_plain and next(model.parameters()).device.type != "cpu"


@dataclass(frozen=True, slots=True)
class PrefixKeys:
    """Keys and values of a prefix, by layer, `(1, heads, P, d)` each.

    Attributes:
        layers: of the model.
        config: of the model.
        argument: the model's name of a cache.
    """

    layers: list[tuple[Tensor, Tensor]]
    config: Any
    argument: str

    def read(self) -> dict[str, Any]:
        """Return the model's arguments for a pass over suffixes; new for each pass."""
        cache = DynamicCache(config=self.config)
        cache.layers = [_PrefixLayer(keys, values) for keys, values in self.layers]
        return {self.argument: cache}


@torch.no_grad()
def encode_prefix(backbone: Any, config: Any, input_ids: Tensor) -> PrefixKeys:
    """Return the keys and values of a prefix.

    Args:
        backbone: the transformer without its head.
        config: of the model.
        input_ids: `(1, P)`.
    """
    # transformers has renamed the argument in 5.24.
    names = inspect.signature(backbone.forward).parameters
    argument = "cache" if "cache" in names else "past_key_values"
    cache = DynamicCache(config=config)
    backbone(input_ids=input_ids, use_cache=True, **{argument: cache})
    found: list[Any] = cache.layers
    return PrefixKeys([(layer.keys, layer.values) for layer in found], config, argument)


class _PrefixLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Cache of one layer that returns the prefix with what it is given, and keeps the prefix alone."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values = keys, values
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values of prefix and suffixes `(B, heads, P + T, d)`."""
        joined = []
        for prefix, own in ((self.keys, key_states), (self.values, value_states)):
            assert prefix is not None
            joined.append(torch.cat([prefix.to(own.dtype).expand(len(own), -1, -1, -1), own], dim=-2))
        return joined[0], joined[1]
