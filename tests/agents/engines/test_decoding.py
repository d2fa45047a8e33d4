"""The leaner decoding step gives what the model's own forward pass gives."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from helpers.tiny_models import tiny_policy
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

from sdar_agents.engines.decoding import Decoder, make_decoder
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy

SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
    "max_position_embeddings": 1 << 15,
}


def policy_of(kind: str, **settings: Any) -> TransformersPolicy:
    policy = tiny_policy()
    shape = {**SHAPE, "vocab_size": len(policy.tokenizer), **settings}
    torch.manual_seed(0)
    if kind == "llama":
        model: Any = LlamaForCausalLM(LlamaConfig(**{"rope_theta": 5e4, **shape}))
    elif kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**{"head_dim": 12, "tie_word_embeddings": True, **shape}))
        for layer in model.model.layers:
            torch.nn.init.normal_(layer.self_attn.q_norm.weight, 1.0, 0.3)
            torch.nn.init.normal_(layer.self_attn.k_norm.weight, 1.0, 0.3)
    else:
        return policy
    model.generation_config.eos_token_id = None
    return TransformersPolicy(model.eval(), policy.tokenizer)


def requests(count: int = 9) -> list[Request]:
    rng = random.Random(0)
    return [Request(tuple(rng.randrange(1, 200) for _ in range(rng.randint(2, 70))), i) for i in range(count)]


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
@pytest.mark.parametrize("is_padded", [True, False])
def test_ids_are_the_same_and_logprobs_equal(kind: str, is_padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(kind)
    asked = requests() if is_padded else [Request(requests()[0].prompt_ids, i) for i in range(6)]
    assert make_decoder(policy.model) is not None
    found = policy.generate(asked, Sampling(24))
    monkeypatch.setattr("sdar_agents.engines.transformers.make_decoder", lambda _: None)
    wanted = policy.generate(asked, Sampling(24))
    assert [answer.token_ids for answer in found] == [answer.token_ids for answer in wanted]
    pairs = [
        pair
        for left, right in zip(found, wanted, strict=True)
        for pair in zip(left.logprobs, right.logprobs, strict=True)
    ]
    differences = [abs(left - right) for left, right in pairs]
    assert max(differences) < 5e-6
    assert sum(differences) / len(differences) < 1e-6


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_beginnings_that_prompts_share_are_encoded_once(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of(kind)
    start = tuple(range(1, 31))
    prompts = [(*start, *request.prompt_ids) for request in requests()]
    asked = [Request(prompt, i) for i, prompt in enumerate([*prompts, prompts[0], start, (*start, 7), (8, 9)])]
    encoded = []
    original = Decoder.prefill

    def prefill(decoder: Decoder, ids: torch.Tensor, *rest: Any) -> Any:
        encoded.extend(ids.tolist())
        return original(decoder, ids, *rest)

    monkeypatch.setattr(Decoder, "prefill", prefill)
    monkeypatch.setattr(
        "sdar_agents.engines.transformers.decoding_batches", lambda lengths, *_: [[*range(len(lengths))]]
    )
    # Layers take the tokens a piece at a time, the last of them a shorter one.
    monkeypatch.setattr("sdar_agents.engines.decoding._PIECE", 7)
    found = policy.generate(asked, Sampling(24))
    assert len(encoded) == len(start) + sum(len(prompt) - len(start) for prompt in prompts) + 1 + 2
    monkeypatch.setattr("sdar_agents.engines.transformers.make_decoder", lambda _: None)
    wanted = policy.generate(asked, Sampling(24))
    for left, right in zip(found, wanted, strict=True):
        assert left.token_ids == right.token_ids
        assert left.logprobs == pytest.approx(right.logprobs, abs=5e-6)


def test_float64_is_decoded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policy_of("qwen3")
    policy.model.double()
    found = policy.generate(requests(), Sampling(24))
    monkeypatch.setattr("sdar_agents.engines.transformers.make_decoder", lambda _: None)
    wanted = policy.generate(requests(), Sampling(24))
    for left, right in zip(found, wanted, strict=True):
        assert left.token_ids == right.token_ids
        assert left.logprobs == pytest.approx(right.logprobs, abs=5e-6)  # norms of transformers are in float32


def test_it_has_the_weights_of_each_call() -> None:
    policy = policy_of("qwen2")
    before = policy.generate(requests(3), Sampling(4))
    with torch.no_grad():
        policy.model.model.layers[0].self_attn.q_proj.weight.mul_(-1.0)
        policy.model.model.layers[0].mlp.up_proj.weight.mul_(-1.0)
    assert policy.generate(requests(3), Sampling(4)) != before


def test_models_of_another_kind_decode_by_themselves() -> None:
    sliding = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
    hooked = policy_of("qwen3")
    hooked.model.model.layers[0].register_forward_hook(lambda *_: None)
    others = [
        policy_of("qwen3", **sliding),
        policy_of("llama", mlp_bias=True),
        policy_of("qwen3", attn_implementation="eager"),
        policy_of("qwen3", hidden_act="gelu"),
        hooked,
    ]
    for policy in others:
        assert make_decoder(policy.model) is None
        assert len(policy.generate(requests(2), Sampling(3))) == 2
    assert make_decoder(policy_of("qwen3").model.to(torch.bfloat16)) is None
