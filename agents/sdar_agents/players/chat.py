"""An agent that asks a chat model: prompt, completion, command, turn by turn.

The prompt is that of the task's suite (`sdar_envs.prompt`). Where the model runs is a `Model`: behind an HTTP endpoint
(`endpoint`) or in this process (`local`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym

from sdar_agents.players.players import Decision, Player
from sdar_envs.core import is_integer, text_env
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import PromptStyle, Turn, parse_completion, render_messages, style_of

__all__ = ["ChatAgent", "Completion", "Model", "whole_text"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What a model answered.

    Attributes:
        text: the answer.
        reasoning: what came beside it, from servers that separate the two; else None.
        prompt_tokens: that were read; None if the server does not say.
        completion_tokens: that were written; None if the server does not say.
    """

    text: str
    reasoning: str | None
    prompt_tokens: int | None
    completion_tokens: int | None


class Model(Protocol):
    """Completes chats, any number at once."""

    async def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> Completion:
        """Return the next message of a chat.

        Args:
            messages: `role` and `content` of each.
            seed: of the sampling, below 2**31.

        Raises:
            EndpointError: the model cannot be reached or does not answer as it should.
        """
        ...

    async def close(self) -> None:
        """Let go of connections and memory."""
        ...


class ChatAgent:
    """Plays any text environment with a chat model.

    Args:
        model: who answers.
        history_length: how many of the latest turns a prompt shows.
        system: text for a system message; None for no such message.
        prefilled: what the chat template puts at the start of the model's turn, such as `<think>`.
        price_prompt: of a million tokens read, in any currency; None if nobody asks.
        price_completion: of a million tokens written.

    Raises:
        InvalidOption: `history_length` is not a number from 0, or one of the prices is missing.
    """

    def __init__(
        self,
        model: Model,
        *,
        history_length: int = 2,
        system: str | None = None,
        prefilled: str = "",
        price_prompt: float | None = None,
        price_completion: float | None = None,
    ) -> None:
        if not is_integer(history_length) or history_length < 0:
            raise InvalidOption(f"history_length is {history_length!r}; wanted 0 or more turns.")
        for name, price in (("price_prompt", price_prompt), ("price_completion", price_completion)):
            if price is not None and (isinstance(price, bool) or not isinstance(price, int | float) or price < 0):
                raise InvalidOption(f"{name} is {price!r}; wanted the price of a million tokens, or None.")
        if (price_prompt is None) != (price_completion is None):
            raise InvalidOption("one of price_prompt and price_completion is missing; wanted both or neither.")
        self.model = model
        self.history_length = history_length
        self.system = system
        self.prefilled = prefilled
        self._prices = price_prompt, price_completion

    async def begin(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> Player:
        """Begin an episode; nothing is asked yet."""
        return _ChatPlayer(self, style_of(env, text_env(env).task), seed)

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Return the price of so many tokens; None if they were not counted or have no price."""
        price_prompt, price_completion = self._prices
        if prompt_tokens is None or completion_tokens is None or price_prompt is None or price_completion is None:
            return None
        return (prompt_tokens * price_prompt + completion_tokens * price_completion) / 1e6

    async def close(self) -> None:
        """Close the model."""
        await self.model.close()


class _ChatPlayer:
    """A chat agent in an episode."""

    def __init__(self, agent: ChatAgent, style: PromptStyle, seed: int) -> None:
        self._agent = agent
        self._style = style
        self._seed = seed
        self._history: list[Turn] = []

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Ask the model."""
        agent = self._agent
        messages = render_messages(
            self._style,
            info["instruction"],
            self._history,
            observation,
            info["admissible_commands"],
            history_length=agent.history_length,
            system=agent.system,
        )
        completion = await agent.model.complete(messages, (self._seed + len(self._history)) % 2**31)
        parsed = parse_completion(whole_text(completion), self._style, prefilled=agent.prefilled)
        self._history.append(Turn(observation, parsed.action))
        return Decision(
            action=parsed.action,
            is_well_formed=parsed.is_well_formed,
            messages=messages,
            response=completion.text,
            reasoning=parsed.reasoning or None,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cost=agent.cost(completion.prompt_tokens, completion.completion_tokens),
        )

    def end(self) -> None:
        """Nothing is held."""


def whole_text(completion: Completion) -> str:
    """Return the answer with its reasoning where the format wants it, also if the server has taken it out."""
    if completion.reasoning is None or "<think>" in completion.text:
        return completion.text
    return f"<think>{completion.reasoning}</think>\n{completion.text}"
