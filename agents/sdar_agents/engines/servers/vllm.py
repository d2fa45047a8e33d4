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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sdar_agents.engines.chat.chat_template import ChatTemplate, Messages
from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.servers.vllm_client import VllmClient, probe_tokens, tolerance_of_probe
from sdar_agents.engines.servers.vllm_servers import LocalServer, wait_until_healthy
from sdar_agents.engines.transformers import end_tokens, without_bars
from sdar_agents.scoring.model_parts import causal_lm
from sdar_agents.settings.checks import check_value
from sdar_agents.types import Completion, StopReason
from sdar_envs.core import is_integer
from sdar_envs.errors import EndpointError, InvalidOption, RunStopped

__all__ = ["VllmPolicy"]

_BYTES_PER_FILE = 4 << 30
_SEEDS = 1 << 31
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
        check_value("start", start, int, low=0)
        self._tolerance = tolerance_of_probe(dtype, probe_tolerance)
        if bool(servers) == bool(start):
            raise InvalidOption(
                "wanted either servers (addresses) or start (how many to start here) in model.engine_options."
            )
        self._own: list[LocalServer] = []
        self._client = VllmClient(
            servers, in_flight=in_flight, request_seconds=request_seconds, has_ended=self._has_ended
        )
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer, template_options)
        self.in_flight = self._client.in_flight
        self.version: int | None = None
        self._config: Any = causal_lm(model).config
        self._ends = sorted(end_tokens(causal_lm(model), tokenizer))
        self._dtype = getattr(torch, dtype)
        self._seconds_to_start = float(seconds_to_start)
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

    @property
    def addresses(self) -> list[str]:
        """Addresses of the servers. Other processes of a run ask them too."""
        return self._client.addresses

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
        return self._client.wait_all([self._complete(request, sampling) for request in requests])

    async def complete_ids(self, request: Request, sampling: Sampling) -> Completion:
        """Return the completion of a request; called from any event loop.

        Raises:
            EndpointError: a server does not answer.
        """
        return await self._client.from_another_loop(self._complete(request, sampling))

    def score(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], *, temperature: float = 1.0
    ) -> list[list[float]]:
        """Return the log-probability of each token of each response after its prompt (`sdar_agents.learner.Scorer`).

        Raises:
            InvalidOption: the temperature is not 1.
            EndpointError: a server does not answer.
        """
        return self._client.score_responses(prompts, responses, temperature=temperature)

    # -- weights ----------------------------------------------------------------------------

    def load_weights(self, weights: Iterator[tuple[str, Tensor]], *, version: int) -> None:
        """Write weights to a folder and let all servers load it.

        Raises:
            RunStopped: the folder cannot be written.
            EndpointError: a server does not load it.
        """
        before, self._written = self._written, self._write(weights, version)
        self.load_again(version=version)
        if before is not None and before != self._written:
            shutil.rmtree(before, ignore_errors=True)

    def load_again(self, *, version: int) -> None:
        """Let all servers load the folder that was written last.

        Args:
            version: of the weights in it.

        Raises:
            EndpointError: a server does not load it.
        """
        assert self._written is not None
        self._client.wait(self._load_all(self._written))
        self.version = version

    def probe_ids(self) -> tuple[int, ...]:
        """Return the tokens of the probe: a rendered message, and tokens from all over the vocabulary."""
        prompt = self.encode(self.render([{"role": "user", "content": "Look around, then go on."}]))
        spread = probe_tokens(min(self._config.get_text_config().vocab_size, len(self.tokenizer)))
        return (*prompt[-len(spread) :], *spread)

    def check_probe(self, wanted: Sequence[float]) -> float:
        """Compare the servers' log-probabilities of the probe with the trainer's; return the mean difference.

        Args:
            wanted: the trainer's, of each token of `probe_ids` but the first.

        Raises:
            RunStopped: they differ by more than the tolerance: a server has other weights.
        """
        tied = "On a CPU, vLLM does not reload tied embeddings: save the model untied. "
        hint = tied if getattr(self._config, "tie_word_embeddings", False) else ""
        advice = f"{hint}Use model.engine transformers, or raise model.engine_options.probe_tolerance."
        return self._client.check(self.probe_ids(), wanted, self._tolerance, advice)

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
        self._client.follow(addresses)

    def close(self) -> None:
        """Stop the servers that were started, and delete the weights."""
        self._client.close()
        for server in self._own:
            server.stop()
        if self._is_own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _has_ended(self, server: int) -> bool:
        return bool(self._own) and not self._own[server].is_alive()

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
        version = self.version
        server, answer = await self._client.complete(body)
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

    async def _load_all(self, folder: Path) -> None:
        await asyncio.gather(*(self._load(server, folder) for server in range(len(self.addresses))))

    async def _load(self, server: int, folder: Path) -> None:
        call = {
            "method": "reload_weights",
            "kwargs": {"weights_path": str(folder), "is_checkpoint_format": True},
        }
        await self._client.post(server, "/pause?mode=wait", None)
        try:
            await self._client.post(server, "/collective_rpc", call)
            await self._client.post(server, "/reset_prefix_cache", None)
        finally:
            await self._client.post(server, "/resume", None)


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
