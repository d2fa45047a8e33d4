"""vLLM as the inference engine of a training run: token ids to token ids, over HTTP, with new weights after each step.

One or more servers answer, each request by the one that has the fewest. They are started for the run
(`model.engine_options: {start: 2}`) or named by address (`{servers: [http://10.0.0.2:8000]}`). Prompts are sent as
token ids and completions come as token ids with log-probabilities, so nothing is tokenised twice.

New weights are written as a safetensors folder, which the servers load in place: requests are held (`/pause`), the
folder is loaded (`reload_weights`), the prefix cache is emptied, requests go on. Servers on other machines need a
folder that they can read (`{folder: /shared/weights}`). A transfer from GPU to GPU by NCCL is not implemented.

After each load a probe compares the server's log-probabilities of given tokens with the trainer's; if they differ by
more than rounding, the run stops. So it does for tied embeddings on a CPU, where vLLM keeps a packed head with the old
weights.

The settings of a server that is started by hand: `VLLM_SERVER_DEV_MODE=1`, `--served-model-name policy
--logprobs-mode processed_logprobs --generation-config vllm`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch
from safetensors.torch import save_file
from torch import Tensor

from sdar_agents.engines.chat.chat_template import ChatTemplate, Messages
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.servers.vllm_servers import NAME, LocalServer, wait_until_healthy
from sdar_agents.engines.transformers import end_tokens, without_bars
from sdar_agents.scoring.model_parts import causal_lm
from sdar_agents.settings.checks import check_value
from sdar_agents.types import Completion, StopReason
from sdar_envs.core import is_integer
from sdar_envs.errors import EndpointError, InvalidOption, RunStopped
from sdar_envs.files.json_text import parse_json
from sdar_envs.http.retries import Deadline, RetriesExhausted, RetryPolicy, is_retryable
from sdar_envs.importing import import_extra
from sdar_envs.secrets import redact

__all__ = ["VllmPolicy"]

ResultT = TypeVar("ResultT")

_BYTES_PER_FILE = 4 << 30
_SEEDS = 1 << 31
# Mean absolute difference of log-probabilities: twice what is measured between two layouts of the same weights.
_TOLERANCES = MappingProxyType({"float32": 1e-3, "bfloat16": 0.1, "float16": 0.05})
_PROBE_TOKENS = 48
_PREFIX = "sdar-weights-"


class VllmPolicy:
    """A `Policy` and an `IndependentPolicy` that asks vLLM servers.

    Args:
        model: the Hugging Face model whose weights the servers get, or peft around it.
        tokenizer: its tokenizer, with a chat template.
        servers: addresses of running servers, such as `http://127.0.0.1:8000`.
        start: so many servers are started on this machine instead.
        devices: GPU numbers of the servers that are started, in turn; empty for the GPU of this process, or a CPU.
        dtype: of the servers' weights.
        folder: where weights are written for the servers; None for memory (`/dev/shm`), else a temporary folder.
        in_flight: episodes that are played at a time.
        request_seconds: deadline of a request with all its retries.
        probe_tolerance: largest mean difference of log-probabilities of a probe, in nats; None for that of the dtype.
        server_options: further arguments of the servers that are started.
        python: with vLLM, for the servers that are started; None for this one.
        seconds_to_start: until a server must answer.
        template_options: for the chat template.

    Attributes:
        addresses: of the servers. Other processes of a run ask them too.
        version: training steps that made the servers' weights; None before the first load.

    Raises:
        InvalidOption: a setting is out of range, or there is no server.
        MissingExtra: the extra `openai-compatible` is not installed, or vLLM where it is to be started.
        EndpointError: a server does not answer.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        servers: Sequence[str] = (),
        start: int = 0,
        devices: Sequence[int] = (),
        dtype: str = "bfloat16",
        folder: str | None = None,
        in_flight: int = 256,
        request_seconds: float = 600.0,
        probe_tolerance: float | None = None,
        server_options: Sequence[str] = (),
        python: str | None = None,
        seconds_to_start: float = 900.0,
        template_options: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self._httpx = import_extra("httpx2", extra="openai-compatible", purpose="the engine vllm")
        check_value("start", start, int, low=0)
        check_value("in_flight", in_flight, int, low=1)
        check_value("request_seconds", request_seconds, float, above=0)
        if dtype not in _TOLERANCES:
            raise InvalidOption(f"dtype is {dtype!r}; wanted one of {', '.join(_TOLERANCES)}.")
        if bool(servers) == bool(start):
            raise InvalidOption(
                "wanted either servers (addresses) or start (how many to start here) in model.engine_options."
            )
        for address in servers:
            parts = urlsplit(address)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
                raise InvalidOption("a server's address is wanted as in http://127.0.0.1:8000, without a user name.")
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, template_options)
        self.in_flight = int(in_flight)
        self.version: int | None = None
        self._config: Any = causal_lm(model).config
        self._ends = sorted(end_tokens(causal_lm(model), tokenizer))
        self._dtype = getattr(torch, dtype)
        self._tolerance = _TOLERANCES[dtype] if probe_tolerance is None else probe_tolerance
        self._request_seconds = float(request_seconds)
        self._seconds_to_start = float(seconds_to_start)
        self._retries = RetryPolicy(retries=8)
        self._own: list[LocalServer] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Any = None
        self._folder = Path(folder) if folder else _own_folder()
        self._is_own_folder = folder is None
        self._written: Path | None = None
        try:
            if start:
                self._start(model, start, devices=devices, dtype=dtype, options=server_options, python=python)
            self.follow([server.address for server in self._own] or servers)
            for address in () if self._own else self.addresses:
                wait_until_healthy(address, min(self._seconds_to_start, 30.0))
        except BaseException:
            self.close()
            raise

    # -- the members of `Policy` ------------------------------------------------------------

    @property
    def context_length(self) -> int | None:
        """The model's context length in tokens; None if its configuration does not say."""
        length = getattr(self._config.get_text_config(), "max_position_embeddings", None)
        return length if is_integer(length) else None

    @property
    def prefilled(self) -> str:
        """What the chat template writes at the start of the model's turn, such as `<think>`."""
        return self.template.prefilled

    def render(self, messages: Messages) -> str:
        """Return messages rendered by the chat template, with the generation prompt."""
        return self.template.render(messages)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the token ids of a rendered prompt, with no special tokens added."""
        return self.template.encode(text)

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """Return a completion for each request, in order; up to `in_flight` are asked for at a time.

        Raises:
            EndpointError: a server does not answer.
        """

        async def complete_all() -> list[Completion]:
            free = asyncio.Semaphore(self.in_flight)

            async def complete(request: Request) -> Completion:
                async with free:
                    return await self._complete(request, sampling)

            return list(await asyncio.gather(*map(complete, requests)))

        return self._wait(complete_all())

    async def complete_ids(self, request: Request, sampling: Sampling) -> Completion:
        """Return the completion of a request; called from any event loop.

        Raises:
            EndpointError: a server does not answer.
        """
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._complete(request, sampling), self._running_loop())
        )

    def score_ids(self, ids: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first, at temperature 1, of the first server."""
        return self._wait(self._score(0, ids))

    # -- weights ----------------------------------------------------------------------------

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], *, version: int) -> None:
        """Write weights to a folder and let all servers load it.

        Raises:
            RunStopped: the folder cannot be written.
            EndpointError: a server does not load it.
        """
        before, self._written = self._written, self._write(weights, version)
        self._wait(self._load_all(self._written))
        self.version = version
        if before is not None and before != self._written:
            shutil.rmtree(before, ignore_errors=True)

    def probe_ids(self) -> tuple[int, ...]:
        """Return the tokens of the probe: a rendered message, and tokens from all over the vocabulary."""
        prompt = self.encode(self.render([{"role": "user", "content": "Look around, then go on."}]))
        size = min(self._config.get_text_config().vocab_size, len(self.tokenizer))
        spread = [(number * 7919 + 13) % size for number in range(_PROBE_TOKENS)]
        return (*prompt[-_PROBE_TOKENS:], *spread)

    def check_probe(self, wanted: Sequence[float]) -> float:
        """Compare the servers' log-probabilities of the probe with the trainer's; return the mean difference.

        Args:
            wanted: the trainer's, of each token of `probe_ids` but the first.

        Raises:
            RunStopped: they differ by more than the tolerance: a server has other weights.
        """
        worst = 0.0
        for number, address in enumerate(self.addresses):
            found = self._wait(self._score(number, self.probe_ids()))
            difference = sum(abs(a - b) for a, b in zip(found, wanted, strict=True)) / len(found)
            if not difference <= self._tolerance:
                tied = " On a CPU, vLLM does not reload tied embeddings: save the model untied."
                hint = tied if getattr(self._config, "tie_word_embeddings", False) else ""
                raise RunStopped(
                    f"the vLLM server at {address} has other weights than the trainer: after a load, log-probabilities "
                    f"of the probe differ by {difference:.3g} nats on average, and {self._tolerance:g} are allowed."
                    f"{hint} Use model.engine transformers, or raise model.engine_options.probe_tolerance."
                )
            worst = max(worst, difference)
        return worst

    def recover(self) -> None:
        """Start servers of this run that have ended again, or wait until those of others answer.

        Raises:
            EndpointError: one does not.
        """
        self.version = None
        ended = [server for server in self._own if not server.is_alive()]
        for server in ended:
            server.start()
        for server in ended:
            server.wait()
        self.follow([server.address for server in self._own] or self.addresses)
        for address in self.addresses:
            wait_until_healthy(address, self._seconds_to_start)

    def follow(self, addresses: Sequence[str]) -> None:
        """Ask the servers at these addresses from now on."""
        self.addresses = [address.rstrip("/") for address in addresses]
        self._busy = [0] * len(self.addresses)

    def close(self) -> None:
        """Stop the servers that were started, and delete the weights."""
        if self._loop is not None:
            if self._client is not None:
                with suppress(Exception):
                    self._wait(self._client.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None
        for server in self._own:
            server.stop()
        if self._is_own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(
        self,
        model: Any,
        count: int,
        *,
        devices: Sequence[int],
        dtype: str,
        options: Sequence[str],
        python: str | None,
    ) -> None:
        """Write the model as it is and start servers that load it."""
        first = self._folder / "first"
        with without_bars():
            self._config.save_pretrained(first)
            self.tokenizer.save_pretrained(first)
        self._save_files(((name, tensor) for name, tensor in _plain_weights(model)), first)
        turn = itertools.cycle(devices) if devices else itertools.repeat(None)
        chosen = {} if python is None else {"python": python}
        for number, device in zip(range(count), turn, strict=False):
            server = LocalServer(
                first,
                self._folder / f"server-{number}.log",
                dtype=dtype,
                max_model_len=None,
                device=device,
                options=options,
                seconds_to_start=self._seconds_to_start,
                **chosen,
            )
            self._own.append(server)
            server.start()
        for server in self._own:
            server.wait()

    def _write(self, weights: Iterator[tuple[str, Tensor]], version: int) -> Path:
        folder = self._folder / f"step-{version:06d}"
        try:
            with without_bars():
                self._config.save_pretrained(folder)
            self._save_files(weights, folder)
        except OSError as error:
            raise RunStopped(
                f"the weights for vLLM cannot be written to {folder} ({error}): free some space, or set "
                "model.engine_options.folder."
            ) from error
        return folder

    def _save_files(self, weights: Iterator[tuple[str, Tensor]], folder: Path) -> None:
        """Write weights as safetensors files of a few GiB, with their index: memory holds one of them at a time."""
        places: dict[str, str] = {}
        piece: dict[str, Tensor] = {}
        size = 0

        def write() -> None:
            nonlocal piece, size
            name = f"model-{len(set(places.values())) + 1:05d}.safetensors"
            save_file(piece, folder / name, metadata={"format": "pt"})
            places.update(dict.fromkeys(piece, name))
            piece, size = {}, 0

        for name, tensor in weights:
            # A copy, because the next one may take its memory.
            piece[name] = tensor.detach().to("cpu", self._dtype, copy=True).contiguous()
            size += piece[name].nbytes
            if size >= _BYTES_PER_FILE:
                write()
        if piece:
            write()
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    # -- requests ---------------------------------------------------------------------------

    async def _complete(self, request: Request, sampling: Sampling) -> Completion:
        body = {
            "model": NAME,
            "prompt": list(request.prompt_ids),
            "max_tokens": sampling.max_new_tokens,
            "temperature": 0.0 if sampling.greedy else sampling.temperature,
            "top_p": 1.0,
            "top_k": 0,
            "min_p": 0.0,
            "seed": request.seed % _SEEDS,
            "logprobs": 0,
            "return_token_ids": True,
            "stop": list(sampling.stop),
            "include_stop_str_in_output": True,
            "stop_token_ids": self._ends,
            "skip_special_tokens": False,
        }
        server = min(range(len(self._busy)), key=self._busy.__getitem__)
        self._busy[server] += 1
        version = self.version
        try:
            answer = await self._post(server, "/v1/completions", body)
        finally:
            self._busy[server] -= 1
        try:
            choice = answer["choices"][0]
            ids = tuple(choice["token_ids"])
            logprobs = tuple(choice["logprobs"]["token_logprobs"])
            reason = _stop_reason(choice, ids, self._ends)
            text = self.tokenizer.decode(list(ids), skip_special_tokens=True)
            return Completion(ids, logprobs, text, reason, version=version)
        except (KeyError, IndexError, TypeError, InvalidOption) as error:
            raise EndpointError(
                f"{self.addresses[server]} answered without token ids or log-probabilities ({error!r}): wanted a "
                "vLLM server of 0.11 or later with --logprobs-mode processed_logprobs."
            ) from error

    async def _score(self, server: int, ids: Sequence[int]) -> list[float]:
        body = {
            "model": NAME,
            "prompt": list(ids),
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
            "return_token_ids": True,
        }
        answer = await self._post(server, "/v1/completions", body)
        try:
            found = answer["choices"][0]["prompt_logprobs"]
            return [float(each[str(token)]["logprob"]) for each, token in zip(found[1:], ids[1:], strict=True)]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EndpointError(f"{self.addresses[server]} answered without prompt_logprobs ({error!r}).") from error

    async def _load_all(self, folder: Path) -> None:
        await asyncio.gather(*(self._load(server, folder) for server in range(len(self.addresses))))

    async def _load(self, server: int, folder: Path) -> None:
        call = {
            "method": "reload_weights",
            "kwargs": {"weights_path": str(folder), "is_checkpoint_format": True},
        }
        await self._post(server, "/pause?mode=wait", None)
        try:
            await self._post(server, "/collective_rpc", call)
            await self._post(server, "/reset_prefix_cache", None)
        finally:
            await self._post(server, "/resume", None)

    async def _post(self, server: int, path: str, body: Mapping[str, Any] | None) -> Any:
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
                if self._own and not self._own[server].is_alive():
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

    def _wait(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        return asyncio.run_coroutine_threadsafe(work, self._running_loop()).result()

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


def _own_folder() -> Path:
    """Return a new folder for weights, in memory if possible; delete those of processes that were killed."""
    memory = Path("/dev/shm")
    at = memory if memory.is_dir() else Path(tempfile.gettempdir())
    for left in at.glob(f"{_PREFIX}*"):
        process = left.name.removeprefix(_PREFIX).partition("-")[0]
        if process.isdigit() and not _is_running(int(process)):
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=at))


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _plain_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights without adapters, each under its first name."""
    for name, parameter in causal_lm(model).named_parameters():
        if ".lora_" not in name:
            yield name.replace(".base_layer.", "."), parameter.detach()


def _stop_reason(choice: Mapping[str, Any], ids: Sequence[int], ends: Sequence[int]) -> StopReason:
    if choice["finish_reason"] == "length":
        return "length"
    return "eos" if ids and ids[-1] in ends else "stop"
