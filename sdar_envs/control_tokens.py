"""Control tokens of chat templates within plain text: detection by the forms of known model families, and escaping.

A passage, a product title, a question, a skill or a model's own query may hold `<|im_end|>`. A server that renders
messages by its chat template reads it as the end of the message. `break_control_tokens` makes text of it, for prompts
that somebody else tokenises. Where the tokenizer is at hand, `sdar_agents.engines.chat.chat_template` leaves the text
as it is and encodes it as plain text instead.
"""

from __future__ import annotations

import re

__all__ = ["break_control_tokens", "find_control_tokens", "is_control_token"]

_FORMS = (
    r"<\|[^|<>\n]{1,64}\|?>",  # ChatML, Qwen, Llama 3, Phi, GLM, Command, gpt-oss; <|turn> of Gemma
    r"<[^|<>\s][^|<>\n]{0,63}\|>",  # <turn|> of Gemma
    "<\uff5c[^\uff5c<>\n]{1,64}\uff5c>",  # DeepSeek
    r"</?s>|<(?:bos|eos|pad|unk|mask|sop|eop)>",  # SentencePiece
    r"<(?:start|end)_of_\w{1,32}>|<unused\d+>|<extra_id_\d+>",  # Gemma, T5
    r"</?(?:[a-z]+:)?(?:tool_call|tool_calls|tool_response|tools)>|</?arg_(?:key|value)>",  # Qwen, Hermes, MiniMax, GLM
    r"<[a-z]+:(?:bos|eos|pad)>",  # Seed
    r"<fim_\w{1,16}>|<(?:repo_name|file_sep)>",  # StarCoder
    r"<</?SYS>>|\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|THINK)\]|\[gMASK\]",  # Llama, Mistral
)
_CONTROL_TOKEN = re.compile("|".join(_FORMS), re.IGNORECASE)


def is_control_token(text: str) -> bool:
    """Return whether the whole text has the form of a control token."""
    return _CONTROL_TOKEN.fullmatch(text) is not None


def find_control_tokens(text: str) -> list[str]:
    """Return the control tokens in a text, each once, in the order of their first places."""
    return list(dict.fromkeys(match[0] for match in _CONTROL_TOKEN.finditer(text)))


def break_control_tokens(text: str) -> str:
    """Return the text with a space behind the first character of each control token: `< |im_end|>`.

    No other text changes; the tags of answers, such as `<think>`, are no control tokens. A space, because tokenizers
    may drop what is invisible.
    """
    while True:
        # Again, because what is broken up may have covered the beginning of another one.
        broken = _CONTROL_TOKEN.sub(lambda match: f"{match[0][0]} {match[0][1:]}", text)
        if broken == text:
            return text
        text = broken
