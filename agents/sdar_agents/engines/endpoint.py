"""Chat models behind an OpenAI-compatible HTTP endpoint: vLLM, SGLang, Ollama, hosted ones.

Requests that fail for a passing reason are repeated by `sdar_envs.http.retries`: no connection, no answer in time,
retryable statuses such as 429 and 503, and bodies that break off. Any other failure (a wrong key, model or address, a
web page instead of JSON) is an `EndpointError` at once.

The API key comes from an environment variable. It is sent in the `Authorization` header and kept nowhere else; where a
server or a library repeats it, in an answer or an error, `[key]` replaces it (`sdar_envs.secrets`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from sdar_agents.engines.policy import Messages, Request, Sampling, join_messages
from sdar_agents.types import Completion, StopReason
from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.core import is_integer
from sdar_envs.errors import EndpointError, InvalidOption
from sdar_envs.files.json_text import parse_json
from sdar_envs.http.retries import RetriesExhausted, RetryPolicy, is_retryable
from sdar_envs.importing import import_extra
from sdar_envs.secrets import read_secret, redact
from sdar_envs.tools import ToolCall, tool_schemas
from sdar_skills.evidence.proposers import Chat

__all__ = ["Endpoint", "EndpointPolicy", "endpoint_chat"]

_SHOWN = 300
_KEY_VARIABLE = "OPENAI_API_KEY"


class _Failure(NamedTuple):
    """A failed request that may be repeated."""

    problem: str
    retry_after: str | None = None


class Endpoint:
    """A chat model behind an OpenAI-compatible endpoint, `<base_url>/chat/completions`.

    An `AsyncPolicy`. The server applies the chat template, to messages whose control tokens are broken up
    (`sdar_envs.control_tokens`): `<|im_end|>` in a passage is sent as `< |im_end|>`.

    Args:
        model: its name, as the server knows it.
        base_url: the address up to `/v1`; None for `$OPENAI_BASE_URL`, else a vLLM server on this machine.
        api_key_env: the environment variable that holds the API key. `OPENAI_API_KEY` may be unset, for servers that
            want none.
        temperature: of the sampling; None leaves it to the server.
        max_tokens: of one completion; None leaves it to the server.
        send_seed: send a seed with each request. Most servers then repeat themselves, more or less.
        request_seconds: timeout of one request.
        retries: how often a failed request is repeated at most; see `sdar_envs.http.retries.RetryPolicy`.
        backoff_seconds: the first backoff.
        extra_body: further fields of the request, such as
            `{"chat_template_kwargs": {"enable_thinking": False}}`.

    Raises:
        InvalidOption: an argument is out of range, the address holds a user name or password, or there is no such
            variable or no HTTP header can hold its value.
        MissingExtra: the extra `openai-compatible` is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = _KEY_VARIABLE,
        temperature: float | None = None,
        max_tokens: int | None = 512,
        send_seed: bool = True,
        request_seconds: float = 120.0,
        retries: int = 6,
        backoff_seconds: float = 0.5,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        httpx2 = import_extra("httpx2", extra="openai-compatible", purpose="a chat model behind an endpoint")
        if not isinstance(model, str) or not model:
            raise InvalidOption(f"model is {model!r}; wanted its name, as the server knows it.")
        if temperature is not None and not (_is_number(temperature) and temperature >= 0):
            raise InvalidOption(f"temperature is {temperature!r}; wanted a number from 0, or None.")
        if max_tokens is not None and not (is_integer(max_tokens) and max_tokens > 0):
            raise InvalidOption(f"max_tokens is {max_tokens!r}; wanted a number from 1, or None.")
        if not (_is_number(request_seconds) and request_seconds > 0):
            raise InvalidOption(f"request_seconds is {request_seconds!r}; wanted seconds above 0.")
        if not isinstance(extra_body, Mapping):
            raise InvalidOption(f'extra_body is {extra_body!r}; wanted a JSON object such as {{"top_p": 0.9}}.')
        self.model = model
        self._key = read_secret(api_key_env, argument="api_key_env", default=_KEY_VARIABLE)
        self.api_key_env = api_key_env
        self.base_url = _checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or "http://127.0.0.1:8000/v1")
        self._retry_policy = RetryPolicy(retries=retries, backoff_seconds=backoff_seconds)
        self._send_seed = send_seed
        self._max_tokens = max_tokens
        self._body: dict[str, Any] = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self._body = {name: value for name, value in self._body.items() if value is not None} | dict(extra_body)
        self._request_error: type[Exception] = httpx2.RequestError
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=request_seconds,
            # The caller decides how many requests are in flight.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256),
        )

    async def complete(self, request: Request) -> Completion:
        """Return the next message of a chat.

        Args:
            request: with `messages`; token ids are not sent.

        Raises:
            EndpointError: no usable answer: the retries are used up, or repeating the request would not help.
        """
        safe = [{**message, "content": break_control_tokens(message["content"])} for message in request.messages]
        body = {**self._body, "messages": safe}
        if self._send_seed:
            body["seed"] = request.seed
        if safe and safe[-1]["role"] == "assistant":
            # The beginning of what the model is to write, in the words of vLLM and SGLang.
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        if request.tools:
            body["tools"] = tool_schemas(request.tools)
        content = json.dumps(body).encode()
        attempts = self._retry_policy.start()
        while True:
            answer = await self._ask(content)
            if isinstance(answer, Completion):
                return answer
            try:
                pause = attempts.pause(answer.retry_after)
            except RetriesExhausted as error:
                raise EndpointError(self._says(f"{answer.problem} ({error})")) from error
            await asyncio.sleep(pause)

    async def _ask(self, content: bytes) -> Completion | _Failure:
        """Send a request once.

        Raises:
            EndpointError: repeating it would not help.
        """
        try:
            response = await self._client.post(
                f"{self.base_url}/chat/completions", content=content, headers={"Content-Type": "application/json"}
            )
        except self._request_error as error:
            return _Failure(f"{type(error).__name__}{f': {error}' if str(error) else ''}")
        text = response.text
        if is_retryable(response.status_code):
            return _Failure(f"{response.status_code} {_beginning(text)}", response.headers.get("Retry-After"))
        if not response.is_success:
            raise EndpointError(self._says(f"{response.status_code} {_beginning(text)}{self._advice(response)}"))
        if text.lstrip()[:1] == "<":
            raise EndpointError(
                self._says(
                    f"a web page, {_beginning(text.lstrip(), 80)!r}. Is the address right? It often ends in /v1."
                )
            )
        try:
            return _read(text, self._max_tokens)
        except ValueError as error:
            return _Failure(f"{error}: {_beginning(text)!r}")

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _says(self, answer: str) -> str:
        return redact(f"{self.base_url}/chat/completions answered {answer}")

    def _advice(self, response: Any) -> str:
        if response.status_code in (401, 403):
            return f" (the key comes from ${self.api_key_env}, which is {'set' if self._key else 'not set'})"
        return ""


