"""A random chat model with a tokenizer for the suites' texts, as a folder that any trainer can load."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

import sdar_envs
from sdar_envs.prompt import render_completion, render_messages, style_for
from sdar_skills import Library

TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    texts = [skill.text for suite in Library.load().suites for skill in Library.load().select(suite)]
    for env_id in sdar_envs.ENV_IDS:
        env = sdar_envs.make_vec(env_id, 1).envs[0]
        observation, info = env.reset(seed=0)
        style = style_for(env.task.suite)
        messages = render_messages(style, info["instruction"], [], observation, info["admissible_commands"])
        texts += [message["content"] for message in messages]
    texts.append(render_completion(style_for("alfworld"), "look", "I look."))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    chat = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    chat.chat_template = TEMPLATE
    return chat


def save_tiny_chat(folder: Path, *, seed: int = 0, **settings: Any) -> Path:
    """Write a model of 2 layers, 32 wide, with random weights, and its tokenizer."""
    tokenizer = tiny_tokenizer()
    torch.manual_seed(seed)
    config = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    Qwen2ForCausalLM(Qwen2Config(**(config | settings))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
