"""Batched sampling from a causal language model: token ids with their log-probabilities, and a choice among texts.

For models that fit one device and short answers: prompts of like length go together, padded on the left, with a static
key-value cache. What is drawn for a prompt does not depend on the other prompts but for rounding: each has a
generator of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache, StaticCache


@dataclass(frozen=True, slots=True)
class Sampled:
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop_reason: Literal["stop", "length"]


@torch.inference_mode()
def sample(model, prompts: Sequence[Sequence[int]], *, seeds: Sequence[int], max_new_tokens: int, stop_ids: Collection[int], temperature: float = 1.0, batch_size: int = 64) -> list[Sampled]:
    results: list[Sampled | None] = [None] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for start in range(0, len(order), batch_size):
        group = order[start : start + batch_size]
        for i, s in zip(group, _sample([prompts[i] for i in group], model, [seeds[i] for i in group], max_new_tokens, frozenset(stop_ids), temperature), strict=True):
            results[i] = s
    return results


def left_padded(prompts, pad_id, device):
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad_id, device=device)
    mask = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
    for i, p in enumerate(prompts):
        ids[i, width - len(p):] = torch.tensor(p, device=device)
        mask[i, width - len(p):] = 1
    return ids, mask


def _sample(prompts, model, seeds, max_new, stop, temperature):
    device = next(model.parameters()).device
    rows = len(prompts)
    ids, mask = left_padded(prompts, 0, device)
    width = ids.shape[1]
    uniforms = torch.stack([torch.rand(max_new, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in seeds])
    cache = StaticCache(config=model.config, max_cache_len=width + max_new)
    positions = mask.cumsum(1) - 1
    full = torch.cat([mask, mask.new_ones(rows, max_new)], 1)
    inputs, pos = ids, positions.clamp(min=0)
    tokens, lps = [], []
    done = torch.zeros(rows, dtype=torch.bool)
    for step in range(max_new):
        out = model(input_ids=inputs, attention_mask=full[:, : width + step], position_ids=pos, past_key_values=cache, use_cache=True, logits_to_keep=1,
                    cache_position=torch.arange(width) if step == 0 else torch.tensor([width + step - 1]))
        logits = out.logits[:, -1].float()
        logp = (logits / temperature if temperature else logits).log_softmax(-1)
        if temperature:
            # Inverse transform sampling: one uniform number per token.
            cum = logp.double().exp().cumsum(-1)
            nxt = (cum < (uniforms[:, step : step + 1] * cum[:, -1:])).sum(-1).clamp(max=logp.shape[-1] - 1)
        else:
            nxt = logp.argmax(-1)
        tokens.append(nxt); lps.append(logp.gather(1, nxt[:, None])[:, 0])
        for s in stop: done |= nxt == s
        if done.all(): break
        inputs = nxt[:, None]; pos = positions[:, -1:] + 1 + step
    T = torch.stack(tokens, 1).tolist(); P = torch.stack(lps, 1).tolist()
    res = []
    for t, p in zip(T, P):
        end = next((k for k, x in enumerate(t) if x in stop), None)
        n = len(t) if end is None else end + 1
        res.append(Sampled(tuple(t[:n]), tuple(p[:n]), "length" if end is None else "stop"))
    return res
