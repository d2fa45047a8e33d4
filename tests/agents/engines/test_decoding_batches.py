"""Batches of a generation."""

from __future__ import annotations

from itertools import combinations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3Config, Qwen3ForCausalLM

from sdar_agents.engines.decoding_batches import decoding_batches, step_tokens


def cost(lengths: list[int], batches: list[list[int]], new: int, step: int) -> int:
    return sum(step + len(batch) * (max(lengths[row] for row in batch) + new // 2) for batch in batches)


@given(st.lists(st.integers(1, 60), max_size=9), st.integers(1, 30), st.integers(1, 400), st.integers(0, 300))
def test_each_row_is_in_one_batch_within_the_bound_and_no_other_partition_costs_less(
    lengths: list[int], new: int, bound: int, step: int
) -> None:
    batches = decoding_batches(lengths, new, bound, step)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    fits = [len(batch) * (max(lengths[row] for row in batch) + new) <= bound for batch in batches]
    assert all(fit or len(batch) == 1 for fit, batch in zip(fits, batches, strict=True))
    kinds = sorted(set(lengths))
    if not all(fits) or any(lengths.count(kind) * (kind + new) > bound for kind in kinds):
        return
    for count in range(len(kinds)):
        for cuts in combinations(range(1, len(kinds)), count):
            parts = [kinds[start:end] for start, end in zip((0, *cuts), (*cuts, len(kinds)), strict=True)]
            other = [[row for row, length in enumerate(lengths) if length in part] for part in parts]
            if all(len(batch) * (max(lengths[row] for row in batch) + new) <= bound for batch in other):
                assert cost(lengths, batches, new, step) <= cost(lengths, other, new, step)


def test_a_long_prompt_does_not_widen_the_others() -> None:
    lengths = [200] * 30 + [700] + [210] * 33
    assert decoding_batches(lengths, 64, 1 << 17, 6000) == [[*range(30), *range(31, 64)], [30]]
    assert decoding_batches(lengths, 64, 1 << 17, 40_000) == [[*range(30), *range(31, 64), 30]]
    assert decoding_batches(lengths, 64, 1 << 17, None) == [[*range(30), *range(31, 64), 30]]


def test_a_step_costs_the_weights_and_its_operations_in_tokens_of_the_cache() -> None:
    config = Qwen3Config(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        vocab_size=50,
    )
    model = Qwen3ForCausalLM(config)
    weights = 4 * sum(parameter.numel() for parameter in model.parameters())
    token = 2 * 2 * 2 * 8 * 4  # keys and values, layers, heads, size, bytes
    assert step_tokens(model) == (weights + 20_000_000) // token
    assert step_tokens(model.to(torch.bfloat16)) == (weights // 2 + 20_000_000) // (token // 2)
    assert step_tokens(model.to("meta")) is None
