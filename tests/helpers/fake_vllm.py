"""A server that speaks as vLLM does, with a tiny Hugging Face model behind it: deterministic, and late at random."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from sdar_agents.engines.policy import Request, Sampling
from sdar_agents.engines.transformers import TransformersPolicy


class FakeVllm:
    """What the server knows.

    Attributes:
        calls: paths of the requests that change something, in order.
        completions: number of completions so far.
        broken_at: the completion of this number fails with status 500, once.
        stale: names of the weights that a reload leaves as they are.
        slowest: longest delay of an answer, in seconds.
    """

    def __init__(self, model: Path, *, slowest: float = 0.0, stale: tuple[str, ...] = ()) -> None:
        self.policy = TransformersPolicy.load(str(model), device="cpu", dtype="float32")
        self.calls: list[str] = []
        self.completions = 0
        self.broken_at = -1
        self.stale = stale
        self.slowest = slowest
        self.url = ""
        self._late = random.Random()
        self._lock = threading.Lock()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path != "/v1/completions":
            self.calls.append(path)
        if path == "/v1/completions" and "prompt_logprobs" in body:
            return 200, self._scores(body["prompt"])
        if path == "/v1/completions":
            time.sleep(self.slowest * self._late.random())
            with self._lock:
                self.completions += 1
                if self.completions == self.broken_at:
                    return 500, {"error": {"message": "EngineDeadError"}}
                return 200, self._complete(body)
        if path == "/collective_rpc":
            assert body["method"] == "reload_weights"
            self._load(Path(body["kwargs"]["weights_path"]))
        return 200, None

    def _complete(self, body: dict[str, Any]) -> dict[str, Any]:
        is_greedy = body["temperature"] == 0
        sampling = Sampling(
            body["max_tokens"], 1.0 if is_greedy else body["temperature"], greedy=is_greedy, stop=tuple(body["stop"])
        )
        answer = self.policy.generate([Request(tuple(body["prompt"]), body["seed"])], sampling)[0]
        reason = "length" if answer.stop_reason == "length" else "stop"
        logprobs = {"token_logprobs": list(answer.logprobs or ())}
        return {"choices": [{"token_ids": list(answer.token_ids), "logprobs": logprobs, "finish_reason": reason}]}

    @torch.no_grad()
    def _scores(self, ids: list[int]) -> dict[str, Any]:
        logprobs = self.policy.model(input_ids=torch.tensor([ids])).logits[0].float().log_softmax(-1)
        found = [None, *({str(token): {"logprob": float(logprobs[i, token])}} for i, token in enumerate(ids[1:]))]
        return {"choices": [{"prompt_logprobs": found}]}

    @torch.no_grad()
    def _load(self, folder: Path) -> None:
        own = dict(self.policy.model.named_parameters())
        for file in folder.glob("*.safetensors"):
            for name, tensor in load_file(file).items():
                if name not in self.stale:
                    own[name].copy_(tensor)


@contextmanager
def fake_vllm(model: Path, **settings: Any) -> Iterator[FakeVllm]:
    fake = FakeVllm(model, **settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(200, None)

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self._send(*fake.answer(self.path, json.loads(content) if content else {}))

        def _send(self, status: int, body: Any) -> None:
            content = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    fake.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
