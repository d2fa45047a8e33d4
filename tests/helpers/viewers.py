"""The viewer over real HTTP, for tests: a server in a thread and a client that asks it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode

from sdar_benchmarks.records.trajectories import RunIndex
from sdar_benchmarks.reports.viewer import ViewerServer


@dataclass(frozen=True)
class Page:
    status_code: int
    text: str
    headers: Mapping[str, str]


class Visitor:
    """Asks a viewer for pages. A link may be absolute: its host is the one that reports name."""

    def __init__(self, server: ViewerServer) -> None:
        self.port = server.server_address[1]

    def get(self, address: str, params: Mapping[str, str] | None = None, host: str = "127.0.0.1:3030") -> Page:
        path = address.removeprefix("http://127.0.0.1:3030")
        if params:
            path += "?" + urlencode(params)
        return self.ask("GET", path, host)

    def ask(self, method: str, path: str, host: str = "127.0.0.1:3030") -> Page:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers={"Host": host})
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Page(answer.status, answer.read().decode(), headers)
        finally:
            connection.close()


@contextmanager
def visiting(folder: Path, other: Path | None = None) -> Iterator[Visitor]:
    with ViewerServer(RunIndex(folder), None if other is None else RunIndex(other)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield Visitor(server)
        finally:
            server.shutdown()
            thread.join()