class EndpointPolicy:
    """A `Policy` for a chat model behind an endpoint: text without token ids, so for evaluation only.

    The server renders the prompt and knows its own context length.

    Args:
        model: its name, as the server knows it.
        concurrency: requests in flight at most.
        extra_body: further fields of each request.
        **settings: as for `Endpoint`: `base_url`, `api_key_env`, `send_seed`, `request_seconds`, `retries`, ...

    Raises:
        InvalidOption: an argument is out of range.
        MissingExtra: the extra `openai-compatible` is not installed.
    """

    context_length: int | None = None
    prefilled: str | None = None
    """Not known: the chat template is the server's."""

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
                raise InvalidOption(f"{name} was given to EndpointPolicy; set it in the rollout's settings instead.")
        self._model = model
        self._concurrency = int(concurrency)
        self._extra_body = dict(extra_body)
        self._settings = settings
        asyncio.run(self._endpoint(Sampling()).close())  # so that a wrong setting is an error now

    def render(self, messages: Messages) -> str:
        """Return the joined messages: the server applies the chat template."""
        return join_messages(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return no ids: the server tokenises."""
        return ()

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return a completion for each request; up to `concurrency` are in flight at once.

        Raises:
            EndpointError: one of them failed.
        """
        # In a thread, because the caller's may run an event loop already, as notebooks do.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._complete(requests, sampling)).result()

    async def _complete(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        endpoint = self._endpoint(sampling)
        free = asyncio.Semaphore(self._concurrency)

        async def ask(request: Request) -> Completion:
            async with free:
                return await endpoint.complete(replace(request, seed=request.seed % 2**31))

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


def endpoint_chat(model: str, *, max_tokens: int | None = 4_096, **settings: Any) -> Chat:
    """Return a blocking chat function, from messages to text, for `sdar_skills.evidence.proposers.ModelProposer`.

    Args:
        model: as in `Endpoint`.
        max_tokens: as in `Endpoint`.
        **settings: the other arguments of `Endpoint`.

    Returns:
        The function. It raises `EndpointError` if the request fails.

    Raises:
        InvalidOption: an argument is out of range.
        MissingExtra: the extra `openai-compatible` is not installed.
    """

    def make() -> Endpoint:
        return Endpoint(model, max_tokens=max_tokens, **settings)

    async def ask(messages: Messages) -> str:
        endpoint = make()
        try:
            return (await endpoint.complete(Request((), 0, messages))).text
        finally:
            await endpoint.close()

    def chat(messages: Sequence[dict[str, str]]) -> str:
        # In a thread, because the caller's may run an event loop already, as notebooks do.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, ask(messages)).result()

    make()  # so that a wrong setting is an error now, not at the first call
    return chat


def _read(text: str, max_tokens: int | None) -> Completion:
    """Read the body of a response.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        answer = parse_json(text)
    except ValueError as error:
        raise ValueError("no JSON") from error
    try:
        choice = answer["choices"][0]
        message = choice["message"]
        content = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        usage = answer.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("no chat completion") from error
    if not isinstance(content, str) or not isinstance(reasoning, str | None):
        raise ValueError("no text")
    content, reasoning = redact(content), None if reasoning is None else redact(reasoning)
    prompt_tokens, completion_tokens = (count if is_integer(count) else None for count in tokens)
    finish_reason = choice.get("finish_reason")
    stop_reason: StopReason = "eos"
    if finish_reason is None and max_tokens is not None and completion_tokens is not None:
        stop_reason = "length" if completion_tokens >= max_tokens else "eos"
    elif finish_reason == "length":
        stop_reason = "length"
    elif isinstance(choice.get("stop_reason"), str):  # vLLM's field: the stop string that was met
        stop_reason = "stop"
        # Servers leave it out, and an answer without its closing tag is none.
        met = redact(choice["stop_reason"])
        content = content.removesuffix(met) + met
    calls = _tool_calls(message.get("tool_calls"))
    return Completion((), None, content, stop_reason, reasoning, prompt_tokens, completion_tokens, calls)


def _tool_calls(given: object) -> tuple[ToolCall, ...]:
    """Read the tool calls of a message, whose arguments some servers give as an object.

    Raises:
        ValueError: they have another form.
    """
    try:
        calls = [(call["function"], call.get("id")) for call in given or ()]  # type: ignore[attr-defined]
        return tuple(
            ToolCall(
                redact(str(function["name"])),
                redact(
                    arguments if isinstance(arguments := function.get("arguments", ""), str) else json.dumps(arguments)
                ),
                str(call_id or ""),
            )
            for function, call_id in calls
        )
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("no tool calls") from error


def _beginning(text: str, length: int = _SHOWN) -> str:
    """Return the beginning of a server's answer. Cut after redaction: half a key would not be found."""
    return redact(text[: 100 * length])[:length]


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise InvalidOption(f"base_url is {redact(url)!r}; wanted an address such as http://127.0.0.1:8000/v1.")
    if parts.username is not None or parts.query or parts.fragment:
        # The address is written into the run folder; passwords and keys must not be.
        raise InvalidOption(
            f"base_url at {parts.hostname} holds a user name, password or query; wanted a bare address. "
            "The key comes from an environment variable, named by api_key_env."
        )
    if redact(url) != url:
        raise InvalidOption("base_url holds the key, and is written into the run folder: wanted a bare address.")
    return url.rstrip("/").removesuffix("/chat/completions")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
