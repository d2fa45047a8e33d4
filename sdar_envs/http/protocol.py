"""HTTP connections of uvicorn whose requests must arrive in time.

uvicorn closes a connection on which nothing happens between two requests, but waits for ever for one that is begun: a
client that sends a byte now and then keeps its connection and what was read of its request. Here each part has its
time: the head, the body, and what still comes of a body after it was refused.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from sdar_envs.importing import extra_imports

with extra_imports("server", purpose="serving"):
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Patience", "PatientProtocol"]

_TOO_SLOW = b"The request did not arrive in time."
_ANSWER = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_TOO_SLOW), _TOO_SLOW)
)


class Patience(NamedTuple):
    """The seconds that a client has for each part of a request.

    Attributes:
        head: from the connection, or the end of the answer before, to the end of the headers.
        body: from there to the end of the body.
        rest: for what still comes of a body that is answered already. A connection that is closed at once would lose
            the answer, because the client is still sending.
    """

    head: float = 20.0
    body: float = 120.0
    rest: float = 5.0


class PatientProtocol(H11Protocol):
    """A connection that is closed when a part of a request takes too long.

    Args:
        patience: how long each part may take.
        **settings: as for `H11Protocol`.
    """

    def __init__(self, *, patience: Patience, **settings: Any) -> None:
        super().__init__(**settings)
        self._patience = patience
        self._part: str | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End all waiting."""
        self._wait_for(None)
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Start the clock of the part that is awaited now; let it run if it is the same part as before."""
        part = None
        # A WebSocket has another protocol from its handshake on.
        if not self.transport.is_closing() and self.transport.get_protocol() is self:
            state = self.conn.their_state
            if state is h11.IDLE:
                part = "head"
            elif state is h11.SEND_BODY:
                part = "rest" if self.cycle.response_complete else "body"
        if part != self._part:
            self._wait_for(part)

    def _wait_for(self, part: str | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._part = part
        self._timer = None if part is None else self.loop.call_later(getattr(self._patience, part), self._give_up)

    def _give_up(self) -> None:
        if self.transport.is_closing():
            return
        # Silence needs no answer, and where one was begun, another would be a part of it.
        if (self._part == "head" and self.conn.trailing_data[0]) or (
            self._part == "body" and not self.cycle.response_started
        ):
            self.transport.write(_ANSWER)
        self.transport.close()
