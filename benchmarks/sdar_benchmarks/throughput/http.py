"""Overhead of retrieval over HTTP: queries one by one, as the reference sends them, and in batches.

The server runs in a process of its own on this machine, with an engine that answers every query with the same three
passages of a hundred words, so only the client, the server and the connection are measured. CPU times are of each
process; elapsed times depend on what else the machine does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sdar_benchmarks.throughput.figures import Figures
from sdar_envs.search_qa.retrieval.client import Dialect, HttpRetriever
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage
from sdar_envs.search_qa.retrieval.server import serve_retriever

__all__ = ["measure"]

_QUERIES = 2_048
_BATCH = 256
_TOPK = 3
_PASSAGES = tuple(
    Hit(Passage(str(n), f'"Title {n}"\n' + " ".join(f"word{(n * 7 + i) % 997}" for i in range(100))), 10.0 / (n + 1))
    for n in range(_TOPK)
)


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the time of a query over HTTP; takes about ten seconds."""
    queries = [f"which river flows through the {n}th town of the valley" for n in range(_QUERIES)]
    ways: list[tuple[str, Dialect, int]] = [
        ("HTTP, one query after the other", "query", 1),
        (f"HTTP, a request for each query, batches of {_BATCH}", "query", _BATCH),
        (f"HTTP, a request for {_BATCH} queries", "queries", _BATCH),
    ]
    with _serving() as server:
        for what, dialect, at_once in ways:
            progress(what)
            retriever = HttpRetriever(server.address, dialect=dialect, batch_size=_BATCH)
            retriever.search(queries[:at_once], _TOPK)  # opens the connections
            spent = _spent(server, lambda r=retriever, n=at_once: _ask(r, queries, n))  # type: ignore[misc]
            retriever.close()
            for part, value in spent.items():
                figures.add(f"{what}: {part}", value / _QUERIES * 1e6, "us/query")


def _ask(retriever: HttpRetriever, queries: Sequence[str], at_once: int) -> None:
    for start in range(0, len(queries), at_once):
        retriever.search(queries[start : start + at_once], _TOPK)


class _Server(NamedTuple):
    address: str
    process: subprocess.Popen[str]

    def cpu_seconds(self) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(json.loads(self.process.stdout.readline()))


def _spent(server: _Server, action: Callable[[], None]) -> dict[str, float]:
    """Return the CPU seconds of an action, here and in the server, and its elapsed seconds."""
    before = server.cpu_seconds(), time.process_time(), time.perf_counter()
    action()
    elapsed, here = time.perf_counter() - before[2], time.process_time() - before[1]
    return {"CPU of the client": here, "CPU of the server": server.cpu_seconds() - before[0], "elapsed": elapsed}


@contextmanager
def _serving() -> Iterator[_Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sdar_benchmarks.throughput.http"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        try:
            yield _Server(process.stdout.readline().strip(), process)
        finally:
            process.kill()


class _Free:
    """Engine whose answers take no time."""

    fingerprint = "free"

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        return [_PASSAGES[:k]] * len(queries)


def _serve() -> None:
    """Serve, and print the CPU seconds of this process for every line on standard input."""

    def report(address: str) -> None:
        print(address, flush=True)
        threading.Thread(target=tell, daemon=True).start()

    def tell() -> None:
        for _ in sys.stdin:
            print(time.process_time(), flush=True)

    serve_retriever(_Free(), port=0, ready=report)


if __name__ == "__main__":
    _serve()
