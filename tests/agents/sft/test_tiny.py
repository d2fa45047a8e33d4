"""Tiny models: names are two tokens, any text survives, and the folder is read like any Hugging Face model's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

import sdar_envs
from sdar_agents.sft.tiny import TINY_MODELS, TinyModel, make_model, save_model, train_tokenizer
from sdar_envs.alfworld.knowledge import OBJECT_CLASSES, RECEPTACLE_CLASSES
from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.prompt import render_completion, style_for

TEXTS = [task.instruction for task in sdar_envs.tasks("sdar/ALFWorld-v0", split="valid_unseen")]
TOKENIZER = train_tokenizer(TEXTS)


def test_a_name_is_two_tokens_wherever_it_stands() -> None:
    for class_ in (*OBJECT_CLASSES, *RECEPTACLE_CLASSES):
        name = class_.lower()
        ids = TOKENIZER.encode(f" {name} 2")
        assert len(ids) == 2
        for text in (f"go to {name} 2\n", f"you see a {name} 2, and", f"I look for mug: {name} 2."):
            found = TOKENIZER.encode(text)
            assert any(found[i : i + 2] == ids for i in range(len(found)))


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text


PIECES = (
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</action>",
    "<acti",
    "on>",
    " ",
    "\n",
    "\r\n",
    "12",
    "é漢",
    "\x00",
    "a",
)


@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_any_text_with_tags_comes_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text, add_special_tokens=False)) == text


def test_a_completion_has_single_tags_and_survives() -> None:
    completion = render_completion(style_for("alfworld"), "go to desk 1", "I try desk 1.")
    ids = TOKENIZER.encode(completion)
    assert TOKENIZER.decode(ids, skip_special_tokens=True) == completion
    for tag in ("<think>", "</think>", "<action>", "</action>"):
        assert ids.count(TOKENIZER.convert_tokens_to_ids(tag)) == 1


def test_the_template_marks_what_the_assistant_says() -> None:
    chat = [{"role": "user", "content": "look"}, {"role": "assistant", "content": "I look."}]
    found = TOKENIZER.apply_chat_template(
        chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, add_generation_prompt=False
    )
    said = [token for token, is_said in zip(found["input_ids"], found["assistant_masks"], strict=True) if is_said]
    assert TOKENIZER.decode(said) == "I look.<|im_end|>"
    prompt = TOKENIZER.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    whole = TOKENIZER.apply_chat_template(chat, tokenize=False)
    assert whole == f"{prompt}I look.<|im_end|>\n"


def test_a_folder_is_read_like_any_models(tmp_path: Path) -> None:
    model = make_model(TINY_MODELS["tiny-test"], TOKENIZER, seed=0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.config.max_position_embeddings == TINY_MODELS["tiny-test"].context_length
    save_model(model, TOKENIZER, tmp_path)
    read: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    ids = TOKENIZER.encode("put a hot mug in desk 12.")
    assert tokenizer.encode("put a hot mug in desk 12.") == ids
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (TOKENIZER.eos_token_id, TOKENIZER.pad_token_id)
    with torch.no_grad():
        assert torch.equal(read(torch.tensor([ids])).logits, model.eval()(torch.tensor([ids])).logits)


def test_a_tokenizer_that_would_be_read_as_another_is_refused(tmp_path: Path) -> None:
    config = Qwen2Config(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
    )
    with pytest.raises(CorruptData, match="reads this tokenizer as Qwen2Tokenizer, which gives other ids"):
        save_model(Qwen2ForCausalLM(config), TOKENIZER, tmp_path)


def test_a_template_that_would_be_read_as_another_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = train_tokenizer(TEXTS)
    other.chat_template = "{{ messages }}"
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda _, **__: other)
    with pytest.raises(CorruptData, match="reads this tokenizer as"):
        save_model(make_model(TINY_MODELS["tiny-test"], TOKENIZER, seed=0), TOKENIZER, tmp_path)


@pytest.mark.parametrize(("name", "millions"), [("tiny-1m", 1.0), ("tiny-5m", 5.2)])
def test_shapes_are_as_large_as_they_are_called(name: str, millions: float) -> None:
    model = make_model(TINY_MODELS[name], TOKENIZER, seed=0)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(1e6 * millions, rel=0.12)


def test_weights_follow_the_seed_and_the_width_and_leave_the_random_state_alone() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, same, other = (make_model(TinyModel(), TOKENIZER, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    weights = [model.model.layers[0].mlp.up_proj.weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert weights[0].std().item() == pytest.approx(128**-0.5, rel=0.02)


def test_bad_shapes_and_sizes_are_refused() -> None:
    with pytest.raises(InvalidOption, match="hidden_size is 130 with 4 heads"):
        TinyModel(hidden_size=130)
    with pytest.raises(InvalidOption, match="size is 266; wanted at least 267"):
        train_tokenizer(TEXTS, size=266)
    for size in (267, 300):
        assert len(train_tokenizer(TEXTS, size=size)) == size
