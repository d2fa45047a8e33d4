"""Client of vLLM servers: requests with retries, least busy server first, log-probabilities of given tokens.

vLLM divides the logits of sampled tokens by the temperature, and those of prompt tokens never (0.32, also with
`--logprobs-mode processed_logprobs`): scores of given tokens are those at temperature 1.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sdar_agents.engines.servers.vllm_servers import NAME
from sdar_agents.settings.checks import check_value
from sdar_envs.errors import EndpointError, InvalidOption, RunStopped
from sdar_envs.files.json_text import parse_json
from sdar_envs.http.retries import Deadline, RetriesExhausted, RetryPolicy, is_retryable
from sdar_envs.importing import import_extra
from sdar_envs.secrets import redact

__all__ = ["VllmClient", "probe_tokens", "tolerance_of_probe"]

ResultT = TypeVar("ResultT")

# Mean absolute difference of log-probabilities: twice what is measured between two layouts of the same weights.
_TOLERANCES = MappingProxyType({"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05})
_PROBE_TOKENS = 48


def tolerance_of_probe(dtype: str, given: float | None) -> float:
    """Return the largest mean difference of log-probabilities of a probe, in nats.

    Args:
        dtype: of the servers' weights.
        given: instead of that of the dtype; None for that.

    Raises:
        InvalidOption: there is no such dtype.
    """
    if dtype not in _TOLERANCES:
        raise InvalidOption(f"dtype is {dtype!r}; wanted one of {', '.join(_TOLERANCES)}.")
    return _TOLERANCES[dtype] if given is None else given


def probe_tokens(size: int) -> tuple[int, ...]:
    """Return tokens from all over a vocabulary of a size, for a probe."""
    return tuple((number * 7919 + 13) % size for number in range(_PROBE_TOKENS))


class VllmClient:
    """Connections to one or more vLLM servers with the same weights, in an event loop that has a thread of its own.

    Args:
        addresses: of the servers.
        in_flight: requests at a time.
        request_seconds: deadline of a request with all its retries.
        has_ended: whether the server of a number is known to have ended, so that no retry helps; None for never.

    Attributes:
        addresses: of the servers.
        in_flight: requests at a time.

    Raises:
        InvalidOption: a setting is out of range, or an address is none or holds a user name.
        MissingExtra: the extra `openai-compatible` is not installed.
    """

    def __init__(
        self,
        addresses: Sequence[str] = (),
        *,
        in_flight: int = 256,
        request_seconds: float = 600.0,
        has_ended: Callable[[int], bool] | None = None,
    ) -> None:
        self._httpx = import_extra("httpx2", extra="openai-compatible", purpose="the engine vllm")
        check_value("in_flight", in_flight, int, low=1)
        check_value("request_seconds", request_seconds, float, above=0)
        for address in addresses:
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise InvalidOption("a server's address is wanted as in http://127.0.0.1:8000, without a user name.")
        self.in_flight = int(in_flight)
        self._request_seconds = float(request_seconds)
        self._has_ended = has_ended or (lambda _: False)
        self._retries = RetryPolicy(retries=8)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self.follow(addresses)

    def follow(self, addresses: Sequence[str]) -> None:
        """Ask the servers at these addresses from now on."""
        self.addresses = [address.rstrip("/") for address in addresses]
        self._busy = [0] * len(self.addresses)

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        if self._loop is not None:
            if self._client is not None:
                with suppress(Exception):
                    self.wait(self._client.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None

    # -- running requests -------------------------------------------------------------------

    def wait(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return the result of a coroutine of this client."""
        return asyncio.run_coroutine_threadsafe(work, self._running_loop()).result()

    async def from_another_loop(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """Return the result of a coroutine of this client; called from any event loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._running_loop()))

    def wait_all(self, works: Sequence[Coroutine[Any, Any, ResultT]]) -> list[ResultT]:
        """Return the results of coroutines of this client, of which `in_flight` run at a time."""

        async def run_all() -> list[ResultT]:
            free = asyncio.Semaphore(self.in_flight)

            async def run(work: Coroutine[Any, Any, ResultT]) -> ResultT:
                async with free:
                    return await work

            return list(await asyncio.gather(*map(run, works)))

        return self.wait(run_all())

    # -- requests ---------------------------------------------------------------------------

    async def complete(self, body: Mapping[str, Any], *, server: int | None = None) -> tuple[int, dict[str, Any]]:
        """Ask a server for a completion.

        Args:
            body: of the request, without the model's name.
            server: its number; None for the least busy.

        Returns:
            The number of the server, and its answer.

        Raises:
            EndpointError: it does not answer.
        """
        if server is None:
            server = min(range(len(self._busy)), key=self._busy.__getitem__)
        busy = self._busy
        busy[server] += 1
        try:
            return server, await self.post(server, "/v1/completions", {"model": NAME, **body})
        finally:
            busy[server] -= 1

    async def score(self, ids: Sequence[int], start: int = 1, *, server: int | None = None) -> list[float]:
        """Return the log-probability of each token from a place on, in nats at temperature 1.

        Args:
            ids: at least two tokens.
            start: index of the first token that is scored, from 1.
            server: its number; None for the least busy.

        Raises:
            EndpointError: a server does not answer, or without log-probabilities.
        """
        body = {
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
            "return_token_ids": True,
        }
        server, answer = await self.complete(body, server=server)
        try:
            found = answer["choices"][0]["prompt_logprobs"][start:]
            return [float(each[str(token)]["logprob"]) for each, token in zip(found, ids[start:], strict=True)]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EndpointError(f"{self.addresses[server]} answered without prompt_logprobs ({error!r}).") from error

    def score_responses(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, temperature: float
    ) -> list[list[float]]:
        """Return the log-probability of each token of each response after its prompt (`sdar_agents.learner.Scorer`).

        Raises:
            InvalidOption: the temperature is not 1.
            EndpointError: a server does not answer.
        """
        if temperature != 1.0:
            raise InvalidOption(f"temperature is {temperature:g}, and vLLM scores given tokens at temperature 1 only.")
        pairs = zip(prompts, responses, strict=True)
        return self.wait_all([self.score((*prompt, *response), len(prompt)) for prompt, response in pairs])

    def differences(self, ids: Sequence[int], wanted: Sequence[float]) -> list[float]:
        """Return for each server the mean difference of the log-probabilities of tokens to those of the trainer.

        Args:
            ids: the tokens.
            wanted: the trainer's, of each token but the first.

        Raises:
            EndpointError: a server does not answer.
        """
        found = self.wait_all([self.score(ids, server=number) for number in range(len(self.addresses))])
        return [sum(abs(a - b) for a, b in zip(each, wanted, strict=True)) / len(wanted) for each in found]

    def check(self, ids: Sequence[int], wanted: Sequence[float], tolerance: float, advice: str) -> float:
        """Compare the servers with the trainer as `differences` does; return the largest difference.

        Args:
            ids: the tokens.
            wanted: the trainer's, of each token but the first.
            tolerance: largest mean difference, in nats.
            advice: end of the message.

        Raises:
            RunStopped: a server has other weights.
            EndpointError: a server does not answer.
        """
        found = self.differences(ids, wanted)
        for address, difference in zip(self.addresses, found, strict=True):
            if not difference <= tolerance:
                raise RunStopped(
                    f"the vLLM server at {address} has other weights than the trainer: log-probabilities of the probe "
                    f"differ by {difference:.3g} nats on average, and {tolerance:g} are allowed. {advice}"
                )
        return max(found)

    async def post(self, server: int, path: str, body: Mapping[str, Any] | None) -> Any:
        """Return the JSON of an answer; failures that may pass are repeated until the deadline.

        Raises:
            EndpointError: there is none.
        """
        attempts = self._retries.start(Deadline(self._request_seconds))
        address = self.addresses[server]
        while True:
            problem = ""
            try:
                response = await self._client.post(
                    f"{address}{path}",
                    content=None if body is None else json.dumps(body).encode(),
                    headers={"Content-Type": "application/json"},
                    timeout=max(attempts.left(), 1e-3),
                )
            except self._httpx.RequestError as error:
                problem = redact(f"{type(error).__name__}: {error}")
                if self._has_ended(server):
                    raise EndpointError(f"the vLLM server at {address} has ended ({problem}).") from error
            else:
                if response.is_success:
                    try:
                        return parse_json(response.text) if response.text.strip() else {}
                    except ValueError as error:
                        problem = str(error)
                elif not is_retryable(response.status_code) or response.status_code == 500:
                    raise EndpointError(redact(f"{address}{path} answered {response.status_code} {response.text:.300}"))
                else:
                    problem = redact(f"{response.status_code} {response.text:.200}")
            try:
                pause = attempts.pause()
            except RetriesExhausted as error:
                raise EndpointError(f"{address}{path}: {problem} ({error})") from error
            await asyncio.sleep(pause)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop of the connections, which runs in a thread of its own."""
        if self._loop is None:
            loop = asyncio.new_event_loop()

            def serve() -> None:
                loop.run_forever()
                loop.close()

            threading.Thread(target=serve, daemon=True).start()
            self._loop = loop
            limits = self._httpx.Limits(max_connections=None, max_keepalive_connections=self.in_flight)
            self._client = self._httpx.AsyncClient(limits=limits)
        return self._loop
