"""Chat models in this process, with a random model that the test makes: batches, limits, engines, settings."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sdar_agents import open_agent
from sdar_agents.engines.local import LocalPolicy
from sdar_agents.engines.policy import Request
from sdar_agents.types import Completion
from sdar_benchmarks.evaluation.evaluate import Plan, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_benchmarks.records.runs import read_config, read_trajectories
from sdar_envs.errors import InvalidOption, MissingExtra

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{{ opening or '' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("model")
    special = ["<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>"]
    bytes_ = {char: i for i, char in enumerate(sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()))}
    raw = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=bytes_, merges=[]))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = tokenizers.decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|end|>", pad_token="<|pad|>", additional_special_tokens=special
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(path)
    torch.set_num_threads(1)  # two busy threads on two shared cores wait for each other
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4000,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config)
    # Ends come now and then, so that answers of a batch have different lengths.
    with torch.no_grad():
        model.lm_head.weight *= 8
        model.lm_head.weight[tokenizer.eos_token_id] *= 2
    model.save_pretrained(path)
    return str(path)


def chat(text: str, seed: int = 0) -> Request:
    return Request((), seed, [{"role": "user", "content": text}])


def ask(model: LocalPolicy, prompts: Sequence[str], seed: int = 0) -> list[Any]:
    async def run() -> list[Any]:
        chats = [model.complete(chat(prompt, seed + i)) for i, prompt in enumerate(prompts)]
        answers = await asyncio.gather(*chats, return_exceptions=True)
        await model.close()
        return answers

    return asyncio.run(run())


def ids(answers: list[Completion]) -> list[tuple[int, ...]]:
    """The sampled tokens; log-probabilities differ between batches by rounding."""
    return [answer.token_ids for answer in answers]


PROMPTS = ["a", "What is seen?", "x" * 70, "é 漢 🙂", "look " * 20, "open drawer 1", "b", "?"]


def test_a_batch_says_what_each_would_say_alone(folder: str) -> None:
    alone = [ask(LocalPolicy(folder, max_tokens=12), [prompt])[0] for prompt in PROMPTS]
    calls: list[int] = []
    model = LocalPolicy(folder, max_tokens=12, batch_size=5)
    generate = model._generate
    model._generate = lambda batch: calls.append(len(batch)) or generate(batch)  # type: ignore[method-assign,func-returns-value]
    assert ids(ask(model, PROMPTS)) == ids(alone)
    assert calls == [5, 3]
    assert len({answer.text for answer in alone}) > 1


def test_tokens_are_counted_as_they_were_read_and_written(folder: str) -> None:
    model = LocalPolicy(folder, max_tokens=30)
    [answer] = ask(model, ["abc"])
    # Three bytes and three marks of the template.
    assert answer.prompt_tokens == 6
    assert 1 <= answer.completion_tokens <= 30
    ends = [a.completion_tokens for a in ask(LocalPolicy(folder, max_tokens=60, temperature=1.0), PROMPTS)]
    assert min(ends) < 60


def test_sampling_follows_the_seed_whatever_the_batch(folder: str) -> None:
    first, again, other = (
        ids(ask(LocalPolicy(folder, max_tokens=20, temperature=1.0, batch_size=size), PROMPTS, seed=seed))
        for size, seed in ((1, 1), (8, 1), (8, 2))
    )
    assert first == again != other


def test_the_template_takes_options(folder: str) -> None:
    plain = LocalPolicy(folder, max_tokens=1)
    opened = LocalPolicy(folder, max_tokens=1, template_options={"opening": "<think>"})
    # A model that thinks may write more than one that does not.
    assert LocalPolicy(folder).max_tokens == 512
    assert LocalPolicy(folder, template_options={"opening": "<think>"}).max_tokens == 2000  # half of its context
    [a], [b] = ask(plain, ["abc"]), ask(opened, ["abc"])
    assert b.prompt_tokens == a.prompt_tokens + len("<think>")


def test_what_is_too_long_fails_alone(folder: str) -> None:
    short, long, other = ask(LocalPolicy(folder, max_tokens=12), ["a", "x" * 4000, "b"])
    assert isinstance(short, Completion)
    assert isinstance(other, Completion)
    assert isinstance(long, InvalidOption)
    assert "a prompt of 4003 tokens and an answer of 12 exceed the model's 4000" in str(long)


def test_whoever_left_is_not_waited_for(folder: str) -> None:
    async def run() -> list[Any]:
        model = LocalPolicy(folder, max_tokens=8)
        chats = [asyncio.ensure_future(model.complete(chat(text))) for text in "ab"]
        await asyncio.sleep(0)
        chats[0].cancel()
        return await asyncio.gather(*chats, return_exceptions=True)

    gone, kept = asyncio.run(run())
    assert isinstance(gone, asyncio.CancelledError)
    assert isinstance(kept, Completion)


def test_a_template_without_a_system_role_is_an_error_before_the_first_episode(tmp_path: Path) -> None:
    pytest.importorskip("helpers.tiny_chat", exc_type=ImportError).save_tiny_chat(tmp_path)
    template = tmp_path / "chat_template.jinja"
    rule = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    template.write_text(rule + template.read_text())
    settings = {"model": str(tmp_path), "max_tokens": 4}
    with pytest.raises(InvalidOption, match=r"roles system, user .*System role not supported.*the setting `system`"):
        open_agent("transformers", {**settings, "system": "Be good."}, ["sdar/ALFWorld-v0"])
    open_agent("transformers", settings, ["sdar/ALFWorld-v0"])


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"temperature": -1}, "temperature is -1"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"batch_size": 1.5}, r"batch_size is 1\.5"),
        ({"constrained": "yes"}, "constrained is 'yes'; wanted true or false"),
        ({"constrained": True, "engine": "own:Engine"}, "constrained decoding was asked of the engine 'own:Engine'"),
        ({"model": "/no/such/model"}, "'/no/such/model' cannot be loaded"),
        ({"dtype": "float17"}, "cannot be loaded"),
        ({"device": "abacus"}, "cannot be loaded on abacus"),
    ],
)
def test_bad_settings(folder: str, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        LocalPolicy(**{"model": folder, **settings})


def test_the_agent_plays(folder: str) -> None:
    agents = open_agent(
        "transformers", {"model": folder, "max_tokens": 4, "price_prompt": 1, "price_completion": 1}, ()
    )
    suite = PanelSpec("sdar/WebShop-v0", "test", 4, {"max_steps": 2})
    for row in evaluate(Plan([suite], concurrency=4), agents).episodes:
        assert (row.stop_reason, row.steps, row.invalid_actions) == ("step_limit", 2, 2)
        assert row.prompt_tokens > 1000  # one a byte
        assert 2 <= row.completion_tokens <= 8
        assert row.cost == pytest.approx((row.prompt_tokens + row.completion_tokens) / 1e6)


def test_all_settings_are_told(folder: str) -> None:
    settings = open_agent("transformers", {"model": folder, "device": "cpu"}, ()).settings
    assert settings["device"] == "cpu"
    assert (settings["temperature"], settings["max_tokens"], settings["batch_size"]) == (0.0, 512, 16)


def test_constrained_decoding_plays_admissible_commands_only(folder: str, tmp_path: Path) -> None:
    settings = {"model": folder, "max_tokens": 4, "temperature": 1.0}
    suite = PanelSpec("sdar/ALFWorld-v0", "valid_seen", 2, {"max_steps": 3})
    free, constrained = (
        evaluate(Plan([suite], concurrency=2), open_agent("transformers", {**settings, **chosen}, ()), out=out).episodes
        for chosen, out in (({}, tmp_path / "free"), ({"constrained": True}, tmp_path / "constrained"))
    )
    assert [row.steps for row in (*free, *constrained)] == [3] * 4
    turns = [turn for trajectory in read_trajectories(tmp_path / "constrained") for turn in trajectory["turns"]]
    assert all(turn["action"] in turn["admissible_commands"] for turn in turns)
    turns = [turn for trajectory in read_trajectories(tmp_path / "free") for turn in trajectory["turns"]]
    assert not any(turn["action"] in turn["admissible_commands"] for turn in turns)
    assert read_config(tmp_path / "constrained")["agent"]["settings"]["constrained"] is True


def test_an_engine_of_ones_own_completes_the_prompts(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shouting.py").write_text(
        "from dataclasses import replace\n"
        "from sdar_agents import TransformersPolicy\n"
        "class Loud(TransformersPolicy):\n"
        "    def generate(self, requests, sampling):\n"
        "        return [replace(c, text='<action>UP</action>') for c in super().generate(requests, sampling)]\n"
    )
    monkeypatch.chdir(tmp_path)
    model = LocalPolicy(folder, engine="shouting:Loud", max_tokens=3)
    assert [answer.text for answer in ask(model, ["a", "b"])] == ["<action>UP</action>"] * 2


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'sdar-envs\[transformers\]'"):
        open_agent("transformers", {"model": "x"}, ())
