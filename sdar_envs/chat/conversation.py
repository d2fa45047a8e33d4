"""The chat of an episode: prompts from what the environment says, commands from what the model writes.

`Conversation` is the one implementation of turning an episode into chat. It steps no environment, for players whose
episodes are stepped elsewhere; `sdar_envs.chat.ChatEpisode` has its environment with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

from sdar_envs.errors import EpisodeOver, InvalidOption, check_choice
from sdar_envs.prompt import (
    ParsedCompletion,
    PromptParts,
    PromptStyle,
    Turn,
    later_message,
    parse_completion,
    prompt_parts,
)
from sdar_envs.tools import Tool, ToolCall, assistant_message

__all__ = ["HISTORY_LENGTH", "ChatMode", "Conversation", "Messages"]

ChatMode = Literal["windowed", "appended"]
"""How an episode becomes chat. `windowed`: each prompt is one user message, built anew, that shows the last turns.
`appended`: one growing chat, whose assistant messages are the completions as the model wrote them."""

_ONE_CALL = "Not carried out: the first call of a turn counts."

HISTORY_LENGTH = 2
"""How many of the latest turns a windowed prompt shows, where nothing else is said."""

Messages = list[dict[str, str]]
"""Chat messages, each `{"role": ..., "content": ...}`.

In an appended chat with native tool calls a message of the assistant has its calls as JSON text in `tool_calls`, and
what the environment says to a call has the role `tool` and its `tool_call_id`; `sdar_envs.tools.api_messages` gives
them in the form of OpenAI's API."""


class Conversation:
    """An episode as chat, for a player that is told what the environment said.

        conversation.observe(observation, info)
        parsed = conversation.read(model(conversation.messages()))
        conversation.answer(parsed, text)

    Of `info` it reads the instruction and the admissible commands, and no more: nothing else reaches a prompt.

    Args:
        style: how turns are presented and completions parsed.
        mode: see `ChatMode`.
        history_length: how many of the latest turns a windowed prompt shows; None for what the style says, else 2. An
            appended chat shows all.
        system: text of a system message; None for none.

    Attributes:
        style: as given.
        mode: as given.
        history_length: as given, or the style's.
        past: all turns that the environment has answered, oldest first.

    Raises:
        InvalidOption: there is no such mode, or `history_length` is negative or of an appended chat.
    """

    def __init__(
        self,
        style: PromptStyle,
        *,
        mode: ChatMode = "windowed",
        history_length: int | None = None,
        system: str | None = None,
    ) -> None:
        check_choice("mode", mode, get_args(ChatMode))
        if mode == "appended" and history_length is not None:
            raise InvalidOption(
                f"history_length is {history_length}, but an appended chat shows all turns: leave it out."
            )
        if history_length is None:
            history_length = HISTORY_LENGTH if style.history_length is None else style.history_length
        if history_length < 0:
            raise InvalidOption(f"history_length is {history_length}; wanted 0 or more turns.")
        self.style = style
        self.mode: ChatMode = mode
        self.history_length = history_length
        self.system = system
        self.past: list[Turn] = []
        self._observation: str | None = None
        self._answer: Turn | None = None
        self._instruction = ""
        self._commands: Sequence[str] = ()
        self._chat: Messages = []
        self._answered = 0
        self._starts: list[int] = []
        self._calls: list[str] = []

    @property
    def observation(self) -> str:
        """What the environment said last.

        Raises:
            EpisodeOver: nothing was observed yet.
        """
        return self._begun()

    @property
    def answered_messages(self) -> int:
        """How many of the messages end with the last completion; the others are new. 0 where all are new."""
        return self._answered

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the model may call natively; none in another action format than `tools`."""
        return self.style.tools if self.style.action_format == "tools" else ()

    def observe(self, observation: str, info: Mapping[str, Any]) -> None:
        """Take in what the environment says: at first, and after each answer."""
        if self._answer is not None:
            self.past.append(self._answer)
            self._answer = None
        self._observation = observation
        self._instruction = info["instruction"]
        self._commands = info["admissible_commands"]
        if self.mode == "appended":
            self._append()

    def parts(self) -> PromptParts:
        """Return the windowed prompt in parts, for skills and token limits; of a growing chat, its first prompt.

        Raises:
            EpisodeOver: nothing was observed yet.
            InvalidOption: the episode is a growing chat after its first turn.
        """
        if self.mode == "appended" and self.past:
            raise InvalidOption("an appended chat has parts at its first turn alone: use messages().")
        return self._parts()

    @property
    def shown_turns(self) -> int:
        """How many past turns the prompt of the next completion shows."""
        return len(self.past) if self.mode == "appended" else self._parts().shown_turns

    def messages(self, shown: int | None = None) -> Messages:
        """Return the whole prompt of the next completion.

        Args:
            shown: how many of the latest turns it shows, for models with a short context; None for all that it should.
                A growing chat keeps its first message, which says the task; without any turns it is a windowed prompt.

        Raises:
            EpisodeOver: nothing was observed yet.
        """
        if self.mode == "windowed":
            parts = self._parts()
            return parts.messages() if shown is None else replace(parts, history_length=shown).messages()
        self._begun()
        chat = [dict(message) for message in self._chat]
        if shown is None or shown >= len(self.past):
            return chat
        if not shown:
            return replace(self._parts(), history_length=0).messages()
        # Each turn is a completion and what the environment said to it.
        return [*chat[: self._starts[0]], *chat[self._starts[-shown] :]]

    def read(
        self,
        completion: str,
        *,
        prefilled: str = "",
        reasoning: str | None = None,
        tool_calls: Sequence[ToolCall] = (),
    ) -> ParsedCompletion:
        """Parse a completion, as `sdar_envs.prompt.parse_completion` does; the conversation stays as it is."""
        return parse_completion(completion, self.style, prefilled=prefilled, reasoning=reasoning, tool_calls=tool_calls)

    def answer(self, parsed: ParsedCompletion, completion: str, tool_calls: Sequence[ToolCall] = ()) -> None:
        """Take in the answer to the latest observation; what the environment says to it comes with `observe`.

        Args:
            parsed: what was read.
            completion: what the model wrote.
            tool_calls: its native tool calls, which an appended chat keeps.
        """
        self._answer = parsed.turn(self._begun(), self.style.kept(completion))
        if self.mode == "appended":
            self._starts.append(len(self._chat))
            calls = tool_calls if self.style.action_format == "tools" else ()
            # A server may leave out what it calls them by, and the answers name it.
            self._calls = [call.id or f"call_{len(self._chat)}_{number}" for number, call in enumerate(calls)]
            self._chat.append(assistant_message(completion, calls, self._calls))
            self._answered = len(self._chat)

    def _begun(self) -> str:
        if self._observation is None:
            raise EpisodeOver("the conversation has not begun: call observe() with the first observation.")
        return self._observation

    def _parts(self) -> PromptParts:
        return prompt_parts(
            self.style,
            self._instruction,
            self.past,
            self._begun(),
            self._commands,
            history_length=self.history_length,
            system=self.system,
        )

    def _append(self) -> None:
        if not self._chat:
            self._chat = self._parts().messages()
            return
        text = later_message(self.style, self._instruction, self.past, self._begun(), self._commands)
        if not self._calls:
            self._chat.append({"role": "user", "content": text})
        for number, call_id in enumerate(self._calls):
            said = _ONE_CALL if number else text
            self._chat.append({"role": "tool", "tool_call_id": call_id, "content": said})
