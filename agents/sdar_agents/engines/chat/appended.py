"""Growing chats as tokens: what stands between a completion and the next one.

A prompt of a growing chat is the prompt before, the sampled tokens, and the tokens of the new messages. Nothing is
tokenised twice, so the model is fed and trained on what it has sampled, also where its text would be encoded otherwise
or the chat template would leave thoughts out of earlier messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from sdar_agents.engines.chat.chat_template import Messages
from sdar_agents.types import Completion
from sdar_envs.errors import InvalidOption

__all__ = ["AppendedMessages", "Renderer", "without_closing"]

_MARK = "WHERE-A-COMPLETION-ENDS"
# A template may close a message with white space before the end token.
_CLOSING_TOKENS = 4


class Renderer(Protocol):
    """The part of a policy, or of a chat template, that growing chats need."""

    def render(self, messages: Messages) -> str:
        """Return the prompt's text."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a rendered text."""
        ...


class AppendedMessages:
    """Tokens of the messages that follow a completion.

    Args:
        template: a policy, or its chat template.
    """

    def __init__(self, template: Renderer) -> None:
        self._template = template

    def text(self, messages: Messages) -> str:
        """Return the text from the end of a completion to the beginning of the next, with the completion's closing.

        Args:
            messages: the new messages.

        Raises:
            InvalidOption: the chat template does not show earlier completions.
        """
        before = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": _MARK}]
        _, found, after = self._template.render([*before, *messages]).rpartition(_MARK)
        if not found:
            raise InvalidOption(
                "the chat template does not show what the model has written before, which a growing chat needs: set "
                "history to windowed, or give the tokenizer another chat_template."
            )
        return after

    def ids(self, messages: Messages, completion: Completion) -> tuple[int, ...]:
        """Return the tokens of `text`, without the closing of a completion that has ended with it.

        Args:
            messages: the new messages.
            completion: the last one.

        Raises:
            InvalidOption: see `text`.
        """
        ids = self._template.encode(self.text(messages))
        return without_closing(ids, completion.token_ids[-1]) if completion.stop_reason == "eos" else ids


def without_closing(ids: Sequence[int], end: int) -> tuple[int, ...]:
    """Return the tokens behind a completion without the end token that the completion has written itself.

    Args:
        ids: of `AppendedMessages.text`.
        end: the last token of the completion. Where the template closes messages with another one, nothing is removed.
    """
    closing = tuple(ids[:_CLOSING_TOKENS])
    return tuple(ids[closing.index(end) + 1 :]) if end in closing else tuple(ids)
