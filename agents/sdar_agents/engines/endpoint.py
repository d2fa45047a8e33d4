"""Chat models behind an OpenAI-compatible endpoint: vLLM, SGLang, Ollama, hosted ones.

What passes by itself is waited for: no connection, no answer in time, 408, 409, 425, 429 and 5xx, and answers
that break off. Each wait is twice the last one, with jitter, and at least what `Retry-After` asks for. What does
not pass (a wrong key, model or address, a web page instead of JSON) is an `EndpointError` at once.

The key comes from an environment variable. It is sent in the `Authorization` header and kept nowhere else; should a
server repeat it in an answer, `[key]` stands in its place.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from sdar_agents.players.chat import Completion
from sdar_envs.core import is_integer
from sdar_envs.errors import EndpointError, InvalidOption
from sdar_skills.evidence.proposers import Chat

__all__ = ["Endpoint", "endpoint_chat"]

_PASSING = frozenset({408, 409, 425, 429})
_LONGEST_BACKOFF = 30.0
_LONGEST_WAIT = 300.0
_SHOWN = 300
# What local servers are given for a key ("EMPTY", "ollama") is no secret, and may be a word of an answer.
_SHORTEST_SECRET = 12


class Endpoint:
    """A chat model behind an OpenAI-compatible endpoint, `<base_url>/chat/completions`.

    Args:
        model: its name, as the server knows it.
        base_url: the address up to `/v1`; None for `$OPENAI_BASE_URL`, else a vLLM server on this machine.
        api_key_env: the environment variable that holds the key; unset for servers that want none.
        temperature: of the sampling; None leaves it to the server.
        max_tokens: of one completion; None leaves it to the server.
        send_seed: send a seed with each request. Most servers then repeat themselves, more or less.
        request_seconds: how long to wait for one answer.
        retries: how often to ask again for what passes by itself.
        backoff_seconds: the first wait.
        extra_body: further fields of the request, such as
            `{"chat_template_kwargs": {"enable_thinking": False}}`.

    Raises:
        InvalidOption: an argument is out of range, or the address holds a user name or password.
        ModuleNotFoundError: the extra `openai-compatible` is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key_env: str = "OPENAI_API_KEY",
        temperature: float | None = None,
        max_tokens: int | None = 512,
        send_seed: bool = True,
        request_seconds: float = 120.0,
        retries: int = 6,
        backoff_seconds: float = 0.5,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        try:
            import httpx2  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "the openai agent needs httpx2: pip install 'sdar-envs[openai-compatible]'", name=error.name
            ) from error
        if not isinstance(model, str) or not model:
            raise InvalidOption(f"model is {model!r}; wanted its name, as the server knows it.")
        if temperature is not None and not (_is_number(temperature) and temperature >= 0):
            raise InvalidOption(f"temperature is {temperature!r}; wanted a number from 0, or None.")
        if max_tokens is not None and not (is_integer(max_tokens) and max_tokens > 0):
            raise InvalidOption(f"max_tokens is {max_tokens!r}; wanted a number from 1, or None.")
        if not is_integer(retries) or retries < 0:
            raise InvalidOption(f"retries is {retries!r}; wanted a number from 0.")
        for name, value in (("request_seconds", request_seconds), ("backoff_seconds", backoff_seconds)):
            if not (_is_number(value) and value > 0):
                raise InvalidOption(f"{name} is {value!r}; wanted seconds above 0.")
        if not isinstance(extra_body, Mapping):
            raise InvalidOption(f'extra_body is {extra_body!r}; wanted a JSON object such as {{"top_p": 0.9}}.')
        self.model = model
        self.base_url = _checked_url(base_url or os.environ.get("OPENAI_BASE_URL") or "http://127.0.0.1:8000/v1")
        self.api_key_env = api_key_env
        self._key = os.environ.get(api_key_env, "").strip()
        if not self._key.isascii():
            raise InvalidOption(f"the key in ${api_key_env} has characters that no HTTP header can hold: set it again.")
        self._retries = retries
        self._backoff = backoff_seconds
        self._send_seed = send_seed
        self._body: dict[str, Any] = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
        self._body = {name: value for name, value in self._body.items() if value is not None} | dict(extra_body)
        self._request_error = httpx2.RequestError
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=request_seconds,
            # How many requests are in flight is decided by who asks.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=256),
        )

    async def complete(self, messages: Sequence[Mapping[str, str]], seed: int) -> Completion:
        """Ask for the next message of a chat.

        Raises:
            EndpointError: there was no usable answer, in spite of the retries or because none would help.
        """
        body = {**self._body, "messages": list(messages)}
        if self._send_seed:
            body["seed"] = seed
        content = json.dumps(body).encode()
        for retry in range(self._retries + 1):
            asked_for = 0.0
            try:
                response = await self._client.post(
                    f"{self.base_url}/chat/completions", content=content, headers={"Content-Type": "application/json"}
                )
            except self._request_error as error:
                problem = f"{type(error).__name__}{f': {error}' if str(error) else ''}"
            else:
                text = self._without_key(response.text)
                is_page = text.lstrip()[:1] == "<"
                if response.status_code in _PASSING or response.status_code >= 500:
                    asked_for = _retry_after(response.headers.get("Retry-After", ""))
                    problem = f"{response.status_code} {text[:_SHOWN]}"
                elif not response.is_success:
                    raise EndpointError(self._says(f"{response.status_code} {text[:_SHOWN]}{self._advice(response)}"))
                elif is_page:
                    raise EndpointError(
                        self._says(f"a web page, {text.lstrip()[:80]!r}. Is the address right? It often ends in /v1.")
                    )
                else:
                    try:
                        return _read(text)
                    except ValueError as error:
                        problem = f"{error}: {text[:_SHOWN]!r}"
            if asked_for > _LONGEST_WAIT:
                raise EndpointError(self._says(f"{problem}, to ask again in {asked_for:.0f} s"))
            if retry < self._retries:
                backoff = min(self._backoff * 2**retry, _LONGEST_BACKOFF)
                # Jitter: those who were turned away together should not come back together.
                await asyncio.sleep(max(asked_for, backoff) + random.uniform(0, backoff))
        raise EndpointError(self._says(f"{problem}, at the last of {self._retries + 1} times"))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _says(self, answer: str) -> str:
        return f"{self.base_url}/chat/completions answered {answer}"

    def _advice(self, response: Any) -> str:
        if response.status_code in (401, 403):
            return f" (the key comes from ${self.api_key_env}, which is {'set' if self._key else 'not set'})"
        return ""

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "[key]") if len(self._key) >= _SHORTEST_SECRET else text


