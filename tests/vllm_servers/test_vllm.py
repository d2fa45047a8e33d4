"""A real vLLM server with SmolLM2-135M, asked by the agent `openai` on every suite. `make vllm`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdar_agents.engines.smollm2 import smollm2_folder
from sdar_benchmarks.cli import main

pytestmark = pytest.mark.vllm

SUITES = ("sdar/ALFWorld-v0", "sdar/WebShop-v0", "sdar/SearchQA-v0")
STEPS, TOKENS = 2, 24
SECONDS_TO_START = 900.0


@pytest.fixture(scope="session")
def model() -> Path:
    return smollm2_folder()


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a vLLM server, up to `/v1`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = {
        "--model": str(model),
        "--served-model-name": "smollm2",
        "--host": "127.0.0.1",
        "--port": str(port),
        "--dtype": "float32",
        "--max-model-len": "4096",
        "--max-num-batched-tokens": "32768",
    }
    line = [part for option in options.items() for part in option]
    # A request with a seed stops a server that prefills in chunks, on a CPU.
    line += ["--enforce-eager", "--no-enable-chunked-prefill"]
    environ = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    with open(log, "w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *line],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environ,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()[-4000:]
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"the server did not start in {SECONDS_TO_START:.0f} s: {log.read_text()[-4000:]}")


def evaluate(folder: Path, env_id: str, *agent: str) -> tuple[list[Any], list[Any]]:
    """Play two episodes of two turns; return the rows of episodes and trajectories."""
    line = ["eval", env_id, "--limit", "2", "--max-steps", str(STEPS), "--out", str(folder), "--temperature", "0"]
    assert main([*line, "--max-tokens", str(TOKENS), *agent]) == 0
    episodes, trajectories = (
        sorted(map(json.loads, (folder / f"{name}.jsonl").read_text().splitlines()), key=lambda row: row["task_id"])
        for name in ("episodes", "trajectories")
    )
    return episodes, trajectories


@pytest.mark.parametrize("env_id", SUITES)
def test_the_server_plays_as_the_model_does_in_this_process(
    env_id: str, server: str, model: Path, tmp_path: Path
) -> None:
    asked = ("--agent", "openai", "--base-url", server, "--model", "smollm2")
    local = ("--agent", "transformers", "--model", str(model), "--agent-set", "device=cpu")
    served, there = evaluate(tmp_path / "served", env_id, *asked)
    loaded, here = evaluate(tmp_path / "loaded", env_id, *local, "--agent-set", "dtype=float32")
    assert [row["error"] for row in served] == [None, None]
    # Greedy decoding in float32 on both sides: the same words, and the same count of tokens.
    assert texts(there) == texts(here)
    for name in ("task_id", "prompt_tokens", "completion_tokens", "score"):
        assert [row[name] for row in served] == [row[name] for row in loaded], name


def texts(rows: list[Any]) -> list[Any]:
    return [[turn["response"] for turn in row["turns"]] for row in rows]
