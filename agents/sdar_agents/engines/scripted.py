"""Scripted policy: a script's commands as completions, for demonstrations and tests of rollouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from weakref import WeakKeyDictionary

from sdar_agents.baselines.scripted import Agent
from sdar_agents.engines.chat.chat_template import ChatTemplate, Messages, Tokenizer
from sdar_agents.engines.policy import Request, Sampling, Situation, join_messages
from sdar_agents.types import Completion
from sdar_envs import TextEnv
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import render_completion

__all__ = ["ScriptedPolicy"]


class ScriptedPolicy:
    """A `Policy` whose completions are an agent's commands in the suite's answer format.

    There is one agent for each environment. Sampling settings do not apply. With a tokenizer, prompts and completions
    have token ids, so that a script's episodes can be trained on; they were not sampled, so they have no
    log-probabilities.

    Args:
        make: makes an agent, such as `OracleAgent`.
        reasoning: the completion's thought, or a function of the situation and the command that returns it.
        tokenizer: a Hugging Face tokenizer with a chat template; None for text alone.
        template_options: for the chat template, such as `{"enable_thinking": False}`.
    """

    context_length: int | None = None

    def __init__(
        self,
        make: Callable[[], Agent],
        *,
        reasoning: str | Callable[[Situation, str], str] = "I follow my script.",
        tokenizer: Tokenizer | None = None,
        template_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._make = make
        self._reasoning = reasoning
        self._template = None if tokenizer is None else ChatTemplate(tokenizer, template_options)
        self._agents: WeakKeyDictionary[TextEnv[Any], Agent] = WeakKeyDictionary()

    @property
    def prefilled(self) -> str:
        """What the chat template writes at the start of the model's turn, such as `<think>`."""
        return "" if self._template is None else self._template.prefilled

    def render(self, messages: Messages) -> str:
        """Return messages rendered by the tokenizer's chat template, or joined."""
        return join_messages(messages) if self._template is None else self._template.render(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokenizer's ids of a rendered prompt; empty without a tokenizer."""
        return () if self._template is None else self._template.encode(text)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return a completion with the agent's next command for each request.

        Raises:
            InvalidOption: a request has no situation, or a command does not survive the suite's format.
            Exception: what an agent raises, such as the oracle's `UnsolvableGame`.
        """
        return [self._complete(request) for request in requests]

    def _complete(self, request: Request) -> Completion:
        situation = request.situation
        if situation is None:
            raise InvalidOption("a scripted policy got a request without a situation; wanted a turn of an episode.")
        env, observation, info, turn_index, _ = situation
        if turn_index == 0 or env not in self._agents:
            agent = self._agents.setdefault(env, self._make())
            agent.reset(env, observation, info, request.seed)
        command = self._agents[env].act(observation, info)
        reasoning = self._reasoning if isinstance(self._reasoning, str) else self._reasoning(situation, command)
        text = render_completion(situation.style, command, reasoning)
        if self._template is None:
            return Completion((), None, text, "eos")
        text = self._template.continuation(text)
        ids = self._template.encode_text(text)
        end = self._template.tokenizer.eos_token_id
        return Completion(ids if end is None else (*ids, end), None, text, "eos")
