"""The invented corpus that the original environment was recorded on, and stand-ins for its servers."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

from sdar_envs.search_qa.retrieval.retriever import Hit, Passage

DATA = Path(__file__).parents[1] / "envs" / "search_qa" / "data"


def rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines."""
    path = DATA / name
    with gzip.open(path, "rt", encoding="utf-8") if name.endswith(".gz") else open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


class TableRetriever:
    """Answers with the recorded ranking; a query that was not recorded finds nothing."""

    fingerprint = "invented"

    def __init__(self) -> None:
        self._passages = {row["id"]: Passage(row["id"], row["contents"]) for row in rows("corpus.jsonl")}
        self._table = json.loads((DATA / "retrieval_table.json").read_text(encoding="utf-8"))
        self.calls: list[tuple[str, ...]] = []

    def search(self, queries: Sequence[str], k: int) -> list[tuple[Hit, ...]]:
        self.calls.append(tuple(queries))
        return [
            tuple(Hit(self._passages[name], score) for name, score in self._table.get(query.strip(), ())[:k])
            for query in queries
        ]


class _Faults(BaseHTTPRequestHandler):
    """Sends at `/f/<name>` the response of that name; `flaky` fails four times in five."""

    recorded: ClassVar[dict[str, Any]]
    seen: ClassVar[list[Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen.append(body)
        name = self.path.removeprefix("/f/")
        if self.path == "/queries_only":
            response = {"status": 422, "body": {"detail": "no queries"}, "content_type": "application/json"}
        elif name == "flaky_4_errors_then_ok":
            is_good = len(self.seen) % 5 == 0
            response = self.recorded["no_score"] if is_good else self.recorded["status_500_always"]
        else:
            response = self.recorded[name]
        body = response["body"]
        content = body if isinstance(body, str) else json.dumps(body)
        # Python 3.13 has another phrase for 422 than the recorded server.
        self.send_response(response["status"], "Unprocessable Entity" if response["status"] == 422 else None)
        self.send_header("Content-Type", response["content_type"])
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def fault_server(responses: dict[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Serve recorded responses; yield the address and the list of the bodies that have come."""
    seen: list[Any] = []
    handler = type("Handler", (_Faults,), {"recorded": responses, "seen": seen})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", seen
        finally:
            server.shutdown()
            thread.join()
