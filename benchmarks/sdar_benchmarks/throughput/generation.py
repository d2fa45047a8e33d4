"""Throughput of generation: tokens per CPU second of a model of about a million parameters.

A random model of 4 layers, 128 wide, with 800 tokens answers 32 prompts at once in float32 on one thread, in 64 tokens
each, as in one turn of a rollout of a small model. `model.generate` of transformers does the same in the same run,
without returning log-probabilities. Times are CPU seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models

from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy
from sdar_benchmarks.throughput.figures import Figures, median_seconds

__all__ = ["measure", "random_model"]

_ROWS = 32
_PROMPT = 265
_NEW = 64
_REPEATS = 3
_WORDS = 800


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the figures of generation; takes about half a minute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        policy = TransformersPolicy(*random_model())
        rng = random.Random(0)
        equal = [_prompt(rng, _PROMPT) for _ in range(_ROWS)]
        mixed = [_prompt(rng, rng.randint(_PROMPT // 4, 2 * _PROMPT)) for _ in range(_ROWS)]
        shared = [equal[row // 8] for row in range(_ROWS)]
        for what, prompts in (
            (f"prompts of {_PROMPT}", equal),
            (f"prompts of {_PROMPT // 4} to {2 * _PROMPT}", mixed),
            (f"prompts of {_PROMPT}, 8 times each", shared),
        ):
            progress(what)
            requests = [Request(prompt, seed) for seed, prompt in enumerate(prompts)]
            ours = _rate(lambda requests=requests: policy.generate(requests, Sampling(_NEW)))  # type: ignore[misc]
            theirs = _rate(lambda prompts=prompts: _generate(policy, prompts))  # type: ignore[misc]
            figures.add(f"new tokens, {what}", ours, "tokens/CPU s")
            figures.add(f"model.generate, {what}", theirs, "tokens/CPU s")
            figures.add(f"ratio, {what}", ours / theirs, "x")
    finally:
        torch.set_num_threads(threads)


def _rate(action: Callable[[], Any]) -> float:
    action()
    return _ROWS * _NEW / median_seconds(action, _REPEATS)


def _prompt(rng: random.Random, length: int) -> tuple[int, ...]:
    return tuple(rng.randrange(2, _WORDS) for _ in range(length))


def random_model() -> tuple[Any, Any]:
    """Return a model whose answers never end, and a tokenizer of words."""
    kinds: Any = transformers  # the package is typed in part
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(_WORDS)}, unk_token="w0"))
    tokenizer = kinds.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w1", pad_token="w0")
    tokenizer.chat_template = "{{ messages }}"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = kinds.Qwen2Config(
            vocab_size=_WORDS,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=False,
        )
        model = kinds.Qwen2ForCausalLM(config).eval()
    model.generation_config.eos_token_id = None
    # The end token's logit is far below all others.
    model.lm_head.bias = torch.nn.Parameter(torch.zeros(_WORDS))
    with torch.no_grad():
        model.lm_head.bias[1] = -1e4
    return model, tokenizer


def _generate(policy: Any, prompts: list[tuple[int, ...]]) -> None:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    with torch.inference_mode():
        policy.model.generate(
            ids, attention_mask=mask, max_new_tokens=_NEW, do_sample=True, top_k=0, top_p=1.0, pad_token_id=0
        )
