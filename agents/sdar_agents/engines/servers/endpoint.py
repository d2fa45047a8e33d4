"""Chat models behind an OpenAI-compatible HTTP endpoint: vLLM, SGLang, Ollama, hosted ones.

Requests that fail for a passing reason are repeated by `sdar_envs.http.retries`: no connection, no answer in time,
retryable statuses such as 429 and 503, and bodies that break off. Where a server refuses the form of a request, it is
sent in another one (`sdar_agents.engines.servers.dialect`), which `Endpoint.adaptations` records. A prompt that is too
long is a `PromptTooLong`. Any other failure (a wrong key, model or address, a web page instead of JSON) is an
`EndpointError` at once.

The API key comes from an environment variable. It is sent in the `Authorization` header and kept nowhere else; where a
server or a library repeats it, in an answer or an error, `[key]` replaces it (`sdar_envs.secrets`).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from sdar_agents.engines.policy import Messages, Request, Sampling, join_messages
from sdar_agents.engines.servers.chat_answers import is_stream, problem_of, read_answer
from sdar_agents.engines.servers.dialect import Adaptations, Dialect, Refused
from sdar_agents.types import Completion
from sdar_envs.control_tokens import break_control_tokens
from sdar_envs.core import is_integer
from sdar_envs.errors import EndpointError, InvalidOption, PromptTooLong, did_you_mean
from sdar_envs.files.json_text import parse_json
from sdar_envs.http.retries import Attempts, RetriesExhausted, RetryPolicy, is_retryable
from sdar_envs.importing import import_extra
from sdar_envs.secrets import read_secret, redact
from sdar_envs.tools import api_messages, tool_schemas
from sdar_skills.evidence.proposers import Chat

__all__ = ["Endpoint", "EndpointPolicy", "endpoint_chat"]

_KEY_VARIABLE = "OPENAI_API_KEY"
# What a first request may cost.
_CHECK_TOKENS = 16
# How often a first request is repeated where nobody answers, or not as a server of chat models does.
_CHECK_RETRIES = 2
_LISTED_MODELS = 5
_STATUS_OR_WORDS = re.compile(r"\d{3}|[^:]{0,40}")


@dataclass(frozen=True, slots=True)
class _Failure:
    """A failed request that may be repeated.

    Attributes:
        problem: what is wrong, in a line.
        retry_after: the header, if any.
        is_busy: whether the server says that it will answer later.
        has_timed_out: whether no answer came in time.
    """

    problem: str
    retry_after: str | None = None
    is_busy: bool = False
    has_timed_out: bool = False


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
        max_tokens: of one completion, its thought included; None leaves it to the server. The default leaves room for
            models that reason; where the context leaves less, that is the limit.
        send_seed: send a seed with each request. Most servers then repeat themselves, more or less.
        stream: ask for streams of events, which some servers demand. Streams are read in any case.
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
        max_tokens: int | None = 4_096,
        send_seed: bool = True,
        stream: bool = False,
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
        if not isinstance(stream, bool):
            raise InvalidOption(f"stream is {stream!r}; wanted true or false.")
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
        self._body: dict[str, Any] = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self._body = {name: value for name, value in self._body.items() if value is not None} | dict(extra_body)
        self._dialect = Dialect(is_streamed=stream, fixed=extra_body)
        self._request_error: type[Exception] = httpx2.RequestError
        self._timeout_error: type[Exception] = httpx2.TimeoutException
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=request_seconds,
            # The caller decides how many requests are in flight.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256),
        )

    @property
    def adaptations(self) -> Adaptations:
        """What the server made this client do."""
        return self._dialect.adaptations

    async def complete(self, request: Request) -> Completion:
        """Return the next message of a chat.

        Args:
            request: with `messages`; token ids are not sent.

        Raises:
            PromptTooLong: the server says that the prompt does not fit into the context.
            EndpointError: no usable answer: the retries are used up, or repeating the request would not help.
        """
        return await self._complete(self._standard(request), is_check=False)

    async def check(self, request: Request) -> None:
        """Send a first request, before many: what is wrong with the address, the key or a setting is an error now.

        The answer may be short, and is not read. A server that nobody answers for is given up within seconds; one that
        says that it is busy is waited for.

        Raises:
            PromptTooLong: as `complete`.
            EndpointError: as `complete`.
        """
        body = self._standard(request)
        body["max_tokens"] = min(body.get("max_tokens", _CHECK_TOKENS), _CHECK_TOKENS)
        await self._complete(body, is_check=True)

    def speak(self, dialect: Dialect | None) -> Dialect:
        """Take over what another endpoint at the same server has learnt, and return it; of None, what this one has."""
        self._dialect = dialect or self._dialect
        return self._dialect

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _standard(self, request: Request) -> dict[str, Any]:
        """Return the body of a request as OpenAI's API has it."""
        body = {**self._body, "messages": api_messages(map(_safe, request.messages))}
        if self._send_seed:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(dict.fromkeys([*_listed(body.get("stop")), *request.stop]))
        if request.messages and request.messages[-1]["role"] == "assistant":
            # The beginning of what the model is to write, in the words of vLLM and SGLang.
            body |= {"add_generation_prompt": False, "continue_final_message": True}
        if request.tools:
            body["tools"] = tool_schemas(request.tools)
        return body

    async def _complete(self, standard: dict[str, Any], *, is_check: bool) -> Completion:
        attempts = self._retry_policy.start()
        while True:
            body = self._dialect.write(standard)
            answer = await self._ask(body)
            if isinstance(answer, Completion):
                return answer
            if isinstance(answer, Refused):
                if self._dialect.learn(answer, body) and self._dialect.write(standard) != body:
                    continue
                if answer.is_about_context:
                    standard = self._shortened(standard, answer)
                    continue
                if not is_retryable(answer.status):
                    raise EndpointError(
                        self._says(f"{answer.status} {answer.problem}{await self._advice(answer, body)}")
                    )
                answer = _Failure(f"{answer.status} {answer.problem}")
            await self._wait(attempts, answer, is_check=is_check)

    async def _wait(self, attempts: Attempts, failure: _Failure, *, is_check: bool) -> None:
        """Wait before a request is repeated.

        Raises:
            EndpointError: it is not.
        """
        is_lost = is_check and not failure.is_busy and (failure.has_timed_out or attempts.failures >= _CHECK_RETRIES)
        if is_lost:
            raise EndpointError(self._says(f"{failure.problem} (attempt {attempts.failures + 1})"))
        try:
            pause = attempts.pause(failure.retry_after)
        except RetriesExhausted as error:
            raise EndpointError(self._says(f"{failure.problem} ({error})")) from error
        kind = _STATUS_OR_WORDS.match(failure.problem)
        assert kind is not None
        self.adaptations.add(f"repeated: {kind[0]}", f"requests were repeated after: {failure.problem.rstrip('.')}")
        await asyncio.sleep(pause)

    def _shortened(self, standard: dict[str, Any], refused: Refused) -> dict[str, Any]:
        """Return a request that asks for no longer an answer than the context leaves.

        Raises:
            PromptTooLong: that is no room for an answer, or is not known.
        """
        room, limit = refused.room(), standard.get("max_tokens")
        if room is None or limit is None or room >= limit:
            raise PromptTooLong(self._says(f"{refused.status} {refused.problem}"))
        self.adaptations.add(
            "room",
            f"the token limit of an answer was lowered from {limit} to what the context left after the prompt, {room} "
            "at first",
        )
        return {**standard, "max_tokens": room}

    async def _ask(self, body: Mapping[str, Any]) -> Completion | Refused | _Failure:
        """Send a request once.

        Raises:
            EndpointError: repeating it would not help, in any form.
        """
        try:
            response = await self._client.post(
                f"{self.base_url}/chat/completions",
                content=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
        except self._request_error as error:
            problem = f"{type(error).__name__}{f': {error}' if str(error) else ''}"
            return _Failure(redact(problem), has_timed_out=isinstance(error, self._timeout_error))
        text, status = response.text, response.status_code
        if is_retryable(status) and status != 500:
            is_busy = status in (429, 503)
            return _Failure(f"{status} {problem_of(text)}", response.headers.get("Retry-After"), is_busy)
        if not response.is_success:
            return Refused(status, text, problem_of(text), _parameter(text))
        if text.lstrip()[:1] == "<":
            raise EndpointError(
                self._says(f"a web page, {problem_of(text)[:80]!r}. Is the address right? It often ends in /v1.")
            )
        if is_stream(text) and "stream" not in body:
            self.adaptations.add(
                "streamed", "answers came as streams, though nobody had asked for them; they were read"
            )
        try:
            return read_answer(text, body.get("max_tokens", body.get("max_completion_tokens")))
        except ValueError as error:
            return _Failure(str(error))

    def _says(self, answer: str) -> str:
        return redact(f"{self.base_url}/chat/completions answered {answer}")

    async def _advice(self, refused: Refused, body: Mapping[str, Any]) -> str:
        """Return what may be done about a refusal, in brackets."""
        if refused.status in (401, 403):
            return f" (the key comes from ${self.api_key_env}, which is {'set' if self._key else 'not set'})"
        if refused.status in (404, 405):
            models = await self._models()
            if models:
                named = ", ".join(models[:_LISTED_MODELS]) + (", ..." if len(models) > _LISTED_MODELS else "")
                return redact(f" (the server has {named}.{did_you_mean(self.model, models)})")
            if not self.base_url.endswith("/v1"):
                return f" (is the address right? It often ends in /v1, and is {self.base_url})"
        if "tools" in body and "tool" in refused.text.lower():
            return " (start the server with native tool calls, or use --action-format json)"
        names = [name for name in body if name not in ("model", "messages") and refused.names(name)]
        return f" (the server refuses the setting {' and '.join(names)}: change it or leave it out)" if names else ""

    async def _models(self) -> list[str]:
        """Return the names of the server's models; none where it does not say."""
        try:
            answer = parse_json((await self._client.get(f"{self.base_url}/models", timeout=5.0)).text)
            return [str(model["id"])[:200] for model in answer["data"]]
        except (self._request_error, ValueError, LookupError, TypeError):
            return []


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
        self._dialect: Dialect | None = None
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
        endpoint = Endpoint(
            self._model,
            temperature=0.0 if sampling.greedy else sampling.temperature,
            max_tokens=sampling.max_new_tokens,
            extra_body={**self._extra_body, **stop},
            **self._settings,
        )
        # What was learnt of the server is kept from batch to batch.
        self._dialect = endpoint.speak(self._dialect)
        return endpoint


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


def _safe(message: Mapping[str, str]) -> dict[str, str]:
    """Return a message whose control tokens are broken up."""
    broken = ("content", "tool_calls")
    return {name: break_control_tokens(text) if name in broken else text for name, text in message.items()}


def _listed(stop: Any) -> list[str]:
    """Return the stop strings of a request, which may be one."""
    return [stop] if isinstance(stop, str) else list(stop or ())


def _parameter(text: str) -> str:
    """Return the setting at fault, as an error's `param` names it; empty if it does not."""
    try:
        found = parse_json(text)["error"]["param"]
    except (ValueError, LookupError, TypeError):
        return ""
    return found if isinstance(found, str) else ""


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        # A user's name and password are not shown.
        shown = redact(url.rpartition("@")[2])
        raise InvalidOption(f"base_url is {shown!r}; wanted an address such as http://127.0.0.1:8000/v1.")
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
