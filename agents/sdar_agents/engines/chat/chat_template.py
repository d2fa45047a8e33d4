"""Chat template of a tokenizer: messages to token ids, in which only the template's own control tokens are such.

The content of messages is text: a passage or a product title that holds `<|im_end|>` must not end the user's turn.
`ChatTemplate.render` marks the control tokens in the contents of messages, before the template is applied, and
`ChatTemplate.encode` encodes what is marked as plain text. Text without control tokens is encoded as the tokenizer does
it, to the id. The mark is inside the control token, so templates may trim, split or repeat contents.

Control tokens are the special tokens of the tokenizer, and other added tokens of a known form, such as `<tool_call>`
(`sdar_envs.control_tokens`); the tags of answers (`<think>`, `<action>`, ...) are not. Plain text is encoded by a copy
of the fast tokenizer in which the control tokens have other, secret names. For a tokenizer that cannot be copied, there
is a space behind the first character of each (`< |im_end|>`); for one that does not tell its added tokens, in those of
a known form.
"""

from __future__ import annotations

import json
import re
import secrets
import unicodedata
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

from sdar_agents.engines.chat.template_errors import template_errors
from sdar_envs.control_tokens import break_control_tokens, is_control_token
from sdar_envs.prompt import STYLES

__all__ = ["ChatTemplate", "Messages", "Tokenizer", "opened_thought"]

Messages = Sequence[Mapping[str, str]]
"""Chat messages: `role` and `content` of each."""

_MARK = "\ufdd0\ufdd1"
"""Stands inside a control token that is plain text. Noncharacters, which no text holds; if one does, they are lost."""

_ANSWER_TAGS = frozenset(
    f"<{slash}{tag}>"
    for slash in ("", "/")
    for tag in ("think", "information", *(tag for style in STYLES.values() for tag in style.action_tags))
)
_OPENED_THOUGHT = re.compile(r"<think>\s*\Z")


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that policies use."""

    eos_token_id: int | None

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render chat messages."""
        ...

    def encode(self, text: str, **options: Any) -> list[int]:
        """Return the token ids of a text."""
        ...

    def __call__(self, text: list[str], **options: Any) -> Any:
        """Return the token ids of texts, as `input_ids`."""
        ...


