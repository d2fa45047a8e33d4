"""Chat agent: renders each turn as a prompt, has a policy complete it, and parses the command.

The prompt is that of the task's suite, and the episode's chat that of `sdar_envs.chat`. The policy runs behind an HTTP
endpoint (`sdar_agents.engines.servers.endpoint`) or in this process (`sdar_agents.engines.local`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, ClassVar

import gymnasium as gym

from sdar_agents.engines.chat.reading import CompletionReader
from sdar_agents.engines.policy import AsyncPolicy, Messages, Request, Situation
from sdar_agents.players.agent import Decision
from sdar_agents.players.skills import SkillReading
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Completion
from sdar_envs import TextEnv
from sdar_envs.chat import ChatMode, Conversation
from sdar_envs.chat.conversation import HISTORY_LENGTH
from sdar_envs.core import is_integer, text_env
from sdar_envs.errors import EpisodeOver, InvalidOption, PromptTooLong
from sdar_envs.prompt import DEFAULT_STYLE, STYLES, PromptStyle, resolve_style, style_of, with_action_format
from sdar_envs.tools import ActionFormat
from sdar_skills import TeacherContext

__all__ = ["ChatAgent"]


class ChatAgent:
    """An `AsyncAgent` that plays any text environment with a chat model.

    Args:
        policy: completes the prompts; agents that play at the same time share it.
        history: `windowed` for prompts that show the last turns, `appended` for one growing chat (see
            `sdar_envs.chat.ChatMode`).
        history_length: how many of the latest turns a windowed prompt shows; None for what `style` says, else 2.
        style: prompt style: a suite, `module:STYLE` or a file (see `sdar_envs.prompt.resolve_style`); None for that of
            the environment or its suite.
        action_format: how the model gives its action: in `tags`, as a `json` object in its text, or as a native tool
            call (`tools`); see `sdar_envs.tools`.
        system: text of a system message; None for no such message.
        prefilled: what the chat template puts at the start of the model's turn, such as `<think>`; None for what the
            policy's template says, or the completions of an endpoint (see `sdar_agents.engines.chat.reading`).
        price_prompt: of a million prompt tokens, in any currency; None for no cost.
        price_completion: of a million completion tokens.
        skills: skills in the prompts, chosen once per episode; None for none. Those that do not fit the prompt's limit
            are dropped whole, all of them if need be.

    Raises:
        InvalidOption: a setting is out of range or does not go with another one, one of the prices is missing, or the
            policy's chat template takes no system message.
        UnknownName: there is no such style.
    """

    path_arguments: ClassVar[Mapping[str, Collection[str]]] = MappingProxyType({"style": ("default", *STYLES)})
    """Arguments that are paths, and the texts that mean something else (`sdar_envs.storage.absolute_arguments`)."""

    def __init__(
        self,
        policy: AsyncPolicy,
        *,
        history: ChatMode = "windowed",
        history_length: int | None = None,
        style: str | None = None,
        action_format: ActionFormat = "tags",
        system: str | None = None,
        prefilled: str | None = None,
        price_prompt: float | None = None,
        price_completion: float | None = None,
        skills: SkillPrompts | None = None,
    ) -> None:
        if history_length is not None and (not is_integer(history_length) or history_length < 0):
            raise InvalidOption(f"history_length is {history_length!r}; wanted 0 or more turns.")
        for name, price in (("price_prompt", price_prompt), ("price_completion", price_completion)):
            if price is not None and (isinstance(price, bool) or not isinstance(price, int | float) or price < 0):
                raise InvalidOption(f"{name} is {price!r}; wanted the price of a million tokens, or None.")
        if (price_prompt is None) != (price_completion is None):
            raise InvalidOption("one of price_prompt and price_completion is missing; wanted both or neither.")
        self.policy = policy
        self._own_style = None if style is None else resolve_style(style)
        if history == "windowed" and history_length is None:
            history_length = HISTORY_LENGTH
            if self._own_style is not None and self._own_style.history_length is not None:
                history_length = self._own_style.history_length
        self.history: ChatMode = history
        self.history_length = history_length
        self.action_format = action_format
        self.system = system
        self._converse(DEFAULT_STYLE if self._own_style is None else self._own_style)  # a wrong setting is an error now
        self._reader = CompletionReader(policy, prefilled)
        render = getattr(policy, "render", None)
        if render is not None and history == "appended" and action_format == "tools":
            raise InvalidOption(
                "native tool calls in an appended chat need a server, whose chat template knows them: use windowed "
                "prompts, or the action format 'json'."
            )
        if system is not None and render is not None:
            # A template without a system role refuses it now, not in every episode.
            render([{"role": "system", "content": system}, {"role": "user", "content": "Go on."}])
        self._prices = price_prompt, price_completion
        self._reading = None if skills is None else SkillReading(skills, policy, history)
        self._env: TextEnv[Any] | None = None
        self._seed = 0
        self._conversation: Conversation | None = None

    async def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        """Begin an episode; the policy is not asked yet."""
        self._env = text_env(env)
        self._seed = seed
        style = style_of(self._env, self._env.task) if self._own_style is None else self._own_style
        self._conversation = self._converse(style)
        if self._reading is not None:
            self._reading.choose(self._env.task, seed)

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        """Ask the policy for the next command.

        Raises:
            EpisodeOver: no episode was begun.
            EndpointError: the model cannot be reached or does not answer as it should.
            PromptTooLong: the prompt does not fit into the model's context, even without history.
        """
        conversation = self._conversation
        if self._env is None or conversation is None:
            raise EpisodeOver("the chat agent was asked to act before reset(): call reset() first.")
        conversation.observe(observation, info)
        style, turn_index = conversation.style, len(conversation.past)
        request = Request(
            (),
            (self._seed + turn_index) % 2**31,
            (),
            Situation(self._env, observation, info, turn_index, style),
            conversation.tools,
            style.stop,
        )
        completion, messages, context = await self._complete(request, conversation)
        parsed = self._reader.read(completion, style)
        conversation.answer(parsed, completion.text, completion.tool_calls)
        return Decision(
            action=parsed.action,
            is_well_formed=parsed.is_well_formed,
            messages=messages,
            response=completion.text,
            reasoning=parsed.reasoning or None,
            prompt_tokens=completion.prompt_tokens,
            completion_tokens=completion.completion_tokens,
            cost=self.cost(completion.prompt_tokens, completion.completion_tokens, asked=completion.cost),
            cached_tokens=completion.cached_tokens,
            finish_reason=completion.stop_reason,
            refusal=completion.refusal,
            tool_calls=completion.tool_calls,
            skills=None if context is None else context.skills,
            dropped_skills=() if context is None else context.dropped_skills,
        )

    async def check(self) -> None:
        """Have the policy make a first request, if it can, with the settings of the episode that was begun.

        Raises:
            EpisodeOver: no episode was begun.
            EndpointError: the model cannot be reached or does not answer as it should.
            PromptTooLong: not even a sentence fits into the model's context.
        """
        check = getattr(self.policy, "check", None)
        if check is None:
            return
        if self._conversation is None:
            raise EpisodeOver("the chat agent was asked to check before reset(): call reset() first.")
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        messages = [*system, {"role": "user", "content": "Are you ready?"}]
        await check(Request((), 0, messages, None, self._conversation.tools, self._conversation.style.stop))

    async def _complete(
        self, request: Request, conversation: Conversation
    ) -> tuple[Completion, Messages, TeacherContext | None]:
        """Have a prompt completed, with less history where it is too long; return also what was sent."""
        shown = None
        while True:
            context = None if self._reading is None else self._reading.context(conversation, shown)
            if self._reading is None or context is None:
                request = replace(request, messages=conversation.messages(shown))
            else:
                ids = self._reading.prefixed_ids(context)
                request = replace(request, prompt_ids=ids, messages=context.messages)
            try:
                return await self.policy.complete(request), request.messages, context
            except PromptTooLong:
                shown = conversation.shown_turns if shown is None else shown
                if not shown:
                    raise
            shown //= 2
            adaptations = getattr(self.policy, "adaptations", None)
            if adaptations is not None:
                adaptations.add(
                    "history",
                    "the history of a prompt was halved, because the prompt was longer than the model's context",
                )

    def _converse(self, style: PromptStyle) -> Conversation:
        return Conversation(
            with_action_format(style, self.action_format),
            mode=self.history,
            history_length=self.history_length,
            system=self.system,
        )

    def cost(
        self, prompt_tokens: int | None, completion_tokens: int | None, *, asked: float | None = None
    ) -> float | None:
        """Return the price of so many tokens, or what the server asks; None if a count or the prices are not known."""
        price_prompt, price_completion = self._prices
        if price_prompt is None or price_completion is None:
            return asked
        if prompt_tokens is None or completion_tokens is None:
            return None
        return (prompt_tokens * price_prompt + completion_tokens * price_completion) / 1e6
