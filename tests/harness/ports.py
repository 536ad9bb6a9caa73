"""A port that is a test's own before a server of the test takes it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager


def bind_port(port: int = 0) -> socket.socket:
    """Bind a port of the loopback, by default a free one, without listening.  Raises OSError.

    The system assigns the port to no other socket while this one is open.  A server that is given the number may still
    listen there if it sets SO_REUSEADDR, as those of gRPC, asyncio and Go do.  UDP ports of that number are not held.
    """
    held = socket.socket()
    try:
        held.bind(("127.0.0.1", port))
        # Only now: before, it would let this socket share what another one holds.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    except OSError:
        held.close()
        raise
    return held


def port_of(held: socket.socket) -> int:
    """Return the number of a bound port."""
    return int(held.getsockname()[1])


@contextmanager
def reserved_address() -> Iterator[str]:
    """Yield an address for a server of the test; no other server gets it."""
    with bind_port() as held:
        yield f"127.0.0.1:{port_of(held)}"
