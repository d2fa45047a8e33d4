"""Request batching: concurrent requests to a `Policy` are completed in batches, and each is awaited by itself.

Requests that wait at the same time form a batch, which is generated in a thread, so that environments go on meanwhile.
A completion does not depend on its batch (but for rounding; `sdar_agents.engines.transformers` says how much).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sdar_agents.engines.chat.chat_template import Messages
from sdar_agents.engines.chat.reading import prefilled_of
from sdar_agents.engines.policy import Policy, Request, Sampling
from sdar_agents.settings.checks import check_value
from sdar_agents.types import Completion
from sdar_envs.errors import PromptTooLong

__all__ = ["BatchingPolicy"]


@dataclass(frozen=True, slots=True)
class _Waiting:
    request: Request
    answer: asyncio.Future[Completion]


class BatchingPolicy:
    """An `AsyncPolicy` that batches concurrent requests to a `Policy`.

    Args:
        policy: completes the batches.
        sampling: its sampling settings.
        batch_size: requests in a batch at most.

    Raises:
        InvalidOption: `batch_size` is not a number from 1.
    """

    def __init__(self, policy: Policy, sampling: Sampling, *, batch_size: int = 16) -> None:
        check_value("batch_size", batch_size, int, low=1)
        self._policy = policy
        self._sampling = sampling
        self._batch_size = int(batch_size)
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    @property
    def prefilled(self) -> str | None:
        """What the policy's chat template writes at the start of the model's turn, such as `<think>`."""
        return prefilled_of(self._policy)

    async def complete(self, request: Request) -> Completion:
        """Return the completion of a request, with token counts.

        Args:
            request: with `prompt_ids`, or with `messages` to be rendered.

        Raises:
            PromptTooLong: the prompt is longer than the context allows.
        """
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await waiting.answer

    def render(self, messages: Messages) -> str:
        """Return messages as the policy's chat template renders them.

        Raises:
            InvalidOption: the template refuses them.
        """
        return self._policy.render(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a rendered prompt; empty if the policy has none."""
        return self._policy.encode(text)

    @property
    def longest_prompt(self) -> int | None:
        """The longest prompt, in tokens, that leaves room for a completion; None if there is no known limit."""
        limit = self._policy.context_length
        return None if limit is None else limit - self._sampling.max_new_tokens

    async def close(self) -> None:
        """Stop after the batch that is being generated."""
        self._waiting.clear()
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        """Generate batch after batch until no request waits."""
        try:
            while True:
                # Requests that are made in this round of the event loop join the batch.
                await asyncio.sleep(0)
                waiting = [each for each in self._waiting if not each.answer.done()]
                batch, self._waiting = waiting[: self._batch_size], waiting[self._batch_size :]
                if not batch:
                    return
                answers: Sequence[Completion | Exception]
                try:
                    answers = await asyncio.to_thread(self._generate, [each.request for each in batch])
                except Exception as error:
                    answers = [error] * len(batch)
                for each, answer in zip(batch, answers, strict=True):
                    # An episode that ran out of time has cancelled its request.
                    if each.answer.done():
                        continue
                    if isinstance(answer, Exception):
                        each.answer.set_exception(answer)
                    else:
                        each.answer.set_result(answer)
        finally:
            self._worker = None

    def _generate(self, batch: Sequence[Request]) -> list[Completion | Exception]:
        """Return a completion for each request that fits into the context, and an error for each that does not."""
        policy, sampling = self._policy, self._sampling
        prompts = [request.prompt_ids or policy.encode(policy.render(request.messages)) for request in batch]
        limit = policy.context_length
        answers: list[Completion | Exception] = [
            PromptTooLong(
                f"a prompt of {len(prompt)} tokens and an answer of {sampling.max_new_tokens} exceed the model's "
                f"{limit}: lower max_tokens or history_length."
            )
            for prompt in prompts
        ]
        fitting = [i for i, ids in enumerate(prompts) if limit is None or len(ids) + sampling.max_new_tokens <= limit]
        # Requests with other stop strings are a batch of their own.
        for stop in dict.fromkeys(batch[i].stop for i in fitting):
            alike = [i for i in fitting if batch[i].stop == stop]
            completions = policy.generate(
                [replace(batch[i], prompt_ids=prompts[i]) for i in alike],
                replace(sampling, stop=(*sampling.stop, *stop)),
            )
            for i, completion in zip(alike, completions, strict=True):
                answers[i] = replace(
                    completion,
                    # The engine's own counts are kept; without token ids there is nothing to count.
                    prompt_tokens=completion.prompt_tokens or len(prompts[i]) or None,
                    completion_tokens=completion.completion_tokens or len(completion.token_ids) or None,
                )
        return answers
