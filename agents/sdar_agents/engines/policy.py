"""What plays in a rollout: the `Policy` protocol, and policies without a model of their own.

A policy answers many turns at once. It gets each as a `Request`, which holds all that any policy can go by: token ids
for a model in this process (`sdar_agents.engines.transformers`), chat messages for a model behind an endpoint, the
environment's own words for a script. What it answers is a `Completion`; only one with token ids can be trained on. A
faster engine in this process is one more class with these methods for `Rollout`; where its log-probabilities differ
from the trained model's, the loss weighs tokens for it (`GRPO.sampler_cap`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from sdar_agents.baselines.scripted import Agent, RandomAgent
from sdar_agents.engines.endpoint import Endpoint
from sdar_agents.players.chat import whole_text
from sdar_agents.types import Completion
from sdar_envs import TextEnv
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import render_completion, style_of

__all__ = [
    "EndpointPolicy",
    "Messages",
    "Policy",
    "RandomPolicy",
    "Request",
    "Sampling",
    "ScriptedPolicy",
    "Situation",
]

Messages = Sequence[Mapping[str, str]]
"""Chat messages: `role` and `content` of each."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        max_new_tokens: of one completion, the end token included.
        temperature: divides the logits; nothing else changes them (no top-p, top-k or penalties), so that the trainer
            can score what was drawn.
        greedy: take the likeliest token instead of drawing one.
        stop: strings that end a completion, such as `</action>`; they stay in it.
    """

    max_new_tokens: int = 512
    temperature: float = 1.0
    greedy: bool = False
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not is_integer(self.max_new_tokens) or self.max_new_tokens < 1:
            raise InvalidOption(f"max_new_tokens is {self.max_new_tokens!r}; wanted a number from 1.")
        if not 0 < self.temperature < math.inf:
            raise InvalidOption(
                f"temperature is {self.temperature!r}; wanted a number above 0; for the likeliest token, greedy=True."
            )
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise InvalidOption(f"stop is {self.stop!r}; wanted a list of strings such as ['</action>'].")
        object.__setattr__(self, "stop", tuple(self.stop))


class Situation(NamedTuple):
    """Where an episode stands, for policies that read no prompt. `turn_index` is 0 where the episode begins."""

    env: TextEnv[Any]
    observation: str
    info: Mapping[str, Any]
    turn_index: int


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One turn that wants an answer.

    Attributes:
        prompt_ids: the prompt in tokens; empty for a policy that has none.
        seed: of everything that is drawn for this answer, from 0.
        messages: the prompt as chat messages.
        situation: see `Situation`; None if there is no episode.
    """

    prompt_ids: tuple[int, ...]
    seed: int
    messages: Messages = ()
    situation: Situation | None = None