class ChatTemplate:
    """A tokenizer's chat template, with safe encoding of what it renders.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        options: for the chat template, such as `{"enable_thinking": False}`.
    """

    def __init__(self, tokenizer: Tokenizer, options: Mapping[str, Any] = MappingProxyType({})) -> None:
        self.tokenizer = tokenizer
        self.options = dict(options)

    def render(self, messages: Messages) -> str:
        """Return the prompt's text with the generation prompt, to be encoded by `encode`.

        It is what the template makes of the messages, with marks inside the control tokens of their contents. A last
        message of the assistant is the beginning of what the model is to write: it follows the generation prompt as it
        is.

        Raises:
            InvalidOption: the template refuses them.
        """
        if messages and messages[-1]["role"] == "assistant":
            # Not the template's own way to continue a message: many templates change thoughts in it.
            return self.render(messages[:-1]) + self.mark(messages[-1]["content"])
        marked = [{**message, "content": self.mark(message["content"])} for message in messages]
        with template_errors(self.tokenizer, messages):
            text = self.tokenizer.apply_chat_template(
                marked, tokenize=False, add_generation_prompt=True, **self.options
            )
        assert isinstance(text, str)
        return text

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a rendered text; nothing is added, because the template has written its tokens."""
        if _MARK not in text:
            return tuple(self.tokenizer.encode(text, add_special_tokens=False))
        if self._plain is None:
            return tuple(self.tokenizer.encode(text.replace(_MARK, " "), add_special_tokens=False))
        backend, names = self._plain
        own = text if self._exact is None else self._exact.sub(lambda match: names[match[0]], text)
        return tuple(backend.encode(own.replace(_MARK, ""), add_special_tokens=False).ids)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each rendered text; faster than `encode` one by one."""
        found: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        return [list(self.encode(text)) if _MARK in text else ids for text, ids in zip(texts, found, strict=True)]

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Return the token ids of plain text, such as a command: none of them is a control token."""
        return self.encode(self.mark(text))

    @cached_property
    def prefilled(self) -> str:
        """What the template writes at the start of the model's turn that opens a thought, such as `<think>`, or ""."""
        try:
            return opened_thought(self.render([{"role": "user", "content": "Go on."}]))
        except Exception as error:
            warnings.warn(
                f"whether the chat template opens <think> cannot be known, because it cannot be rendered ({error}): "
                "set prefilled to '<think>' if it does.",
                RuntimeWarning,
                stacklevel=2,
            )
            return ""

    def continuation(self, completion: str) -> str:
        """Return a whole completion without the `<think>` that the template has written already."""
        return completion.lstrip().removeprefix("<think>") if self.prefilled else completion

    def mark(self, text: str) -> str:
        """Escape the control tokens of a text: `encode` then treats them as plain text."""
        if self._near is None:
            return break_control_tokens(text) if not self._knows_tokens else text
        if self._is_normalizing and not text.isascii() and not self._near.search(text):
            # Full-width letters may come out as a control token.
            normal = unicodedata.normalize("NFKC", text)
            text = normal if self._near.search(normal) else text
        while self._near.search(text):
            # Again, because what is marked may have covered the beginning of another one.
            text = self._near.sub(lambda match: match[0][0] + _MARK + match[0][1:], text)
        return text

    @cached_property
    def _knows_tokens(self) -> bool:
        return hasattr(self.tokenizer, "added_tokens_decoder")

    @cached_property
    def _control_tokens(self) -> list[str]:
        """The control tokens, the longest first."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        names = {
            token.content
            for token in added
            if token.content not in _ANSWER_TAGS and (token.special or is_control_token(token.content))
        }
        return sorted((name for name in names if len(name) > 1), key=lambda name: (-len(name), name))

    @cached_property
    def _exact(self) -> re.Pattern[str] | None:
        return _any_of(self._control_tokens, 0) if self._control_tokens else None

    @cached_property
    def _near(self) -> re.Pattern[str] | None:
        """What may be taken for a control token: tokenizers may ignore case."""
        return _any_of(self._control_tokens, re.IGNORECASE) if self._control_tokens else None

    @cached_property
    def _is_normalizing(self) -> bool:
        return getattr(getattr(self.tokenizer, "backend_tokenizer", None), "normalizer", None) is not None

    @cached_property
    def _plain(self) -> tuple[Any, Mapping[str, str]] | None:
        """A copy of the tokenizer with its control tokens renamed, and their names there; None if it has no copy."""
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is None:
            return None
        secret = secrets.token_hex(8)
        names = {name: f"\ue000{secret}.{number}\ue001" for number, name in enumerate(self._control_tokens)}
        settings = json.loads(backend.to_str())  # noqa: TID251  # of the tokenizer itself
        model = settings["model"]
        made = {"".join(pair if isinstance(pair, list) else pair.split(" ")) for pair in model.get("merges", ())}
        if made & names.keys():
            return None  # text is merged to a control token, which no name can prevent
        if isinstance(model["vocab"], dict):
            model["vocab"] = {names.get(piece, piece): number for piece, number in model["vocab"].items()}
        else:
            model["vocab"] = [[names.get(piece, piece), score] for piece, score in model["vocab"]]
        if "unk_token" in model:
            model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
        for token in settings["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        settings |= {"post_processor": None, "truncation": None, "padding": None}
        try:
            copy = type(backend).from_str(json.dumps(settings))
        except Exception:  # what the library raises for what it cannot read
            return None
        return (copy, names) if all(copy.token_to_id(names[n]) == backend.token_to_id(n) for n in names) else None


def opened_thought(prompt: str) -> str:
    """Return the opening think tag at the end of a rendered prompt, with the white space behind it; "" without one."""
    found = _OPENED_THOUGHT.search(prompt[-64:])
    return found[0] if found else ""


def _any_of(texts: Sequence[str], flags: int) -> re.Pattern[str]:
    """Return a pattern of texts, the longest first; those with the same first character have it in common."""
    firsts: dict[str, list[str]] = {}
    for text in texts:
        firsts.setdefault(text[0], []).append(re.escape(text[1:]))
    return re.compile("|".join(f"{re.escape(first)}(?:{'|'.join(rest)})" for first, rest in firsts.items()), flags)
