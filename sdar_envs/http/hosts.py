"""Addresses to listen on, and the Host header: which names a server on this machine answers to.

A page of a foreign site may point its own name at this machine (DNS rebinding), and the visitor's browser would then
let it read what a server here answers. Such requests name the foreign host, so a server that only this machine can
reach answers to the names of this machine alone.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption

__all__ = ["LOCAL_HOSTS", "hosts_of", "is_served", "listen", "refusal_of", "shown_address"]

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""The names of this machine that everybody uses."""

_BACKLOG = 1_024
_PORT = re.compile(r":[0-9]*$", re.ASCII)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that accepts connections.

    Args:
        host: a name or address of this machine; `0.0.0.0` or `::` for all its addresses.
        port: 0 for any free one.

    Raises:
        InvalidOption: nothing can listen there.
    """
    if not isinstance(host, str) or not host.strip():
        # Sockets take the empty text for all addresses, which nobody means who leaves a variable of a script unset.
        raise InvalidOption(
            f"host is {host!r}; wanted an address to listen on: 127.0.0.1 for this machine alone, 0.0.0.0 for "
            "everybody who can reach it."
        )
    if not is_integer(port) or not 0 <= port < 1 << 16:
        raise InvalidOption(f"port is {port!r}; wanted a number from 0 (any free one) to 65535.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        address = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)[0][4]
        return socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except (OSError, ValueError) as error:  # UnicodeError: no name of a host has such characters
        raise InvalidOption(f"cannot listen on {host}, port {port} ({error}): choose another port or host.") from error


def shown_address(host: str, listener: socket.socket) -> str:
    """Return the address of a server as a browser takes it, such as `http://127.0.0.1:3000/`."""
    return f"http://{_in_address(host)}:{listener.getsockname()[1]}/"


def hosts_of(host: str, listener: socket.socket) -> tuple[str, ...] | None:
    """Return the names that a request may have in its Host header; None for any.

    It is None if others than this machine can reach the server, which then does not know by which names.

    Args:
        host: what the server was told to listen on.
        listener: its socket, whose address decides: `127.1` and a name of one's own for it are this machine too.
    """
    address = ipaddress.ip_address(str(listener.getsockname()[0]).partition("%")[0])
    if not address.is_loopback:
        return None
    return tuple(dict.fromkeys((*LOCAL_HOSTS, _in_address(host).lower(), _in_address(str(address)))))


def is_served(header: str, hosts: Sequence[str] | None) -> bool:
    """Return whether a request with this Host header is meant for a server with these names (None: any)."""
    return hosts is None or _PORT.sub("", header.strip().lower()).removesuffix(".") in hosts


def refusal_of(header: str, hosts: Sequence[str]) -> str:
    """Return the sentence that a request with another Host header is answered with."""
    return f"This server is not {header[:80]!r}: ask for it by {' or '.join(hosts)}."


def _in_address(host: str) -> str:
    return f"[{host}]" if ":" in host else host
