"""Chat models in this process, through transformers and torch.

Requests that wait at the same time are generated in one batch, in a thread, so that the environments go on. Each draws
by its own seed, so what it is answered does not depend on the batch but for rounding
(`sdar_agents.engines.transformers` says how much). For speed, serve the model with vLLM and use the endpoint.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.players.chat import Completion
from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption

__all__ = ["LocalModel"]


@dataclass(frozen=True, slots=True)
class _Request:
    messages: Sequence[Mapping[str, str]]
    seed: int
    answer: asyncio.Future[Completion]


class LocalModel:
    """A chat model in this process, through transformers and torch: a causal one with a chat template.

    Args:
        model: a folder, or a name on the hub.
        temperature: of the sampling; 0 is greedy. What else the model's generation config says (top-p and the like)
            does not apply.
        max_tokens: of one completion.
        batch_size: requests that are generated together at most.
        device: such as `cuda` or `cpu`; None for CUDA if there is a GPU, else the CPU.
        dtype: of the weights, such as `bfloat16`; None for what the model was saved in.
        template_options: for the chat template, such as `{"enable_thinking": False}`.

    Raises:
        InvalidOption: an argument is out of range, the model cannot be loaded, or it has no chat template.
        ModuleNotFoundError: torch or transformers is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        temperature: float = 0.0,
        max_tokens: int = 512,
        batch_size: int = 16,
        device: str | None = None,
        dtype: str | None = None,
        template_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or temperature < 0:
            raise InvalidOption(f"temperature is {temperature!r}; wanted a number from 0.")
        for name, value in (("max_tokens", max_tokens), ("batch_size", batch_size)):
            if not is_integer(value) or value < 1:
                raise InvalidOption(f"{name} is {value!r}; wanted a number from 1.")
        try:
            for package in ("torch", "transformers"):
                importlib.import_module(package)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the transformers agent needs torch and transformers: pip install 'sdar-envs[transformers]'",
                name=error.name,
            ) from error
        # Only now: it imports torch.
        from sdar_agents.engines.transformers import TransformersPolicy  # noqa: PLC0415

        self._policy = TransformersPolicy.load(model, device=device, dtype=dtype, template_options=template_options)
        self.device = str(self._policy.model.device)
        self._sampling = Sampling(int(max_tokens), float(temperature) or 1.0, greedy=not temperature)
        self._batch_size = int(batch_size)
        self._waiting: list[_Request] = []
        self._worker: asyncio.Task[None] | None = None

    async def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> Completion:
        """Return the next message of a chat; it is generated with what else is asked at the time.

        Raises:
            InvalidOption: the chat is longer than the model can read.
        """
        request = _Request(messages, seed, asyncio.get_running_loop().create_future())
        self._waiting.append(request)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return await request.answer

    async def close(self) -> None:
        """Stop generating, after the batch that is under way."""
        self._waiting.clear()
        if self._worker is not None:
            await self._worker

    async def _work(self) -> None:
        """Generate batch after batch until nobody waits."""
        try:
            while True:
                # Those whose turn comes in this round of the loop may join.
                await asyncio.sleep(0)
                waiting = [request for request in self._waiting if not request.answer.done()]
                batch, self._waiting = waiting[: self._batch_size], waiting[self._batch_size :]
                if not batch:
                    return
                answers: Sequence[Completion | Exception]
                try:
                    answers = await asyncio.to_thread(self._generate, batch)
                except Exception as error:
                    answers = [error] * len(batch)
                for request, answer in zip(batch, answers, strict=True):
                    # An episode whose time is up has cancelled its request.
                    if request.answer.done():
                        continue
                    if isinstance(answer, Exception):
                        request.answer.set_exception(answer)
                    else:
                        request.answer.set_result(answer)
        finally:
            self._worker = None

    def _generate(self, batch: Sequence[_Request]) -> list[Completion | Exception]:
        policy, sampling = self._policy, self._sampling
        prompts = [policy.encode(policy.render(request.messages)) for request in batch]
        limit = policy.context_length
        answers: list[Completion | Exception] = [
            InvalidOption(
                f"a prompt of {len(prompt)} tokens and an answer of {sampling.max_new_tokens} exceed the model's "
                f"{limit}: lower max_tokens or history_length."
            )
            for prompt in prompts
        ]
        fitting = [i for i, ids in enumerate(prompts) if limit is None or len(ids) + sampling.max_new_tokens <= limit]
        completions = policy.generate([Request(prompts[i], batch[i].seed) for i in fitting], sampling)
        for i, completion in zip(fitting, completions, strict=True):
            answers[i] = Completion(completion.text, None, len(prompts[i]), len(completion.token_ids))
        return answers
