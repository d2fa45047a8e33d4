"""Tiny, randomly initialised language models with a tokenizer trained on given texts.

    tokenizer = train_tokenizer(texts)
    model = make_model(TINY_MODELS["tiny-1m"], tokenizer, seed=0)
    save_model(model, tokenizer, folder)

They are ordinary Hugging Face models (architecture Qwen3): `AutoModelForCausalLM` and `AutoTokenizer` load the folder.
They are for development, tests and teaching, and know only what they are fine-tuned on.

Words are split so that a name such as ` sidetable 2` is always the two tokens ` sidetable` and ` 2`: a small model
learns to copy whole words far sooner than sequences of pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from sdar_agents.engines.transformers import without_bars
from sdar_agents.settings.checks import check_settings, setting
from sdar_agents.sft.settings import SFTSettings
from sdar_envs.alfworld.knowledge import OBJECT_CLASSES, RECEPTACLE_CLASSES
from sdar_envs.errors import CorruptData, InvalidOption

__all__ = ["TINY_MODELS", "TINY_SFT", "TinyModel", "make_model", "save_model", "train_tokenizer"]

END, START, PAD = "<|im_end|>", "<|im_start|>", "<|endoftext|>"
TAGS = ("<think>", "</think>", "<action>", "</action>", "<search>", "</search>", "<answer>", "</answer>")
"""Tags of the answer format, a single token each, so that the format is easy to learn."""

_SPLIT = r" ?\p{L}+| ?\p{N}| ?[^\s\p{L}\p{N}]+|\r?\n|\s"
_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}"
    "{{ '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """Shape of a tiny model.

    Attributes:
        hidden_size: width of the model; an even number for each head.
        layers: number of layers.
        heads: number of attention heads.
        mlp_size: width inside the feed-forward blocks.
        context_length: tokens of prompt and completion together.
    """

    hidden_size: int = setting(128, low=8)
    layers: int = setting(4, low=1)
    heads: int = setting(4, low=1)
    mlp_size: int = setting(384, low=8)
    context_length: int = setting(4096, low=16)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.hidden_size % (2 * self.heads):
            raise InvalidOption(
                f"hidden_size is {self.hidden_size} with {self.heads} heads; wanted an even number for each head."
            )


TINY_MODELS: Mapping[str, TinyModel] = MappingProxyType(
    {
        "tiny-test": TinyModel(hidden_size=32, layers=2, heads=2, mlp_size=64, context_length=1024),
        "tiny-1m": TinyModel(),
        "tiny-5m": TinyModel(hidden_size=256, layers=6, heads=8, mlp_size=768),
    }
)
"""Shapes by name: for tests, and of about 1 and 5 million parameters."""

TINY_SFT = SFTSettings(lr=3e-3, batch_tokens=4096, max_tokens=4096, prompt_weight=0.1, log_every=20, save_every=200)
"""Settings for training a tiny model from scratch on demonstrations of small rooms."""


def train_tokenizer(texts: Iterable[str], *, size: int = 1024) -> Any:
    """Train a byte-level BPE tokenizer within words: any text can be encoded, and decodes to itself.

    Args:
        texts: what the model will read and write.
        size: entries at most; 267 are bytes, special tokens and tags.

    Returns:
        A `PreTrainedTokenizerFast` with a chat template that marks the assistant's tokens.

    Raises:
        InvalidOption: the size is too small.
    """
    special = [PAD, START, END]
    bytes_ = pre_tokenizers.ByteLevel.alphabet()
    least = len(bytes_) + len(special) + len(TAGS)
    if size < least:
        raise InvalidOption(f"size is {size}; wanted at least {least}: each byte is an entry.")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(TAGS), special_tokens=special, initial_alphabet=sorted(bytes_), show_progress=False
    )
    bpe.train_from_iterator(_corpus(texts), trainer)
    bpe.add_tokens(list(TAGS))
    make: Any = PreTrainedTokenizerFast
    tokenizer = make(tokenizer_object=bpe, eos_token=END, pad_token=PAD, clean_up_tokenization_spaces=False)
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def _corpus(texts: Iterable[str]) -> Iterable[str]:
    yield from texts
    # Names and numbers that the texts may lack, often enough to be merged; and the roles of the template.
    for name in (*OBJECT_CLASSES, *RECEPTACLE_CLASSES):
        yield f" {name.lower()}" * 8
    for digit in range(10):
        yield f" {digit}" * 8
    for role in _ROLES:
        yield f"{role}\n" * 8


def make_model(shape: TinyModel, tokenizer: Any, *, seed: int) -> Any:
    """Make a model with random weights of standard deviation `1 / sqrt(hidden_size)`.

    With the usual 0.02, which suits widths of 2048 and more, models of width 128 did not learn to copy.

    Args:
        shape: see `TinyModel`.
        tokenizer: decides the vocabulary.
        seed: of the weights. Torch's random state is left as it was.

    Returns:
        A `Qwen3ForCausalLM` in float32.
    """
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        intermediate_size=shape.mlp_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        head_dim=shape.hidden_size // shape.heads,
        max_position_embeddings=shape.context_length,
        tie_word_embeddings=True,
        initializer_range=shape.hidden_size**-0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a model and its tokenizer, and check that `AutoTokenizer` loads an equal tokenizer.

    For some architectures (Qwen2 is one) `AutoTokenizer` builds a class of its own and ignores how the tokenizer splits
    words, so that the ids differ without an error.

    Args:
        model: a Hugging Face model.
        tokenizer: its tokenizer.
        folder: made if it is missing.

    Raises:
        CorruptData: the loaded tokenizer gives other ids.
        OSError: the folder cannot be written.
    """
    with without_bars():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    read = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    text = f"{START}user\nput a hot mug 1 in sidetable 12.\n\n{TAGS[0]}Größe 漢字  x{TAGS[1]}{END}"
    if read.encode(text) != tokenizer.encode(text) or read.chat_template != tokenizer.chat_template:
        raise CorruptData(
            f"{folder}: AutoTokenizer reads this tokenizer as {type(read).__name__}, which gives other ids; choose an "
            "architecture for which it does not."
        )
