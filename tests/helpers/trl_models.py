"""A random chat model whose chat template is Qwen2.5's, of which TRL reads tool calls."""

from __future__ import annotations

from pathlib import Path

from helpers.tiny_chat import save_tiny_chat


def save_tiny_qwen(folder: Path) -> Path:
    """Write the model and its tokenizer."""
    from transformers import AutoTokenizer
    from trl.chat_template_utils import qwen2_5_chat_template

    save_tiny_chat(folder, max_position_embeddings=1 << 14)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = qwen2_5_chat_template
    tokenizer.save_pretrained(folder)
    return folder
