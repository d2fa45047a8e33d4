"""Chat models in this process, through transformers and torch.

Requests that wait at the same time are generated in one batch, in a thread, so that the environments go on. Greedy
completions (temperature 0) do not depend on the batch but for rounding; sampled ones do: which requests meet in a
batch is a matter of timing, so only with `batch_size=1` and one episode at a time are they repeatable. For
speed, serve the model with vLLM and use the endpoint.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sdar_agents.chat import Completion
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
        temperature: of the sampling; 0 is greedy. What else the model's generation config says is kept.
        max_tokens: of one completion.
        batch_size: requests that are generated together at most.
        device: such as `cuda` or `cpu`; None for an accelerator if there is one.
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
        try:
            # By name, so that types are checked alike where they are not installed.
            torch, transformers = map(importlib.import_module, ("torch", "transformers"))
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the transformers agent needs torch and transformers: pip install 'sdar-envs[transformers]'",
                name=error.name,
            ) from error
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or temperature < 0:
            raise InvalidOption(f"temperature is {temperature!r}; wanted a number from 0.")
        for name, value in (("max_tokens", max_tokens), ("batch_size", batch_size)):
            if not is_integer(value) or value < 1:
                raise InvalidOption(f"{name} is {value!r}; wanted a number from 1.")
        self._torch = torch
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model, padding_side="left")
            self._model = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=dtype or "auto")
            self._model = self._model.to(device).eval()
        except (OSError, ValueError, AttributeError, RuntimeError) as error:
            raise InvalidOption(f"the model {model!r} cannot be loaded on {device} ({error}).") from error
        if self._tokenizer.chat_template is None:
            raise InvalidOption(f"the model {model!r} has no chat template: choose one that was tuned for chat.")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self.device = device
        self._temperature = float(temperature)
        self._max_tokens = int(max_tokens)
        self._batch_size = int(batch_size)
        self._template_options = dict(template_options)
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
        torch, tokenizer = self._torch, self._tokenizer
        prompts: list[list[int]] = [
            tokenizer(
                tokenizer.apply_chat_template(
                    list(request.messages), tokenize=False, add_generation_prompt=True, **self._template_options
                ),
                add_special_tokens=False,  # the template has written them
            )["input_ids"]
            for request in batch
        ]
        limit = getattr(self._model.config, "max_position_embeddings", None)
        answers: list[Completion | Exception] = [
            InvalidOption(
                f"a prompt of {len(prompt)} tokens and an answer of {self._max_tokens} exceed the model's {limit}: "
                "lower max_tokens or history_length."
            )
            for prompt in prompts
        ]
        fitting = [i for i, ids in enumerate(prompts) if limit is None or len(ids) + self._max_tokens <= limit]
        if not fitting:
            return answers
        inputs = tokenizer.pad({"input_ids": [prompts[i] for i in fitting]}, return_tensors="pt").to(self.device)
        torch.manual_seed(batch[0].seed)
        sampling = {"do_sample": True, "temperature": self._temperature} if self._temperature else {"do_sample": False}
        with torch.inference_mode():
            outputs = self._model.generate(
                **inputs, max_new_tokens=self._max_tokens, pad_token_id=tokenizer.pad_token_id, **sampling
            )
        for i, output in zip(fitting, outputs[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            ids = self._until_end(output)
            answers[i] = Completion(tokenizer.decode(ids, skip_special_tokens=True), None, len(prompts[i]), len(ids))
        return answers

    def _until_end(self, ids: list[int]) -> list[int]:
        """Return the tokens up to and with the first that ends the answer; behind it there is only padding."""
        ends = self._model.generation_config.eos_token_id
        ends = {ends} if is_integer(ends) else set(ends or ())
        return next((ids[: place + 1] for place, token in enumerate(ids) if token in ends), ids)
