"""Generation: exact ids, log-probs that are the trainer's, draws that follow their seed, rows that do not mix."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import Any

import pytest
import torch
from helpers.tiny_models import PAD, tiny_model, tiny_policy, tiny_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import LlamaConfig, LlamaForCausalLM

from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy, invert, load_model
from sdar_agents.scoring.batch import make_batch
from sdar_agents.scoring.logprobs import score
from sdar_agents.scoring.options import ScoringOptions
from sdar_agents.types import Completion, Row
from sdar_envs.errors import InvalidOption


@pytest.fixture(scope="module")
def policy() -> TransformersPolicy:
    return tiny_policy()


def requests(count: int, *, seed: int = 0, low: int = 1, high: int = 60) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(tuple(rng.randrange(263) for _ in range(rng.randint(low, high))), seed=1000 * seed + i)
        for i in range(count)
    ]


def rows_of(asked: list[Request], answers: list[Completion]) -> list[Row]:
    return [
        Row(prompt_ids=request.prompt_ids, response_ids=answer.token_ids, sampler_logprobs=answer.logprobs)
        for request, answer in zip(asked, answers, strict=True)
    ]


def differences(policy: TransformersPolicy, asked: list[Request], sampling: Sampling) -> torch.Tensor:
    """Sampler's log-prob minus trainer's, of each token."""
    batch = make_batch(rows_of(asked, policy.generate(asked, sampling)), pad_id=PAD)
    with torch.no_grad():
        scores = score(policy.model, batch.student, batch.mask, ScoringOptions(temperature=sampling.temperature))
    assert batch.sampler_logprobs is not None
    return (batch.sampler_logprobs - scores.logprobs)[batch.mask]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("greedy", [False, True])
def test_logprobs_are_those_that_the_trainer_computes(
    policy: TransformersPolicy, temperature: float, greedy: bool
) -> None:
    # Prompts of 1 to 60 tokens, two of them equal, answers of 1 to 24: padding, shared reading, rows that leave.
    asked = requests(23)
    asked += [Request(asked[5].prompt_ids, seed=99)]
    found = differences(policy, asked, Sampling(24, temperature, greedy))
    assert len(found) > 100
    assert found.abs().max() < 1e-5


def test_the_model_was_fed_exactly_what_the_row_says(policy: TransformersPolicy, monkeypatch: Any) -> None:
    monkeypatch.setattr("sdar_agents.engines.transformers.make_decoder", lambda _: None)
    asked = requests(9, low=3)
    fed: list[tuple[torch.Tensor, torch.Tensor | None]] = []
    forward = policy.forward
    monkeypatch.setattr(
        policy, "forward", lambda ids, mask, *rest: (fed.append((ids, mask)), forward(ids, mask, *rest))[1]
    )
    answers = policy.generate(asked, Sampling(12))
    first, mask = fed[0]
    assert mask is not None
    lengths = [len(request.prompt_ids) for request in asked]
    by_length = sorted(range(9), key=lengths.__getitem__)
    assert [tuple(row[m.bool()].tolist()) for row, m in zip(first, mask, strict=True)] == [
        asked[i].prompt_ids for i in by_length
    ]
    # Each further step was fed the tokens that were drawn in the step before.
    for step, (ids, _) in enumerate(fed[1:]):
        running = [answers[i].token_ids for i in by_length if len(answers[i].token_ids) > step + 1]
        assert not Counter(tokens[step] for tokens in running) - Counter(ids[:, 0].tolist())
        assert ids.shape[0] < 9 or step == 0 or len(running) > 7


def test_rows_hold_the_sampled_ids_also_where_their_text_encodes_otherwise(policy: TransformersPolicy) -> None:
    asked = requests(200, low=2, high=8)
    answers = policy.generate(asked, Sampling(12))
    encodes_otherwise = 0
    for row, answer in zip(rows_of(asked, answers), answers, strict=True):
        assert row.response_ids == answer.token_ids
        encodes_otherwise += policy.encode(policy.tokenizer.decode(answer.token_ids)) != answer.token_ids
    assert encodes_otherwise > 100


def test_a_row_does_not_depend_on_its_neighbours(policy: TransformersPolicy) -> None:
    asked = requests(16)
    for sampling in (Sampling(20), Sampling(20, greedy=True)):
        together = policy.generate(asked, sampling)
        alone = [policy.generate([request], sampling)[0] for request in asked]
        reverse = policy.generate(asked[::-1], sampling)[::-1]
        for one, two, three in zip(together, alone, reverse, strict=True):
            assert one.token_ids == two.token_ids == three.token_ids
            assert one.logprobs == pytest.approx(two.logprobs, abs=1e-5)
    assert policy.generate(asked, sampling) == together  # to the last bit


def test_greedy_is_what_transformers_generates(policy: TransformersPolicy) -> None:
    asked = requests(6)
    for request, answer in zip(asked, policy.generate(asked, Sampling(15, greedy=True)), strict=True):
        ids = torch.tensor([request.prompt_ids])
        output = policy.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=15,
            do_sample=False,
            eos_token_id=policy.tokenizer.eos_token_id,
            pad_token_id=policy.tokenizer.pad_token_id,
        )
        assert tuple(output[0, ids.shape[1] :].tolist()) == answer.token_ids


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_frequencies_are_the_probabilities(policy: TransformersPolicy, temperature: float) -> None:
    count = 4000
    answers = policy.generate([Request((7, 8, 9), seed) for seed in range(count)], Sampling(1, temperature))
    seen = Counter(answer.token_ids[0] for answer in answers)
    with torch.no_grad():
        logits = policy.model(torch.tensor([[7, 8, 9]])).logits[0, -1]
    expected = torch.softmax(logits.double() / temperature, -1) * count
    common = [token for token in range(len(expected)) if expected[token] >= 5]
    observed = [seen[token] for token in common]
    wanted = [float(expected[token]) for token in common]
    observed.append(count - sum(observed))
    wanted.append(count - sum(wanted))
    assert len(common) > 20
    assert chisquare(observed, wanted).pvalue > 1e-3
    for answer in answers[:50]:
        assert answer.logprobs == pytest.approx([math.log(expected[answer.token_ids[0]] / count)], abs=1e-5)


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=9).filter(any),
    st.one_of(st.sampled_from([0.0, 1 - 2**-40]), st.floats(0, 1 - 2**-40)),
)
def test_no_token_of_probability_zero_is_drawn(weights: list[int], draw: float) -> None:
    total = sum(weights)
    logprobs = torch.tensor([weights], dtype=torch.float32).log() - math.log(total)
    token = int(invert(logprobs, torch.tensor([draw], dtype=torch.float64)))
    assert weights[token] > 0
    assert sum(weights[:token]) / total <= draw + 1e-6
    assert draw < sum(weights[: token + 1]) / total + 1e-6


def test_random_states_and_modes_are_left_alone() -> None:
    policy = tiny_policy(attention_dropout=0.5)
    for training in (True, False):
        policy.model.train(training)
        states = torch.get_rng_state(), random.getstate()
        first, second = (policy.generate(requests(3), Sampling(8)) for _ in range(2))
        assert first == second  # no dropout
        assert torch.equal(states[0], torch.get_rng_state())
        assert states[1] == random.getstate()
        assert policy.model.training is training


def test_completions_end_at_their_end_token_a_stop_string_or_the_limit() -> None:
    policy = tiny_policy()
    end = policy.tokenizer.eos_token_id
    with torch.no_grad():
        policy.model.lm_head.weight.zero_()
    # All logits are 0 now: greedy takes token 0 for ever, draws are uniform.
    [answer] = policy.generate([Request((5,), 0)], Sampling(7, greedy=True))
    assert (answer.token_ids, answer.stop_reason) == ((0,) * 7, "length")
    assert answer.logprobs == pytest.approx([-math.log(len(policy.tokenizer))] * 7)
    letter = policy.decode(0)
    [answer] = policy.generate([Request((5,), 0)], Sampling(7, greedy=True, stop=("no", letter * 3)))
    assert (answer.token_ids, answer.text, answer.stop_reason) == ((0,) * 3, letter * 3, "stop")
    with torch.no_grad():
        policy.model.lm_head.bias = torch.nn.Parameter(torch.zeros(len(policy.tokenizer)))
        policy.model.lm_head.bias[end] = 50.0
    answers = policy.generate(requests(3), Sampling(7))
    assert [(a.token_ids, a.text, a.stop_reason) for a in answers] == [((end,), "", "eos")] * 3
    [row, *_] = rows_of(requests(3), answers)
    assert make_batch([row], pad_id=PAD).mask.tolist() == [[True]]


def test_a_stop_string_may_be_spread_over_tokens_and_overhang() -> None:
    policy = tiny_policy()
    ids = policy.tokenizer.encode
    sampling = Sampling(50, stop=("hello", "é", "</a>"))
    assert policy.stop_reason(ids("he"), sampling) is None
    assert policy.stop_reason(ids("hello"), sampling) == "stop"
    assert policy.stop_reason([*ids("h"), *ids("e"), *ids("l"), *ids("l"), *ids("o")], sampling) == "stop"
    assert policy.stop_reason(ids("x</a>"), sampling) == "stop"
    assert policy.stop_reason(ids("x</a"), sampling) is None
    assert len(ids("é")) == 2
    assert policy.stop_reason(ids("aé"), sampling) == "stop"
    assert policy.stop_reason(ids("aé")[:-1], sampling) is None
    assert policy.stop_reason([policy.tokenizer.eos_token_id], sampling) == "eos"


def test_bounded_batches_give_the_same(policy: TransformersPolicy) -> None:
    asked = requests(12)
    small = TransformersPolicy(policy.model, policy.tokenizer, max_batch_tokens=100)
    done: list[int] = []
    answers = small.generate(asked, Sampling(20), progress=done.append)
    assert len(done) > 5
    assert sum(done) == 12
    assert [a.token_ids for a in answers] == [a.token_ids for a in policy.generate(asked, Sampling(20))]
    assert policy.generate([], Sampling(20)) == []


def test_bfloat16_stays_near(policy: TransformersPolicy) -> None:
    casting = TransformersPolicy(policy.model, policy.tokenizer, autocast=torch.bfloat16)
    asked = requests(8)
    rows = rows_of(asked, casting.generate(asked, Sampling(16)))
    batch = make_batch(rows, pad_id=PAD)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        scores = score(policy.model, batch.student, batch.mask)
    assert batch.sampler_logprobs is not None
    gap = (batch.sampler_logprobs - scores.logprobs)[batch.mask].abs()
    assert 1e-5 < gap.mean() < 0.1


def test_what_cannot_be_generated_is_said(policy: TransformersPolicy) -> None:
    with pytest.raises(InvalidOption, match="a prompt is empty"):
        policy.generate([Request((), 0)], Sampling(3))
    limit = policy.context_length
    assert limit == 1 << 15
    with pytest.raises(InvalidOption, match=f"exceed the model's {limit}: lower max_new_tokens"):
        policy.generate([Request((1,), 0)], Sampling(limit))
    broken = tiny_policy()
    with torch.no_grad():
        broken.model.lm_head.weight[3] = math.nan
    with pytest.raises(InvalidOption, match="logits are not finite"):
        broken.generate([Request((1,), 0)], Sampling(3))
    for wrong, match in (
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"temperature": 0}, "greedy=True"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"stop": "</action>"}, "wanted a list of strings"),
    ):
        with pytest.raises(InvalidOption, match=match):
            Sampling(**wrong)  # type: ignore[arg-type]


def test_models_and_tokenizers_that_do_not_fit_are_refused(tmp_path: Any) -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(InvalidOption, match=r"the tokenizer has \d+ tokens, the model knows 64"):
        TransformersPolicy(tiny_model(), tokenizer)
    model = tiny_model(vocab_size=len(tokenizer))
    with pytest.raises(InvalidOption, match="max_batch_tokens is 0"):
        TransformersPolicy(model, tokenizer, max_batch_tokens=0)
    tokenizer.chat_template = None
    with pytest.raises(InvalidOption, match="has no chat template"):
        TransformersPolicy(model, tokenizer)
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = None
    model.generation_config.eos_token_id = None
    with pytest.raises(InvalidOption, match="names an end token"):
        TransformersPolicy(model, tokenizer)
    with pytest.raises(InvalidOption, match="cannot be loaded"):
        load_model(str(tmp_path), device="cpu")
    with pytest.raises(InvalidOption, match="mps:0 has no float64"):
        load_model(str(tmp_path), device="mps:0")


def test_a_saved_model_answers_as_before(tmp_path: Any) -> None:
    # For Qwen2, AutoTokenizer would build its own class, whatever was saved.
    tokenizer = tiny_tokenizer()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    policy = TransformersPolicy(LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)), tokenizer)
    policy.model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = TransformersPolicy.load(str(tmp_path), device="cpu", template_options={"opening": "<think>"})
    assert loaded.generate(requests(4), Sampling(9)) == policy.generate(requests(4), Sampling(9))
    messages = [{"role": "user", "content": "hello"}]
    assert loaded.render(messages) == policy.render(messages) + "<think>"
    assert policy.render(messages) == "<|user|>hello<|end|><|assistant|>"
    assert policy.encode(policy.render(messages))[0] == policy.tokenizer.convert_tokens_to_ids("<|user|>")


def test_models_with_sliding_windows_are_cached_by_their_own_rules() -> None:
    policy = tiny_policy(use_sliding_window=True, sliding_window=8, max_window_layers=1)
    plain = tiny_policy()
    asked = requests(9)
    assert differences(policy, asked, Sampling(24)).abs().max() < 1e-5
    assert policy.generate(asked, Sampling(24)) != plain.generate(asked, Sampling(24))
