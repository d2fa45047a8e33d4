"""Leaner prefill and decoding steps of Llama-like models, with fewer and larger operations.

The projections of queries, keys and values are one product, and so are those of the feed-forward block; grouped-query
attention reads the KV cache without repeating it; residuals are added by the products. Prompts are a prefix tree, so
what they have in common at their beginning is computed once, and between the attentions their tokens pass a piece at a
time, which stays in the processor's cache. Ids are those of the model's own forward pass, and log-probabilities equal
but for rounding (1e-6).

It is for models in float32 or float64 whose layers are exactly those of transformers' Llama, Qwen2 and Qwen3, without
adapters and sliding windows. Others decode by their own forward pass.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from transformers import LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM

from sdar_agents.scoring.packing import packs_trees
from sdar_agents.scoring.prefix_tree import PrefixTree
from sdar_agents.scoring.tree_attention import attend

__all__ = ["Decoder", "make_decoder"]

_KINDS = (LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM)
_ATTENTION = ("sdpa", "sdar_packed")
# Tokens of a prefill that pass a layer together.
_PIECE = 512


class _Layer(NamedTuple):
    """Weights of a layer, those of products with the same input joined."""

    attention_norm: Tensor
    qkv: Tensor
    qkv_bias: Tensor | None
    qk_norm: Tensor | None
    output: Tensor
    output_bias: Tensor | None
    mlp_norm: Tensor
    gate_up: Tensor
    down: Tensor


class _Step(NamedTuple):
    """What all layers of a step have in common: rotary embeddings `(B, 1, d)`, additive mask `(B, 1, 1, T)`."""

    cos: Tensor
    sin: Tensor
    bias: Tensor | None


def make_decoder(model: Any) -> Decoder | None:
    """Return the decoder of a model with its present weights; None if it is of another kind."""
    if type(model) not in _KINDS or model.config._attn_implementation not in _ATTENTION:
        return None
    config = model.config
    if config.hidden_act != "silu" or model.dtype not in (torch.float32, torch.float64):
        return None
    modules = [module for layer in model.model.layers for module in layer.modules()]
    is_plain = all(type(module) is nn.Linear for name, module in model.named_modules() if name.endswith("_proj"))
    has_windows = any(getattr(module, "sliding_window", None) is not None for module in modules)
    has_hooks = any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    has_biases = any(
        getattr(module, "bias", None) is not None for layer in model.model.layers for module in layer.mlp.children()
    )
    if not is_plain or has_windows or has_hooks or has_biases or type(model.lm_head) is not nn.Linear:
        return None
    return Decoder(model)


class Decoder:
    """Decoding steps of a model; made anew when the weights have changed.

    Args:
        model: of a kind that `make_decoder` takes.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._eps: float = model.config.rms_norm_eps
        self._layers = [_layer(layer) for layer in model.model.layers]
        attention = model.model.layers[0].self_attn if self._layers else None
        self._size: int = 0 if attention is None else attention.head_dim
        self._scaling: float = 0.0 if attention is None else attention.scaling
        self._heads: int = model.config.num_attention_heads
        self._kv_heads: int = model.config.num_key_value_heads

    @property
    def can_prefill(self) -> bool:
        """Whether it can encode prefix trees: on a CPU."""
        return packs_trees(self._model)

    @torch.inference_mode()
    def prefill(self, ids: Tensor, tree: PrefixTree, last: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Encode a prefix tree.

        Args:
            ids: `(N,)`, of its tokens.
            tree: of the prompts.
            last: `(B,)`, which tokens are the last of a prompt.

        Returns:
            The next-token logits `(B, V)`, and the keys and values `(key heads, N, d)` of each layer.
        """
        body = self._model.model
        x: Tensor = body.embed_tokens(ids)
        cos, sin = body.rotary_emb(x[:, None], tree.positions[:, None])
        pieces = [slice(start, start + _PIECE) for start in range(0, len(x), _PIECE)]
        heads = self._heads
        kept = []
        for weights in self._layers:
            states = x.new_empty(heads + 2 * self._kv_heads, len(x), self._size)
            for at in pieces:
                both, values = self._project(x[at], weights, cos[at], sin[at])
                states[: -self._kv_heads, at] = both.transpose(0, 1)
                states[-self._kv_heads :, at] = values.transpose(0, 1)
            queries, keys, values = states[None].split([heads, self._kv_heads, self._kv_heads], dim=1)  # type: ignore[no-untyped-call]
            found = attend(queries, keys, values, tree.segments, self._scaling)[0]
            for at in pieces:
                x[at] = self._finish(x[at], found[:, at].transpose(0, 1).flatten(1), weights)
            kept.append((keys[0], values[0]))
        return self._logits(x[last]), kept

    def __call__(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Any) -> Tensor:
        """Return the next-token logits `(B, V)`, and append keys and values to the cache.

        Args:
            ids: `(B, 1)`.
            mask: `(B, T)`, 1 for tokens and 0 for padding, the new token included; None without padding.
            positions: `(B, 1)`.
            cache: of the earlier tokens.
        """
        body = self._model.model
        x: Tensor = body.embed_tokens(ids[:, 0])
        cos, sin = body.rotary_emb(x[:, None], positions)
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=x.dtype, device=x.device)
            bias = bias.masked_fill_(mask == 0, -torch.inf)[:, None, None]
        for weights, kept in zip(self._layers, cache.layers, strict=True):
            x = self._block(x, weights, kept, _Step(cos, sin, bias))
        return self._logits(x)

    def _block(self, x: Tensor, weights: _Layer, kept: Any, step: _Step) -> Tensor:
        both, own = self._project(x, weights, step.cos, step.sin)
        keys, values = kept.update(both[:, self._heads :, None], own[:, :, None])
        # The queries that share keys are attended as if they were several positions of one head.
        queries = both[:, : self._heads].reshape(len(x), self._kv_heads, -1, self._size)
        found = F.scaled_dot_product_attention(queries, keys, values, attn_mask=step.bias, scale=self._scaling)
        return self._finish(x, found.reshape(len(x), -1), weights)

    def _project(self, x: Tensor, weights: _Layer, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        """Return rotated queries and keys together, and values, `(n, heads, d)`, of tokens `(n, H)`."""
        size = self._size
        normal = F.rms_norm(x, x.shape[-1:], weights.attention_norm, self._eps)
        states = F.linear(normal, weights.qkv, weights.qkv_bias).view(len(x), -1, size)
        both = states[:, : self._heads + self._kv_heads]
        if weights.qk_norm is not None:
            both = F.rms_norm(both, (size,), None, self._eps) * weights.qk_norm
        half = size // 2
        turned = torch.cat((-both[..., half:], both[..., :half]), dim=-1)
        return both * cos + turned * sin, states[:, self._heads + self._kv_heads :]

    def _finish(self, x: Tensor, found: Tensor, weights: _Layer) -> Tensor:
        """Return tokens after a layer from what their attention has found, `(n, heads * d)`."""
        x = torch.addmm(x, found, weights.output)
        if weights.output_bias is not None:
            x = x + weights.output_bias
        normal = F.rms_norm(x, x.shape[-1:], weights.mlp_norm, self._eps)
        gate, up = F.linear(normal, weights.gate_up).chunk(2, dim=-1)
        return torch.addmm(x, F.silu(gate) * up, weights.down)

    def _logits(self, x: Tensor) -> Tensor:
        x = F.rms_norm(x, x.shape[-1:], self._model.model.norm.weight, self._eps)
        logits: Tensor = self._model.lm_head(x)
        return logits


@torch.no_grad()
def _layer(layer: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj)
    biases = [each.bias for each in projections]
    qk_norm = None
    if hasattr(attention, "q_norm"):
        counts = [projection.out_features // attention.head_dim for projection in projections[:2]]
        norms = (attention.q_norm.weight, attention.k_norm.weight)
        qk_norm = torch.cat([norm.expand(count, -1) for norm, count in zip(norms, counts, strict=True)])
    return _Layer(
        attention_norm=layer.input_layernorm.weight.detach(),
        qkv=torch.cat([each.weight for each in projections]),
        qkv_bias=None if biases[0] is None else torch.cat(biases),
        qk_norm=qk_norm,
        output=attention.o_proj.weight.detach().t(),
        output_bias=attention.o_proj.bias,
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
        down=mlp.down_proj.weight.detach().t(),
    )
