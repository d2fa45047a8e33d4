"""The `Policy` protocol of inference engines, and what it exchanges: requests, sampling settings, completions.

A policy completes prompts. It has two forms:

- `Policy.generate` takes a batch of requests and returns when all are answered: for rollouts and training.
- `AsyncPolicy.complete` takes one request and is awaited, any number at once: for evaluation, where a slow request must
  not hold up other episodes. `sdar_agents.engines.batching` makes one of a `Policy`.

A `Request` holds what any engine can go by: token ids for a model in this process
(`sdar_agents.engines.transformers`), chat messages for a server (`sdar_agents.engines.servers.endpoint`), the
environment's observation and info for a script (`sdar_agents.engines.scripted`). Completions with token ids can be
trained on.

An agent plays episodes and may ask a policy; see `sdar_agents.players`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from sdar_agents.engines.chat.chat_template import Messages, Tokenizer
from sdar_agents.settings.checks import check_value
from sdar_agents.types import Completion
from sdar_envs import TextEnv
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import PromptStyle, style_of
from sdar_envs.tools import Tool

__all__ = [
    "AsyncPolicy",
    "CachingPolicy",
    "IndependentPolicy",
    "Messages",
    "Policy",
    "Request",
    "Sampling",
    "Situation",
    "Tokenizer",
]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling settings: temperature, greedy decoding, length limit and stop strings.

    Attributes:
        max_new_tokens: of one completion, the end token included.
        temperature: divides the logits; nothing else changes them (no top-p, top-k or penalties), so that the trainer
            can score what was sampled.
        greedy: take the likeliest token instead of sampling one.
        stop: strings that end a completion, such as `</action>`; they stay in it.

    Raises:
        InvalidOption: a value is out of range.
    """

    max_new_tokens: int = 512
    temperature: float = 1.0
    greedy: bool = False
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_value("max_new_tokens", self.max_new_tokens, int, low=1)
        if not 0 < self.temperature < math.inf:
            raise InvalidOption(
                f"temperature is {self.temperature!r}; wanted a number above 0; for the likeliest token, greedy=True."
            )
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise InvalidOption(f"stop is {self.stop!r}; wanted a list of strings such as ['</action>'].")
        object.__setattr__(self, "stop", tuple(self.stop))


class Situation(NamedTuple):
    """The state of an episode as an agent sees it, for policies that need more than the prompt.

    Attributes:
        env: the environment; not to be stepped.
        observation: the latest observation.
        info: the info that came with it.
        turn_index: 0 for the first turn.
        own_style: the prompt style that was asked for; None for that of the environment or its suite.
    """

    env: TextEnv[Any]
    observation: str
    info: Mapping[str, Any]
    turn_index: int
    own_style: PromptStyle | None = None

    @property
    def style(self) -> PromptStyle:
        """The prompt style, whose answer format completions keep."""
        return style_of(self.env, self.env.task) if self.own_style is None else self.own_style


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """A prompt to complete.

    Attributes:
        prompt_ids: the prompt's token ids; empty for a policy without tokens, or if the policy is to render `messages`.
        seed: of everything that is sampled for this completion, from 0.
        messages: the prompt as chat messages.
        situation: see `Situation`; None outside of an episode.
        tools: what the model may call, for engines with native tool calling, which return `Completion.tool_calls`;
            others need not look at them, because calls are read in the text too.
        stop: strings that end the completion; they stay in it. An engine that writes on does no harm: what follows the
            first of them is not read.
        chat: requests with the same name are turns of one growing chat, see `CachingPolicy`; empty for none.
    """

    prompt_ids: tuple[int, ...]
    seed: int
    messages: Messages = ()
    situation: Situation | None = None
    tools: tuple[Tool, ...] = ()
    stop: tuple[str, ...] = ()
    chat: str = ""


class Policy(Protocol):
    """Protocol of an inference engine that completes batches of prompts.

    An engine of one's own is a class with these methods, made with a model and its tokenizer; see
    `sdar_agents.engines.registry.make_engine`. Where its log-probabilities differ from the trained model's, the loss
    weighs tokens for it (`GRPO.sampler_cap`).
    """

    @property
    def context_length(self) -> int | None:
        """The longest prompt and completion together, in tokens; None if there is no known limit."""
        ...

    def render(self, messages: Messages) -> str:
        """Return the prompt's text: the chat template applied to messages, up to where the completion begins.

        It is for `encode`. An engine that uses `sdar_agents.engines.chat.chat_template.ChatTemplate` for both encodes
        control tokens that stand in messages as plain text.
        """
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a rendered prompt, with no special tokens added; empty if the policy has none."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return a completion for each request, in order.

        It must not depend on the other requests of the batch, nor on earlier calls. Log-probabilities are those at
        `sampling.temperature`, also if `sampling.greedy`.
        """
        ...


@runtime_checkable
class CachingPolicy(Protocol):
    """Protocol of an inference engine that can keep what it computed for a prompt until the next turn of its chat."""

    def caching(self) -> AbstractContextManager[None]:
        """Return a context in which requests with the same `Request.chat` share the tokens that they begin with.

        The weights do not change within it.
        """
        ...


@runtime_checkable
class IndependentPolicy(Protocol):
    """Protocol of an inference engine that a rollout asks for each episode by itself, many at a time.

    It has the members of `Policy` too.

    Attributes:
        in_flight: episodes that may be played at a time.
    """

    in_flight: int

    async def complete_ids(self, request: Request, sampling: Sampling) -> Completion:
        """Return the completion of `Request.prompt_ids`, with token ids and log-probabilities.

        As for `Policy.generate`, it must not depend on other requests.

        Raises:
            EndpointError: the engine cannot be reached, or does not answer as it should.
        """
        ...


class AsyncPolicy(Protocol):
    """Protocol of an inference engine that completes single prompts concurrently, with its own sampling settings.

    It may have an attribute `prefilled`: what its chat template writes at the start of the model's turn, such as
    `<think>`; None if it does not know. It may have `async def check(self, request)`, which makes a first request
    before an evaluation begins, and an attribute `adaptations` (`sdar_agents.engines.servers.dialect.Adaptations`):
    what was done otherwise than asked, which evaluations record.
    """

    async def complete(self, request: Request) -> Completion:
        """Return the completion of a request.

        Args:
            request: with `messages`; `seed` is below 2**31.

        Raises:
            EndpointError: the model cannot be reached or does not answer as it should.
            PromptTooLong: the prompt does not fit into the model's context.
        """
        ...

    async def close(self) -> None:
        """Release connections and memory; may be called again."""
        ...


def join_messages(messages: Messages) -> str:
    """Return messages as plain text, for policies without a chat template."""
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)
