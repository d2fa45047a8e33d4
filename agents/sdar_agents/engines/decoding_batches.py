"""Batches of rows that are decoded together: few, and with little padding.

Each step of a batch reads the weights once, and the keys and values of all rows at the width of the longest one. Rows
of other lengths in a batch of their own save padding and cost further steps. On a CPU, where a step takes as long as
the memory that it reads, the partition with the least traffic is taken; it is found by dynamic programming over the
sorted lengths. On an accelerator steps cost more than padding, and batches are as large as they may be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sdar_agents.scoring.batch import pack_by_length

__all__ = ["decoding_batches", "encoding_batches", "step_tokens"]

# What the operations of a step cost besides what they read, as bytes: 2 to 3 ms at 8 GB/s.
_STEP_BYTES = 20_000_000
# Tokens of a prompt that a small model encodes in the time that a forward pass takes besides.
_FORWARD_TOKENS = 100


def step_tokens(model: Any) -> int | None:
    """Return how many tokens' keys and values a CPU reads in the time of a step without any; None on an accelerator."""
    parameters = list(model.parameters())
    if parameters[0].device.type != "cpu":
        return None
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token: int = 2 * config.num_hidden_layers * heads * size * parameters[0].element_size()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    tokens: int = (weights + _STEP_BYTES) // token
    return tokens


def decoding_batches(lengths: Sequence[int], new: int, max_tokens: int, step: int | None) -> list[list[int]]:
    """Return the rows of each batch, shortest first; rows of equal length are together if they may.

    Args:
        lengths: of the prompts.
        new: tokens that a completion may have.
        max_tokens: rows times the longest prompt and completion of a batch, unless it is one row.
        step: see `step_tokens`.
    """
    if step is None:
        return pack_by_length([length + new for length in lengths], max_tokens)
    counts = sorted(Counter(lengths).items())
    # best[i]: the least cost of the i shortest lengths, and where their last batch begins.
    best: list[tuple[int, int]] = [(0, 0)]
    for end, (longest, _) in enumerate(counts, 1):
        rows, found = 0, None
        for start in range(end - 1, -1, -1):
            rows += counts[start][1]
            if start < end - 1 and rows * (longest + new) > max_tokens:
                break
            # On average a completion is half as long as it may be.
            cost = best[start][0] + step + rows * (longest + new // 2)
            if found is None or cost < found[0]:
                found = cost, start
        assert found is not None
        best.append(found)
    bounds, end = [], len(counts)
    while end:
        bounds.append((best[end][1], end))
        end = best[end][1]
    batches = []
    for start, end in reversed(bounds):
        chosen = {length for length, _ in counts[start:end]}
        rows_of = sorted((i for i, length in enumerate(lengths) if length in chosen), key=lengths.__getitem__)
        # Of one length alone there may be more rows than a batch holds.
        batches += [
            [rows_of[i] for i in part] for part in pack_by_length([lengths[i] + new for i in rows_of], max_tokens)
        ]
    return batches


def encoding_batches(lengths: Sequence[int], model: Any) -> list[list[int]]:
    """Return the rows that are encoded together, in order: on a CPU with little padding, else all.

    Args:
        lengths: new tokens of each row.
        model: decides where it is computed.
    """
    forward = None if step_tokens(model) is None else _FORWARD_TOKENS
    batches = decoding_batches(lengths, 0, len(lengths) * max(lengths), forward)
    return [sorted(batch) for batch in batches]
