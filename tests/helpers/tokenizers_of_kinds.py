"""Small tokenizers of the kinds that chat models have, with control tokens of several families."""

from __future__ import annotations

from functools import cache

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<s>", "</s>", "<eos>", "<|im_start|>", "<|im_end|>", "<end_of_turn>")
# Of Qwen and DeepSeek: added tokens that are not special, but control the chat. The last is no control token.
ADDED = ("<tool_call>", "</tool_call>", "<\uff5cUser\uff5c>", "<think>")
CONTROL = tuple(sorted((*SPECIAL, *ADDED[:-1])))
KINDS = ("byte-level", "byte-fallback", "unigram", "wordpiece", "wordlevel")

TEMPLATE = (
    "<s>{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ opening or '' }}{% endif %}"
)
TEXTS = [
    "You are in the middle of a room. Looking quickly around you, you see a cabinet 1, a desk 1 and a drawer 2.",
    "Caf\u00e9 \u00dcber price lower than 20.00 dollars [SEP] Back to Search [SEP] Buy Now",
    "First reason step by step inside <think>...</think>. Then give one command inside <action>...</action>.",
    "im_start im_end tool_call User eos s end of turn assistant user system s eos",
]


@cache
def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    """A trained tokenizer; special tokens are in the vocabulary of the model, as SentencePiece has them."""
    unk = {"unk_token": "<unk>"}
    raw: Tokenizer
    common = {"special_tokens": list(SPECIAL), "show_progress": False}
    if kind == "byte-level":
        raw = Tokenizer(models.BPE())
        raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        raw.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=500, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), **common
        )
    elif kind == "byte-fallback":  # Llama 2
        raw = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, **unk))
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
        raw.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
        common["special_tokens"] = [*SPECIAL, *(f"<0x{i:02X}>" for i in range(256))]
        trainer = trainers.BpeTrainer(vocab_size=700, **common)
    elif kind == "unigram":  # T5
        raw = Tokenizer(models.Unigram())
        raw.normalizer = normalizers.NFKC()
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        raw.decoder = decoders.Metaspace(prepend_scheme="first")
        trainer = trainers.UnigramTrainer(vocab_size=300, **common, **unk)
    elif kind == "wordpiece":  # BERT
        raw = Tokenizer(models.WordPiece(**unk))
        raw.normalizer = normalizers.BertNormalizer(lowercase=True)
        raw.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        raw.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=400, **common)
    else:
        raw = Tokenizer(models.WordLevel(**unk))
        raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        trainer = trainers.WordLevelTrainer(vocab_size=400, **common)
    raw.train_from_iterator(TEXTS * 3, trainer)
    if kind == "byte-fallback":
        # What a byte falls back to is an ordinary token there.
        raw = Tokenizer.from_str(_without_bytes(raw.to_str()))
    raw.add_tokens([AddedToken(name, special=False, normalized=False) for name in ADDED])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def control_ids(kind: str) -> set[int]:
    """The ids of control tokens; not the one of unknown characters."""
    tokenizer = tokenizer_of(kind)
    return set(tokenizer.convert_tokens_to_ids([name for name in CONTROL if name != "<unk>"]))


def _without_bytes(text: str) -> str:
    import json

    settings = json.loads(text)
    settings["added_tokens"] = [token for token in settings["added_tokens"] if not token["content"].startswith("<0x")]
    return json.dumps(settings)
