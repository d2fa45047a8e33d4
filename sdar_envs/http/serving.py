"""HTTP server for the ASGI applications of this package: the shop's site and the retrieval server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from sdar_envs.errors import InvalidOption
from sdar_envs.http.guard import Guard
from sdar_envs.http.hosts import hosts_of, listen, shown_address
from sdar_envs.importing import import_extra
from sdar_envs.secrets import read_secret

if TYPE_CHECKING:
    import uvicorn

    from sdar_envs.http.protocol import Patience

__all__ = ["make_server", "serve"]

_LONGEST_HEAD = 1 << 16


def serve(
    app: Callable[..., Any],
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    ready: Callable[[str], object] = print,
    longest_head: int = _LONGEST_HEAD,
    token_env: str | None = None,
    websockets: bool = False,
) -> None:
    """Serve an ASGI application until the process is interrupted.

    If only this machine can reach the server, requests whose Host header is not one of this machine's names are refused
    (`sdar_envs.http.hosts`). A request has limited time to arrive (`sdar_envs.http.protocol`).

    Args:
        app: the application.
        host: the address to listen on.
        port: 0 for any free one.
        ready: called with the server's address as soon as it accepts connections.
        longest_head: largest request line and headers together, in bytes.
        token_env: the environment variable with a token that each request must send, as `Authorization: Bearer ...`;
            None for no token.
        websockets: the application takes WebSockets, which need the package websockets.

    Raises:
        InvalidOption: nothing can listen there, or the variable holds no token.
        MissingExtra: uvicorn is not installed.
        KeyboardInterrupt: the process was interrupted; the server has been closed.
    """
    token = None
    if token_env is not None:
        token = read_secret(token_env, argument="token_env")
        if not token:
            raise InvalidOption(f"${token_env}, which token_env names, is empty: set it to the token.")
    import_extra("uvicorn", extra="server", purpose="serving")
    with listen(host, port) as listener:
        server = make_server(app, listener, host=host, token=token, longest_head=longest_head, websockets=websockets)
        ready(shown_address(host, listener))
        server.run(sockets=[listener])


def make_server(
    app: Callable[..., Any],
    listener: socket.socket,
    *,
    host: str = "127.0.0.1",
    token: str | None = None,
    longest_head: int = _LONGEST_HEAD,
    patience: Patience | None = None,
    websockets: bool = False,
) -> uvicorn.Server:
    """Return the server of `serve`, for whoever starts and stops it otherwise.

    Args:
        app: the application.
        listener: from `sdar_envs.http.hosts.listen`.
        host: what it listens on.
        token: that each request must send; None for none.
        longest_head: largest request line and headers together, in bytes.
        patience: how long requests may take to arrive; None for the usual times.
        websockets: see `serve`.

    Raises:
        MissingExtra: uvicorn is not installed.
    """
    library = import_extra("uvicorn", extra="server", purpose="serving")
    # Needs uvicorn itself.
    from sdar_envs.http.protocol import Patience, PatientProtocol  # noqa: PLC0415

    # asyncio sets this itself only on sockets that name their protocol; without it each answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = library.Config(
        Guard(app, hosts=hosts_of(host, listener), token=token),
        log_level="warning",
        http=partial(PatientProtocol, patience=patience or Patience()),
        ws="websockets-sansio" if websockets else "none",
        server_header=False,
        timeout_graceful_shutdown=2,
        h11_max_incomplete_event_size=longest_head,
    )
    server: uvicorn.Server = library.Server(config)
    return server
