"""The connections of the HTTP listener: how many there may be, and which of them gives way.

Anybody may open one, and one without a request under way says nothing of whose it is.  A request is under way until its
answer is written, and who is unknown is answered at once (:mod:`gateway.http.transport`); so that nobody makes that last by
not reading it, an answer that waits for its reader and has no place in the layers counts as none.  Invariant: there are
never more than the limit, and for one more the oldest that has no request under way is closed: who has no key shuts
nobody out, and holds what nobody else wants.  And who has one holds its place for no longer than it reads.
"""

import asyncio
import fcntl
import sys
import termios
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.importer import import_from_string

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol as Reading
else:
    Reading = object

# Of a request line with its headers, beyond the piece that it begins in.  One that has come in part is kept until it is whole.
_HEAD_BYTES = 64 * 1024
# Requests that wait for the answers before them.  Each takes several KB, and some hundred KB that are read at once have thousands.
_WAITING = 64
# Of an answer that waits to be read: by then some of it must have been, or its reader is taken for gone.
_UNREAD_SECONDS = 60.0
# In a request's state while the layers have it.
_PLACED = "placed"


@contextmanager
def placed(state: MutableMapping[str, Any]) -> Iterator[None]:
    """Around a request's way through the layers: what is written meanwhile has a place there."""
    state[_PLACED] = True
    try:
        yield
    finally:
        state[_PLACED] = False


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
        # The request that is answered, behind which others may have come.
        self._first: Any = None
        self._look_later: asyncio.TimerHandle | None = None

    @property
    def is_free(self) -> bool:
        """Whether no request is under way."""
        answered = self._first or self.cycle
        if answered is None or answered.response_complete:
            return True
        return self.flow.write_paused and not answered.scope["state"].get(_PLACED, False)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # uvicorn itself keeps the one that came last.
        self._first = cycle
        super()._start_asgi_task(cycle, app)

    def on_headers_complete(self) -> None:
        """As uvicorn's; one that asks for too much at once is closed."""
        if len(self.pipeline) < _WAITING:
            super().on_headers_complete()
        else:
            self.transport.abort()

    def connection_made(self, transport: Any) -> None:
        """As uvicorn's; one too many closes another."""
        super().connection_made(transport)
        self._connections.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """As uvicorn's."""
        self._connections.leave(self)
        self._stop_looking()
        if self._first is not None:
            # As uvicorn tells the one that came last: that its client has left.
            self._first.disconnected = True
            self._first.message_event.set()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """As uvicorn's; from here on something has to be read."""
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        """As uvicorn's."""
        self._stop_looking()
        super().resume_writing()

    def _stop_looking(self) -> None:
        if self._look_later is not None:
            self._look_later.cancel()
            self._look_later = None

    def _look_again(self) -> None:
        self._look_later = self.loop.call_later(_UNREAD_SECONDS, self._look, _unread(self.transport))

    def _look(self, before: tuple[int, int]) -> None:
        if _unread(self.transport) == before:
            self.transport.abort()
        else:
            self._look_again()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; a head without end is not read."""
        before = self.scope
        super().data_received(data)
        # uvicorn begins a scope with a head, and names its method when the head is whole.
        if self.scope is not before or before is None or "method" in before:
            # What is of a head that begins somewhere in a piece is not known, and the piece is not long.
            self._head_bytes = 0
            return
        self._head_bytes += len(data)
        if self._head_bytes > _HEAD_BYTES:
            self.transport.abort()


def _unread(transport: asyncio.Transport) -> tuple[int, int]:
    """What waits here, and what its reader's machine has not taken yet, in bytes.

    Who reads slowly moves the second alone for a long time: the system tells us of room only when there is much.
    """
    waits = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return transport.get_write_buffer_size(), int.from_bytes(waits, sys.byteorder)


def limited(limit: int, reading: type[asyncio.Protocol] | str) -> type[asyncio.Protocol]:
    """What makes the connections of one listener, of which there are ``limit`` at most; ``reading`` as uvicorn has it."""
    if isinstance(reading, str):
        reading = cast("type[asyncio.Protocol]", import_from_string(HTTP_PROTOCOLS[reading]))
    made = type("Connection", (Connection, reading), {})
    return cast("type[asyncio.Protocol]", partial(made, connections=Connections(limit)))
