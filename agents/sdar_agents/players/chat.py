"""Chat agent: renders each turn as a prompt, has a policy complete it, and parses the command.

The prompt is that of the task's suite (`sdar_envs.prompt`). The policy runs behind an HTTP endpoint
(`sdar_agents.engines.endpoint`) or in this process (`sdar_agents.engines.local`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import gymnasium as gym

from sdar_agents.engines.policy import AsyncPolicy, Request, Situation
from sdar_agents.engines.reading import CompletionReader
from sdar_agents.players.agent import Decision
from sdar_envs import TextEnv
from sdar_envs.core import is_integer, text_env
from sdar_envs.errors import EpisodeOver, InvalidOption
from sdar_envs.prompt import STYLES, Turn, render_messages, resolve_style

__all__ = ["ChatAgent"]


class ChatAgent:
    """An `AsyncAgent` that plays any text environment with a chat model.

    Args:
        policy: completes the prompts; agents that play at the same time share it.
        history_length: how many of the latest turns a prompt shows.
        style: prompt style: a suite, `module:STYLE` or a file (see `sdar_envs.prompt.resolve_style`); None for that of
            the environment or its suite.
        system: text of a system message; None for no such message.
        prefilled: what the chat template puts at the start of the model's turn, such as `<think>`; None for what the
            policy's template says, or the completions of an endpoint (see `sdar_agents.engines.reading`).
        price_prompt: of a million prompt tokens, in any currency; None for no cost.
        price_completion: of a million completion tokens.

    Raises:
        InvalidOption: `history_length` is not a number from 0, one of the prices is missing, or the policy's chat
            template takes no system message.
        UnknownName: there is no such style.
    """

    path_arguments: ClassVar[Mapping[str, Collection[str]]] = MappingProxyType({"style": ("default", *STYLES)})
    """Arguments that are paths, and the texts that mean something else (`sdar_envs.storage.absolute_arguments`)."""

    def __init__(
        self,
        policy: AsyncPolicy,
        *,
        history_length: int = 2,
        style: str | None = None,
        system: str | None = None,
        prefilled: str | None = None,
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
        self.policy = policy
        self.history_length = history_length
        self.system = system
        self._reader = CompletionReader(policy, prefilled)
        render = getattr(policy, "render", None)
        if system is not None and render is not None:
            # A template without a system role refuses it now, not in every episode.
            render([{"role": "system", "content": system}, {"role": "user", "content": "Go on."}])
        self._prices = price_prompt, price_completion
        self._own_style = None if style is None else resolve_style(style)
        self._env: TextEnv[Any] | None = None
        self._seed = 0
        self._history: list[Turn] = []

    async def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode; the policy is not asked yet."""
        self._env = text_env(env)
        self._seed = seed
        self._history = []

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Ask the policy for the next command.

        Raises:
            EpisodeOver: no episode was begun.
            EndpointError: the model cannot be reached or does not answer as it should.
        """
        if self._env is None:
            raise EpisodeOver("the chat agent was asked to act before reset(): call reset() first.")
        situation = Situation(self._env, observation, info, len(self._history), self._own_style)
        style = situation.style
        messages = render_messages(
            style,
            info["instruction"],
            self._history,
            observation,
            info["admissible_commands"],
            history_length=self.history_length,
            system=self.system,
        )
        seed = (self._seed + len(self._history)) % 2**31
        completion = await self.policy.complete(Request((), seed, messages, situation))
        parsed = self._reader.read(completion, style)
        self._history.append(parsed.turn(observation))
        return Decision(
            action=parsed.action,
            is_well_formed=parsed.is_well_formed,
            messages=messages,
            response=completion.text,
            reasoning=parsed.reasoning or None,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cost=self.cost(completion.prompt_tokens, completion.completion_tokens),
        )

    def cost(self, prompt_tokens: int | None, completion_tokens: int | None) -> float | None:
        """Return the price of so many tokens; None if a count or the prices are not known."""
        price_prompt, price_completion = self._prices
        if prompt_tokens is None or completion_tokens is None or price_prompt is None or price_completion is None:
            return None
        return (prompt_tokens * price_prompt + completion_tokens * price_completion) / 1e6
