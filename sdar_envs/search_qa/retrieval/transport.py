"""HTTP exchanges that end in time: connections are kept alive, each answer is bounded in seconds and in bytes.

What `requests` calls a timeout bounds every single read, so a server that sends one byte a second is never late. Here
one number bounds connecting, sending, reading the head and reading the body together. It does not bound the name
service of the operating system, and a host with several addresses may take that long for each.

Redirects are followed where they repeat the same request on the same server (307, 308); any other is an answer like
another.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Mapping
from http.client import HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.util import Timeout
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("the client needs requests: pip install 'sdar-envs[client]'", name=error.name) from error

__all__ = ["Answer", "AnswerTooLong", "Transport"]

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MOST_REDIRECTS = 3
_REDIRECTS = (307, 308)
_PIECE = 1 << 16
_KEPT_OPEN = 512  # more can be in use; urllib3 warns about each of those


class Answer(NamedTuple):
    """What a server answered, whatever its status."""

    url: str
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class AnswerTooLong(requests.RequestException):
    """The body has more bytes than were allowed."""


class Transport:
    """The connections to one server. Threads may share it; copies in other processes open their own.

    Args:
        url: the server's address; kept as `url`. No proxy is asked for addresses of this machine.
        headers: sent with every request.
        max_bytes: of an answer's body.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str], max_bytes: int) -> None:
        self.url = url
        self._uses_proxy = urlsplit(url).hostname not in _LOOPBACK
        self._headers = dict(headers)
        self._max_bytes = max_bytes
        self._open()

    def exchange(self, method: str, url: str, body: bytes | None = None, *, seconds: float) -> Answer:
        """Send a request and read the whole answer.

        Args:
            method: such as POST.
            url: where to.
            body: JSON, if any.
            seconds: how long everything may take, more than 0.

        Raises:
            requests.RequestException: there is no answer, none in time, or one of too many bytes.
        """
        deadline = time.monotonic() + seconds
        for _ in range(_MOST_REDIRECTS):
            answer = self._exchange_once(method, url, body, deadline)
            target = urljoin(url, answer.headers.get("location", ""))
            if answer.status not in _REDIRECTS or urlsplit(target)[:2] != urlsplit(url)[:2]:
                break
            url = target
        return answer

    def close(self) -> None:
        """Close the connections that nobody is using. The transport can still be used, and opens new ones then."""
        self._session.close()

    def _exchange_once(self, method: str, url: str, body: bytes | None, deadline: float) -> Answer:
        left = deadline - time.monotonic()
        if left <= 0:
            raise requests.Timeout("there was no time left")
        headers = {} if body is None else {"Content-Type": "application/json"}
        with self._own_session().request(
            method,
            url,
            data=body,
            headers=headers,
            timeout=Timeout(total=left),  # type: ignore[arg-type]  # requests takes it, its stubs do not know
            allow_redirects=False,
            stream=True,
        ) as response:
            content = bytearray()
            for piece in response.iter_content(_PIECE):
                content += piece
                if len(content) > self._max_bytes:
                    raise AnswerTooLong(f"the answer has more than {self._max_bytes:,} bytes")
            return Answer(url, response.status_code, response.reason or "", response.headers, bytes(content))

    def _own_session(self) -> requests.Session:
        if self._process != os.getpid():
            # After a fork, parent and child would read each other's answers from the same sockets.
            self._open()
        return self._session

    def _open(self) -> None:
        session = requests.Session()
        session.headers.update(self._headers)
        session.trust_env = self._uses_proxy
        adapter = _PunctualAdapter(pool_maxsize=_KEPT_OPEN)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        self._session = session
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_session", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._open()


# -- reading a whole answer within one time limit -------------------------------------------------


class _PunctualReader(io.RawIOBase):
    """A socket's input, of which all reads together may take what the socket's timeout is at the beginning."""

    def __init__(self, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._sock = sock
        self._raw = raw
        limit = sock.gettimeout()
        self._deadline = None if limit is None else time.monotonic() + limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline is not None:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _PunctualResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_PunctualReader(sock, self.fp.detach()))


class _PunctualConnection(HTTPConnection):
    response_class = _PunctualResponse


class _PunctualSecureConnection(HTTPSConnection):
    response_class = _PunctualResponse


class _PunctualPool(HTTPConnectionPool):
    ConnectionCls = _PunctualConnection


class _PunctualSecurePool(HTTPSConnectionPool):
    ConnectionCls = _PunctualSecureConnection


_POOLS = {"http": _PunctualPool, "https": _PunctualSecurePool}


class _PunctualAdapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