class Policy(Protocol):
    """Answers turns, any number at once."""

    @property
    def context_length(self) -> int | None:
        """How many tokens a prompt and its completion may have together; None if there is no known limit."""
        ...

    def render(self, messages: Messages) -> str:
        """Return the text that the model reads: its chat template, up to where the answer begins."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a rendered text, with nothing added; empty if the policy has no tokens."""
        ...

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Answer. The answer to a request does not depend on the others, nor on earlier calls.

        Log-probabilities are those of the tokens at `sampling.temperature`, also if `sampling.greedy`.
        """
        ...


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that policies use."""

    eos_token_id: int | None

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Render chat messages."""
        ...

    def encode(self, text: str, **options: Any) -> list[int]:
        """Return the ids of a text."""
        ...


class ScriptedPolicy:
    """Plays by agents, one for each environment: for tests and demonstrations.

    The agent's command is put into a completion that keeps to the format of the suite. Sampling settings do not apply.
    With a tokenizer, prompts and completions have token ids, so that a script's episodes can be trained on; nothing
    drew them, so they have no log-probabilities.

    Args:
        make: makes an agent, such as `OracleAgent`.
        reasoning: what the completion thinks, or what makes it of the situation and the command.
        tokenizer: a Hugging Face tokenizer with a chat template; None for episodes in words alone.
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
        self._tokenizer = tokenizer
        self._template_options = dict(template_options)
        self._agents: WeakKeyDictionary[TextEnv[Any], Agent] = WeakKeyDictionary()

    def render(self, messages: Messages) -> str:
        """Return the messages by the tokenizer's chat template, or one after the other."""
        if self._tokenizer is None:
            return joined(messages)
        return render_chat(self._tokenizer, messages, self._template_options)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the tokenizer's ids of a text; none without a tokenizer."""
        return () if self._tokenizer is None else encode_rendered(self._tokenizer, text)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Ask the agents.

        Raises:
            InvalidOption: a request has no situation, or a command does not survive the suite's format.
            Exception: what an agent raises, such as the oracle's `UnsolvableGame`.
        """
        return [self._answer(request) for request in requests]

    def _answer(self, request: Request) -> Completion:
        situation = request.situation
        if situation is None:
            raise InvalidOption("a script was asked without a situation: it plays episodes, and reads no prompt.")
        env, observation, info, turn_index = situation
        if turn_index == 0 or env not in self._agents:
            agent = self._agents.setdefault(env, self._make())
            agent.reset(env, observation, info, request.seed)
        command = self._agents[env].act(observation, info)
        reasoning = self._reasoning if isinstance(self._reasoning, str) else self._reasoning(situation, command)
        text = render_completion(style_of(env, env.task), command, reasoning)
        ids = self.encode(text)
        if ids and self._tokenizer is not None and self._tokenizer.eos_token_id is not None:
            ids = (*ids, self._tokenizer.eos_token_id)
        return Completion(ids, None, text, "eos")


class RandomPolicy(ScriptedPolicy):
    """Draws uniformly from the admissible commands (see `RandomAgent`)."""

    def __init__(
        self, *, tokenizer: Tokenizer | None = None, template_options: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        super().__init__(
            RandomAgent, reasoning="I try something.", tokenizer=tokenizer, template_options=template_options
        )


class EndpointPolicy:
    """A chat model behind an OpenAI-compatible endpoint: for evaluation only, because it gives no token ids.

    The server renders the prompt and knows its own limits; a completion counts as cut off if it took all the tokens
    that it was allowed.

    Args:
        model: its name, as the server knows it.
        concurrency: requests in flight at most.
        extra_body: further fields of each request.
        **settings: as for `Endpoint`: `base_url`, `api_key_env`, `send_seed`, `request_seconds`, `retries`, ...

    Raises:
        InvalidOption: an argument is out of range.
        ModuleNotFoundError: the extra `openai-compatible` is not installed.
    """

    context_length: int | None = None

    def __init__(
        self,
        model: str,
        *,
        concurrency: int = 16,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
        **settings: Any,
    ) -> None:
        if not is_integer(concurrency) or concurrency < 1:
            raise InvalidOption(f"concurrency is {concurrency!r}; wanted a number from 1.")
        for name in ("temperature", "max_tokens"):
            if name in settings:
                raise InvalidOption(f"{name} was given to the policy: it belongs to the rollout's settings.")
        self._model = model
        self._concurrency = int(concurrency)
        self._extra_body = dict(extra_body)
        self._settings = settings
        asyncio.run(self._endpoint(Sampling()).close())  # so that a wrong setting is an error now

    def render(self, messages: Messages) -> str:
        """Return the messages one after the other: the template is the server's."""
        return joined(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return nothing: the tokens are the server's."""
        return ()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Ask for all answers at once, as many in flight as allowed.

        Raises:
            EndpointError: one of them could not be had.
        """
        # In a thread, because the caller's may have an event loop of its own, as notebooks do.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._complete(requests, sampling)).result()

    async def _complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        endpoint = self._endpoint(sampling)
        turnstile = asyncio.Semaphore(self._concurrency)

        async def ask(request: Request) -> Completion:
            async with turnstile:
                answer = await endpoint.complete(request.messages, request.seed % 2**31)
            is_cut = answer.completion_tokens is not None and answer.completion_tokens >= sampling.max_new_tokens
            return Completion((), None, whole_text(answer), "length" if is_cut else "eos")

        try:
            return list(await asyncio.gather(*map(ask, requests)))
        finally:
            await endpoint.close()

    def _endpoint(self, sampling: Sampling) -> Endpoint:
        stop = {"stop": list(sampling.stop)} if sampling.stop else {}
        return Endpoint(
            self._model,
            temperature=0.0 if sampling.greedy else sampling.temperature,
            max_tokens=sampling.max_new_tokens,
            extra_body={**self._extra_body, **stop},
            **self._settings,
        )


def joined(messages: Messages) -> str:
    """Return messages as plain text, for policies that have no chat template."""
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in messages)


def render_chat(tokenizer: Tokenizer, messages: Messages, options: Mapping[str, Any]) -> str:
    """Return messages by a tokenizer's chat template, up to where the answer begins."""
    text = tokenizer.apply_chat_template(
        [dict(message) for message in messages], tokenize=False, add_generation_prompt=True, **options
    )
    assert isinstance(text, str)
    return text


def encode_rendered(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """Return the ids of a rendered text. No special tokens are added: the template has written them."""
    return tuple(tokenizer.encode(text, add_special_tokens=False))
