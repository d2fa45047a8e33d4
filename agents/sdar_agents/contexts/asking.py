"""Questions of a context to a model: the policy itself or an endpoint, and answers that are JSON objects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sdar_agents.contexts.base import Ask, Cost
from sdar_agents.engines.policy import Messages, Policy, Request, Sampling
from sdar_agents.engines.servers.endpoint import Endpoint
from sdar_agents.types import Completion
from sdar_envs.errors import EndpointError, InvalidOption, PromptTooLong
from sdar_envs.files.json_text import parse_json
from sdar_envs.rng import derive_seed

__all__ = ["AskEndpoint", "AskPolicy", "ask_objects", "read_object"]

AnswerT = TypeVar("AnswerT")

_SHOWN = 200


class AskPolicy:
    """An `Ask` that is answered by the policy which is trained, with the weights of the rollout.

    Args:
        policy: the policy.
        sampling: of the answers.

    Raises:
        InvalidOption: the policy's context is no longer than an answer.
    """

    name = "the policy"

    def __init__(self, policy: Policy, sampling: Sampling) -> None:
        self.cost = Cost()
        self._policy = policy
        self._sampling = sampling
        context = policy.context_length
        self._limit = None if context is None else context - sampling.max_new_tokens
        if self._limit is not None and self._limit < 1:
            raise InvalidOption(
                f"context.analyst.max_new_tokens is {sampling.max_new_tokens}, and the policy's context has {context} "
                "tokens: lower it."
            )

    def fits(self, chat: Messages) -> bool:
        """Return whether a chat leaves room for an answer in the policy's context."""
        return self._limit is None or len(self._encode(chat)) <= self._limit

    def __call__(self, chats: Sequence[Messages], *, seed: int) -> list[Completion | None]:
        """Return the policy's answers, in one batch; None where the chat does not fit."""
        prompts = [self._encode(chat) for chat in chats]
        fitting = [i for i, ids in enumerate(prompts) if self._limit is None or len(ids) <= self._limit]
        requests = [Request(prompts[i], derive_seed(seed, f"question {i}"), chats[i]) for i in fitting]
        answers: list[Completion | None] = [None] * len(chats)
        for i, answer in zip(fitting, self._policy.generate(requests, self._sampling) if requests else (), strict=True):
            answers[i] = answer
            self.cost += Cost(1, len(prompts[i]), len(answer.token_ids))
        return answers

    def _encode(self, chat: Messages) -> tuple[int, ...]:
        return self._policy.encode(self._policy.render(chat))


class AskEndpoint:
    """An `Ask` that is answered by a chat model behind an OpenAI-compatible endpoint.

    A request that fails for good is a missing answer. If all requests of a call fail, the first failure is raised: a
    wrong key or address would otherwise be a run without a teacher.

    Args:
        model: its name, as the server knows it.
        concurrency: requests in flight at most.
        **settings: the other arguments of `Endpoint`.

    Raises:
        InvalidOption: an argument is out of range.
        MissingExtra: the extra `openai-compatible` is not installed.
    """

    def __init__(self, model: str, *, concurrency: int = 8, **settings: Any) -> None:
        self.name = model
        self.cost = Cost()
        self._concurrency = concurrency
        self._make: Callable[[], Endpoint] = lambda: Endpoint(model, **settings)
        self._make()  # so that a wrong setting is an error now

    def fits(self, chat: Messages) -> bool:
        """Return True: the server knows its own context."""
        return True

    def __call__(self, chats: Sequence[Messages], *, seed: int) -> list[Completion | None]:
        """Return the model's answers.

        Raises:
            EndpointError: not one request was answered.
        """
        # In a thread, because the caller's may run an event loop already, as notebooks do.
        with ThreadPoolExecutor(1) as thread:
            answers = thread.submit(asyncio.run, self._complete(chats, seed)).result()
        found = [answer for answer in answers if isinstance(answer, Completion)]
        failures = [answer for answer in answers if isinstance(answer, EndpointError)]
        self.cost += Cost(
            len(answers),
            sum(answer.prompt_tokens or 0 for answer in found),
            sum(answer.completion_tokens or 0 for answer in found),
        )
        if failures and not found:
            raise failures[0]
        return [answer if isinstance(answer, Completion) else None for answer in answers]

    async def _complete(self, chats: Sequence[Messages], seed: int) -> list[Completion | Exception]:
        endpoint = self._make()
        free = asyncio.Semaphore(self._concurrency)

        async def ask(number: int, chat: Messages) -> Completion | Exception:
            async with free:
                try:
                    return await endpoint.complete(Request((), derive_seed(seed, f"question {number}") % 2**31, chat))
                except (EndpointError, PromptTooLong) as error:
                    return error

        try:
            return list(await asyncio.gather(*(ask(number, chat) for number, chat in enumerate(chats))))
        finally:
            await endpoint.close()


def ask_objects(
    ask: Ask, chats: Sequence[Messages], read: Callable[[Mapping[str, Any]], AnswerT], *, attempts: int, seed: int
) -> list[AnswerT | None]:
    """Return what is read in the JSON objects of a model's answers; None where no attempt gave a valid one.

    Args:
        ask: the model.
        chats: chat messages of each question.
        read: returns the content of an object; its ValueError says what is wrong, in words for the model.
        attempts: how often an answer is asked for. A later attempt shows the model its last answer and the problem.
        seed: of everything that is sampled.
    """
    found: list[AnswerT | None] = [None] * len(chats)
    open_chats = {number: list(chat) for number, chat in enumerate(chats)}
    for attempt in range(attempts):
        if not open_chats:
            break
        numbers = list(open_chats)
        answers = ask([open_chats[number] for number in numbers], seed=derive_seed(seed, f"attempt {attempt}"))
        for number, answer in zip(numbers, answers, strict=True):
            chat = open_chats.pop(number)
            if answer is None:
                continue  # too long, or the request was repeated already
            try:
                found[number] = read(read_object(answer.text))
            except ValueError as error:
                problem = f"This cannot be used: {error}. Answer with the JSON object alone."
                again = [{"role": "assistant", "content": answer.text}, {"role": "user", "content": problem}]
                open_chats[number] = [*chat, *again]
    return found


def read_object(text: str) -> dict[str, Any]:
    """Return the JSON object in an answer: behind the thought, and whatever stands around it.

    Raises:
        ValueError: there is none.
    """
    answer = text.rpartition("</think>")[2]
    begin, end = answer.find("{"), answer.rfind("}")
    if not 0 <= begin < end:
        raise ValueError(f"there is no JSON object in {answer.strip()[:_SHOWN]!r}")
    try:
        content = parse_json(answer[begin : end + 1])
    except ValueError as error:
        raise ValueError(f"it is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    return content


def texts_of(content: Mapping[str, Any], name: str, *, most: int) -> Iterator[str]:
    """Yield the texts of a list in an object.

    Raises:
        ValueError: it is no list of texts, or has too many.
    """
    given = content.get(name)
    if not isinstance(given, list) or not all(isinstance(text, str) and text.strip() for text in given):
        raise ValueError(f"{name!r} is not a list of texts")
    if len(given) > most:
        raise ValueError(f"{name!r} has {len(given)} texts, more than {most}")
    yield from (" ".join(text.split()) for text in given)
