"""The connections of the HTTP listener: how many there may be, and which of them gives way.

Anybody may open one, and one without a request under way says nothing of whose it is.  A request is under way for as
long as the layers have a place for it, and who is unknown has none (:mod:`gateway.http.transport`).  Invariant: there are
never more than the limit, and for one more the oldest that has no request under way is closed: who has no key shuts
nobody out, and holds what nobody else wants.
"""

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.importer import import_from_string

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Reading
else:
    Reading = object

# Of a request line with its headers.  One that has come in part is kept until it is whole.
_HEAD_BYTES = 64 * 1024


class Connections:
    """All that are open, the oldest first; of those with a request under way, the one seen longest ago."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: "Connection") -> None:
        """Count a new one in; where there are too many, another is closed for it, or it is where all are needed."""
        self._open[connection] = None
        if len(self._open) <= self._limit:
            return
        for _ in range(len(self._open)):
            oldest = next(iter(self._open))
            del self._open[oldest]
            if oldest.is_free:
                # What its client has not read yet would keep it open.
                oldest.transport.abort()
                return
            self._open[oldest] = None

    def leave(self, connection: "Connection") -> None:
        """It is closed."""
        self._open.pop(connection, None)


class Connection(Reading):
    """One connection, mixed with what reads it."""

    def __init__(self, *, connections: Connections, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._connections = connections
        self._head_bytes = 0

    @property
    def is_free(self) -> bool:
        """Whether no request is under way."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's; one too many closes another."""
        super().connection_made(transport)
        self._connections.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._connections.leave(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; a head without end is not read."""
        super().data_received(data)
        # uvicorn begins a scope with a head, and names its method when the head is whole.
        if self.scope is None or "method" in self.scope:
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_BYTES:
            self.transport.abort()


def limited(limit: int, reading: type[asyncio.Protocol] | str) -> type[asyncio.Protocol]:
    """What makes the connections of one listener, of which there are ``limit`` at most; ``reading`` as uvicorn has it."""
    if isinstance(reading, str):
        reading = cast("type[asyncio.Protocol]", import_from_string(HTTP_PROTOCOLS[reading]))
    made = type("Connection", (Connection, reading), {})
    return cast("type[asyncio.Protocol]", partial(made, connections=Connections(limit)))
