"""HTTP client on `requests` with a hard deadline per exchange, bounded responses and connections that are kept alive.

`requests` does the work: sessions, pools, TLS, proxies, content encodings. One part is our own. What `requests` calls a
timeout bounds every single read, so a server that sends one byte a second is never late. urllib3's `Timeout(total=...)`
bounds connecting and the first read; the body could be read in pieces with an eye on the clock, but the status line and
the headers are read by `http.client` in a loop that cannot be interrupted. So the response's socket is read through
`_DeadlineReader`, and one number bounds connecting, sending and reading together. It does not bound the name service of
the operating system, and a host with several addresses may take that long for each.

Redirects to the same server are followed as browsers do: 307 and 308 with the same request, 302 and 303 with GET, 301
for GET. Any other is a response like another.
"""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Mapping
from functools import cache
from http.client import HTTPResponse
from typing import Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from sdar_envs.errors import SdarError
from sdar_envs.http.retries import Attempts, RetriesExhausted, is_retryable
from sdar_envs.importing import extra_imports
from sdar_envs.secrets import check_headers, redact

with extra_imports("client", purpose="the HTTP client"):
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.exceptions import LocationParseError
    from urllib3.util import Timeout

__all__ = ["NoResponse", "Response", "Transport", "exchange_with_retries"]

_LASTING = (requests.exceptions.SSLError, requests.exceptions.InvalidURL, LocationParseError)
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MOST_REDIRECTS = 3
_PIECE = 1 << 16
_KEPT_OPEN = 512  # more can be in use; urllib3 warns about each of those
_SHOWN = 200


class Response(NamedTuple):
    """HTTP response of any status, read to its end. `url` is the address after redirects."""

    url: str
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes

    def describe(self) -> str:
        """Return status and beginning of the body, such as `answers 404 Not Found: '<html>...'`, for error messages."""
        # Cut after redaction: half a key would not be found.
        text = redact(self.body[: 80 * _SHOWN].decode("utf-8", "replace"))
        return f"answers {self.status} {redact(self.reason)}: {' '.join(text.split())[:_SHOWN]!r}"


class NoResponse(SdarError, ConnectionError):
    """There is no complete response; the message begins with the address.

    Args:
        message: address and reason.
        is_lasting: whether the same request would fail again: an invalid address or certificate, a body that is too
            long.
    """

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(redact(message))
        self.is_lasting = is_lasting


class Transport:
    """HTTP connections to one server. Threads may share it; copies in other processes open their own.

    Args:
        url: an address on the server; kept as `url`. No proxy is used for addresses of this machine.
        headers: sent with every request; keys and tokens among them are redacted from errors (`sdar_envs.secrets`).
        max_bytes: longest body of a response.

    Raises:
        InvalidOption: a header cannot be sent.
    """

    def __init__(self, url: str, *, headers: Mapping[str, str] | None = None, max_bytes: int = 1 << 28) -> None:
        self.url = url
        self._uses_proxy = urlsplit(url).hostname not in _LOOPBACK
        self._headers = check_headers(headers or {})
        self._max_bytes = max_bytes
        self._open()

    def exchange(
        self,
        method: str,
        url: str,
        body: bytes | None = None,
        *,
        seconds: float,
        content_type: str = "application/json",
    ) -> Response:
        """Send a request and read the whole response.

        Args:
            method: such as POST.
            url: where to.
            body: of the request, if any.
            seconds: time limit for everything, more than 0.
            content_type: of the body.

        Raises:
            NoResponse: there is none, none in time, or one of too many bytes.
        """
        deadline = time.monotonic() + seconds
        for _ in range(_MOST_REDIRECTS):
            response = self._exchange_once(method, url, body, content_type, deadline)
            target = urljoin(url, response.headers.get("location", ""))
            if response.status in (302, 303):
                method, body = "GET", None
            elif not (response.status in (307, 308) or (response.status == 301 and method == "GET")):
                break
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                break
            url = target
        return response

    def close(self) -> None:
        """Close idle connections. The transport can still be used and opens new ones then."""
        self._session.close()

    def _exchange_once(self, method: str, url: str, body: bytes | None, content_type: str, deadline: float) -> Response:
        left = deadline - time.monotonic()
        if left <= 0:
            raise NoResponse(f"{url} gives no answer (timed out: no time is left for a redirect or another attempt)")
        try:
            with self._own_session().request(
                method,
                url,
                data=body,
                headers={} if body is None else {"Content-Type": content_type},
                timeout=Timeout(total=left),  # type: ignore[arg-type]  # requests takes it, its stubs do not know
                allow_redirects=False,
                stream=True,
            ) as response:
                content = bytearray()
                for piece in response.iter_content(_PIECE):
                    content += piece
                    if len(content) > self._max_bytes:
                        raise NoResponse(f"{url} answers with more than {self._max_bytes:,} bytes", is_lasting=True)
                return Response(url, response.status_code, response.reason or "", response.headers, bytes(content))
        except (requests.RequestException, LocationParseError) as error:
            root: BaseException = error
            while (cause := root.__cause__ or root.__context__) is not None:
                root = cause
            raise NoResponse(
                f"{url} gives no answer ({type(root).__name__}: {redact(str(root))[:_SHOWN]})",
                is_lasting=isinstance(error, _LASTING),
            ) from error

    def _own_session(self) -> requests.Session:
        if self._process != os.getpid():
            # After a fork, parent and child would read each other's responses from the same sockets.
            self._open()
        return self._session

    def _open(self) -> None:
        session = requests.Session()
        session.headers.update(self._headers)
        session.trust_env = self._uses_proxy
        adapter = _DeadlineAdapter(pool_maxsize=_KEPT_OPEN)
        for scheme in ("http://", "https://"):
            session.mount(scheme, adapter)
        self._session = session
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_session", "_process")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        check_headers(self._headers)  # a new process does not know the secrets yet
        self._open()


def exchange_with_retries(
    send: Callable[[], Response], attempts: Attempts, wait: Callable[[float], object] = time.sleep
) -> Response:
    """Send a request until there is a response that repeating it would not change.

    Args:
        send: sends it once; raises `NoResponse`.
        attempts: how often, with which pauses and until when.
        wait: called with the seconds of each pause; may raise `RetriesExhausted`.

    Raises:
        NoResponse: the last failure, and why it is not tried again.
    """
    while True:
        retry_after = None
        try:
            response = send()
            if not is_retryable(response.status):
                return response
            failure, cause = f"{response.url} {response.describe()}", None
            retry_after = response.headers.get("Retry-After")
        except NoResponse as error:
            if error.is_lasting:
                raise
            failure, cause = str(error), error
        try:
            wait(attempts.pause(retry_after))
        except RetriesExhausted as end:
            raise NoResponse(f"{failure} ({end})") from cause


# -- reading a whole response within one time limit -------------------------------------------------


class _DeadlineReader(io.RawIOBase):
    """Input of a socket whose reads together may take what the socket's timeout is at the beginning."""

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


class _DeadlineResponse(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp.detach()))


@cache
def _with_deadline(connection: type[Any]) -> type[Any]:
    """Return a connection class of urllib3 whose responses have a deadline."""
    return type(connection.__name__, (connection,), {"response_class": _DeadlineResponse})


class _DeadlineAdapter(HTTPAdapter):
    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        if not issubclass(pool.ConnectionCls.response_class, _DeadlineResponse):
            pool.ConnectionCls = _with_deadline(pool.ConnectionCls)
        return pool
