"""Growing chats as tokens: what stands between a completion and the next one.

A prompt of a growing chat is the prompt before, the sampled tokens, and the tokens of the new messages. Nothing is
tokenised twice, so the model is fed and trained on what it has sampled, also where its text would be encoded otherwise
or the chat template would leave thoughts out of earlier messages.
"""

from __future__ import annotations

from sdar_agents.engines.chat_template import Messages
from sdar_agents.engines.policy import Policy
from sdar_agents.types import Completion
from sdar_envs.errors import InvalidOption

__all__ = ["AppendedMessages"]

_MARK = "WHERE-A-COMPLETION-ENDS"
# A template may close a message with white space before the end token.
_CLOSING_TOKENS = 4


class AppendedMessages:
    """Tokens of the messages that follow a completion.

    Args:
        policy: its chat template and its tokens.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def ids(self, messages: Messages, completion: Completion) -> tuple[int, ...]:
        """Return the tokens from the end of a completion to the beginning of the next.

        They close the completion, unless it has ended itself with the token that closes messages.

        Args:
            messages: the new messages.
            completion: the last one.

        Raises:
            InvalidOption: the chat template does not show earlier completions.
        """
        before = [{"role": "user", "content": "Go on."}, {"role": "assistant", "content": _MARK}]
        _, found, after = self._policy.render([*before, *messages]).rpartition(_MARK)
        if not found:
            raise InvalidOption(
                "the chat template does not show what the model has written before, which a growing chat needs: set "
                "mode to windowed, or give the tokenizer another chat_template."
            )
        ids = self._policy.encode(after)
        if completion.stop_reason == "eos" and completion.token_ids[-1] in ids[:_CLOSING_TOKENS]:
            return ids[ids.index(completion.token_ids[-1]) + 1 :]
        return ids
