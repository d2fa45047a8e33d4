"""Models and rows small enough to check by hand."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from sdar_agents.engines.transformers import TransformersPolicy
from sdar_agents.scoring.batch import Batch, make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.types import Row

torch.set_num_threads(1)

VOCABULARY = 64
PAD = 0


def tiny_model(seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A random causal language model of 2 layers, 32 wide, in fp32 and evaluation mode."""
    torch.manual_seed(seed)
    config = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        # Large enough that tokens matter to each other: at 0.02 a shifted column would hardly show.
        "initializer_range": 0.2,
        "tie_word_embeddings": False,
    }
    return Qwen2ForCausalLM(Qwen2Config(**(config | settings))).eval()


TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ opening or '' }}{% endif %}"
)


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, and a few pairs of them: what a random model says is rarely what its text would be encoded as."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("h", "e"), ("l", "l"), ("ll", "o"), ("he", "llo"), ("o", "n"), ("\u0120", "t"), ("\u0120t", "he")]
    words = [*letters, *(left + right for left, right in merges)]
    raw = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", pad_token="<|pad|>", additional_special_tokens=special
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def tiny_policy(seed: int = 0, end_bias: float = 2.0, **settings: Any) -> TransformersPolicy:
    """A random model of `tiny_tokenizer`'s tokens, whose answers end now and then."""
    tokenizer = tiny_tokenizer()
    model = tiny_model(seed, vocab_size=len(tokenizer), max_position_embeddings=1 << 15, **settings)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= end_bias
    model.generation_config.eos_token_id = None
    return TransformersPolicy(model, tokenizer)


def lookup_model(table: Tensor) -> PreTrainedModel:
    """A model whose logits after token i are `table[i]`, whatever came before."""
    size = len(table)
    model = tiny_model(
        vocab_size=size, hidden_size=size, num_hidden_layers=0, num_attention_heads=1, num_key_value_heads=1
    )
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(torch.eye(size))
        # RMSNorm makes sqrt(size) of the 1 in a unit vector.
        model.lm_head.weight.copy_(table.T / size**0.5)
    model.model.norm.variance_epsilon = 0.0
    return model


def random_ids(rng: random.Random, low: int, high: int) -> tuple[int, ...]:
    return tuple(rng.randrange(1, VOCABULARY) for _ in range(rng.randint(low, high)))


def random_rows(
    count: int, *, seed: int = 0, episode_rows: int = 2, group_rows: int = 4, empty: bool = True
) -> list[Row]:
    """Rows of different lengths in episodes and groups, the third of them with an empty response."""
    rng = random.Random(seed)
    rows = []
    for i in range(count):
        response = () if empty and i == 2 else random_ids(rng, 1, 9)
        row = Row(
            prompt_ids=random_ids(rng, 1, 20),
            response_ids=response,
            group_id=f"g{i // group_rows}",
            episode_id=f"e{i // episode_rows}",
            turn_index=i % episode_rows,
            episode_return=float(rng.choice((0, 10))),
            teacher_prompt_ids=random_ids(rng, 5, 40),
        )
        facts = random.Random(f"facts {seed} {i}")
        rows.append(
            replace(
                row,
                turn_reward=row.episode_return * (row.turn_index == episode_rows - 1),
                state=f"state {facts.randrange(2)}",
                is_success=row.episode_return > 0,
                more_teacher_prompts=() if i % 3 == 1 else (random_ids(facts, 5, 40),),
                answer_start=len(response) // 2,
            )
        )
    return rows


def scored_batch(rows: list[Row], *, seed: int = 0, noise: float = 0.3) -> Batch:
    """A batch whose old, reference and teacher log-probs are the model's with noise, and with random advantages."""
    batch = make_batch(rows, pad_id=PAD)
    with torch.no_grad():
        logprobs = score(tiny_model(), batch.student, batch.mask).logprobs
    generator = torch.Generator().manual_seed(seed)

    def noisy(size: float) -> Tensor:
        return (logprobs + size * torch.randn(logprobs.shape, generator=generator)) * batch.mask

    return batch.replace(
        old_logprobs=noisy(noise),
        ref_logprobs=noisy(noise),
        teacher_logprobs=noisy(3 * noise),
        sampler_logprobs=noisy(noise),
        advantages=torch.randn(len(batch), generator=generator),
        more_teachers=tuple(replace(view, logprobs=noisy(3 * noise)) for view in batch.more_teachers),
    )


def gradients(model: torch.nn.Module) -> list[Tensor]:
    """The gradients of all parameters, which are then cleared."""
    grads = [p.grad.clone() if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    model.zero_grad(set_to_none=True)
    return grads


def largest_difference(left: list[Tensor], right: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(left, right, strict=True))