def endpoint_chat(model: str, *, max_tokens: int | None = 4_096, **settings: Any) -> Chat:
    """Return a function from chat messages to a model's answer, for `sdar_skills.evidence.proposers.ModelProposer`.

    Args:
        model: as in `Endpoint`.
        max_tokens: as in `Endpoint`.
        **settings: the other arguments of `Endpoint`.

    Returns:
        The function. It raises `EndpointError` if there is no usable answer.

    Raises:
        InvalidOption: an argument is out of range.
        ModuleNotFoundError: the extra `openai-compatible` is not installed.
    """

    def make() -> Endpoint:
        return Endpoint(model, max_tokens=max_tokens, **settings)

    async def ask(messages: Sequence[Mapping[str, str]]) -> str:
        endpoint = make()
        try:
            return (await endpoint.complete(messages, 0)).text
        finally:
            await endpoint.close()

    def chat(messages: Sequence[dict[str, str]]) -> str:
        # In a thread of its own: where a loop runs already, as in notebooks, there cannot be another.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, ask(messages)).result()

    make()  # what is wrong with the settings is said now
    return chat


def _read(text: str) -> Completion:
    """Read the body of an answer.

    Raises:
        ValueError: it is no chat completion.
    """
    try:
        answer = json.loads(text)
    except ValueError as error:
        raise ValueError("no JSON") from error
    try:
        message = answer["choices"][0]["message"]
        content = message.get("content") or ""
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        usage = answer.get("usage") or {}
        tokens = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (LookupError, TypeError, AttributeError) as error:
        raise ValueError("no chat completion") from error
    if not isinstance(content, str) or not isinstance(reasoning, str | None):
        raise ValueError("no text")
    prompt_tokens, completion_tokens = (count if is_integer(count) else None for count in tokens)
    return Completion(content, reasoning, prompt_tokens, completion_tokens)


def _retry_after(value: str) -> float:
    """Return the seconds that a `Retry-After` header asks for, a number or a date; 0 if it says neither."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_address = False
    if not is_address:
        raise InvalidOption(f"base_url is {url!r}; wanted an address such as http://127.0.0.1:8000/v1.")
    if parts.username is not None or parts.query or parts.fragment:
        # The address is written into the run folder, and passwords and keys must not be.
        raise InvalidOption(
            f"base_url at {parts.hostname} holds a user name, password or query; wanted a bare address. "
            "The key comes from an environment variable, named by api_key_env."
        )
    return url.rstrip("/").removesuffix("/chat/completions")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
