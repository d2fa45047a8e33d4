"""ASGI middleware that refuses requests: of other hosts, and without the token."""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

from sdar_envs.http.hosts import is_served, refusal_of

__all__ = ["Guard"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]


class Guard:
    """An ASGI application whose requests are checked before they reach the application in it.

    What is refused is answered with JSON, `{"detail": ...}`, which says why. A WebSocket is closed before it opens, and
    so is one that a page of a foreign site asks for: browsers allow that, and name the site in the Origin header.

    Args:
        app: the application.
        hosts: names that a request may have in its Host header; None for any. See `sdar_envs.http.hosts`.
        token: what a request must have in `Authorization: Bearer ...`; None for nothing.
    """

    def __init__(
        self, app: Callable[..., Awaitable[None]], *, hosts: Sequence[str] | None, token: str | None = None
    ) -> None:
        self._app = app
        self._hosts = hosts
        self._token = None if token is None else token.encode()

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer a request, or have the application answer it."""
        is_socket = scope["type"] == "websocket"
        refused = self._refusal(scope["headers"], is_socket) if is_socket or scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        if is_socket:
            await send({"type": "websocket.close", "code": 1008})
            return
        status, reason = refused
        body = json.dumps({"detail": reason}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, headers: Sequence[tuple[bytes, bytes]], is_socket: bool = False) -> tuple[int, str] | None:
        if self._hosts is not None:
            host = _value(headers, b"host").decode("latin-1")
            if not is_served(host, self._hosts):
                return 400, refusal_of(host, self._hosts)
            if is_socket and any(name == b"origin" for name, _ in headers):
                origin = _value(headers, b"origin").decode("latin-1").partition("://")[2]
                if not is_served(origin, self._hosts):
                    return 403, refusal_of(origin, self._hosts)
        if self._token is not None:
            scheme, _, given = _value(headers, b"authorization").strip().partition(b" ")
            if scheme.lower() != b"bearer":
                return 401, "This server wants a token: send the header Authorization: Bearer TOKEN."
            # In constant time: how much of a guess is right must not be told by how long the answer takes.
            if not hmac.compare_digest(given.strip(), self._token):
                return 401, "The token of this request is not this server's."
        return None


def _value(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    """Return the value of a header; nothing if there is none, or there are several."""
    found = [value for name, value in headers if name == wanted]
    return found[0] if len(found) == 1 else b""
