"""HTTP server for the ASGI applications of this package: the shop's site and the retrieval server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from sdar_envs.errors import InvalidOption
from sdar_envs.importing import import_extra

__all__ = ["serve"]


def serve(
    app: Callable[..., Any],
    *,
    host: str = "127.0.0.1",
    port: int = 3000,
    ready: Callable[[str], object] = print,
    longest_head: int = 1 << 16,
) -> None:
    """Serve an ASGI application until the process is interrupted.

    Args:
        app: the application.
        host: the address to listen on.
        port: 0 for any free one.
        ready: called with the server's address as soon as it accepts connections.
        longest_head: largest request line and headers together, in bytes.

    Raises:
        InvalidOption: nothing can listen there.
        MissingExtra: uvicorn is not installed.
        KeyboardInterrupt: the process was interrupted; the server has been closed.
    """
    uvicorn = import_extra("uvicorn", extra="server", purpose="serving")
    is_ipv6 = ":" in host
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if is_ipv6 else socket.AF_INET)
    except (OSError, OverflowError) as error:
        raise InvalidOption(f"cannot listen on {host}, port {port} ({error}): choose another port or host.") from error
    with listener:
        # asyncio sets this itself only on sockets that name their protocol; without it each answer waits 40 ms.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            app,
            log_level="warning",
            http="h11",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=2,
            h11_max_incomplete_event_size=longest_head,
        )
        shown = f"[{host}]" if is_ipv6 else host
        ready(f"http://{shown}:{listener.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listener])
