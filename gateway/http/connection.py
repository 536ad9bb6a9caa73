"""The client's side of one HTTP request: what it is sent, and whether it is still there.

Invariant: a status line waits for the first chunk, so that a refusal has its own; an answer
that is cut off never looks like a whole one.
"""

import asyncio
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from starlette.types import Receive, Send

from gateway.http.errors import REQUEST_ID, HttpError
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import EOF

# A client that leaves is noticed once a call has lasted this long: watching costs a task, and most calls are shorter.
_WATCHED_AFTER_SECONDS = 0.05
# A body holds a place of its tenant's until it has come.  Under the least time that a call has: who is slow is told of that.
_BODY_SECONDS = 25


class Exchange(Protocol):
    """What an answer must know of its request."""

    request_id: str
    stream: bool


@runtime_checkable
class Named(Protocol):
    """A request whose stream has an event of its own for a failure; any other's is the error alone, without a name."""

    def broken(self, error: bytes) -> bytes:
        """The event that ends a stream which failed, of the error's JSON."""


class Answer:
    """What goes to the client: a status line with headers before the first chunk, then chunks."""

    __slots__ = ("_exchange", "_held", "_media_type", "_own", "_send", "_started", "headers")

    def __init__(self, exchange: Exchange, send: Send, media_type: str, own: tuple[tuple[str, str], ...]) -> None:
        """``own`` headers go with an answer that is no refusal; those in ``headers`` with any."""
        self._exchange = exchange
        self._send = send
        self._media_type = media_type
        self._started = False
        self._held = b""
        self._own = own
        self.headers: dict[str, str] = {}

    async def write(self, chunk: bytes) -> None:
        """Pass a chunk on.  One that comes alone goes together with the end."""
        if not self._started:
            self._started = True
            await self._send(self._start(200))
            if not self._exchange.stream:
                self._held = chunk
                return
        if self._held:
            chunk, self._held = self._held + chunk, b""
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def end(self) -> None:
        """Say that this is all."""
        if not self._started:
            await self._send(self._start(200))
        await self._last(self._held)

    async def refuse(self, error: HttpError) -> None:
        """End with an error."""
        if not self._started:
            self._exchange.stream = False
            self.headers.update(error.headers)
            await self._send(self._start(error.status))
            await self._last(error.body)
        elif self._exchange.stream:
            # The status line has gone; what the clients of streams look for is an event.
            named = self._exchange.broken(error.body) if isinstance(self._exchange, Named) else None
            await self._last(named or b"data: " + error.body + b"\n\n")
        # Of another answer that is cut off the end is left out, so that nobody takes it for a whole one.

    async def _last(self, chunk: bytes) -> None:
        with suppress(OSError):
            await self._send({"type": "http.response.body", "body": chunk, "more_body": False})

    def _start(self, status: int) -> dict[str, Any]:
        kind = "text/event-stream; charset=utf-8" if self._exchange.stream else self._media_type
        headers = {
            "content-type": kind if status == 200 else "application/json",
            "cache-control": "no-store",
            REQUEST_ID: self._exchange.request_id,
            **(dict(self._own) if status == 200 else {}),
            **self.headers,
        }
        if self._exchange.stream:
            # Proxies that buffer would turn the stream into one block.
            headers["x-accel-buffering"] = "no"
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        return {"type": "http.response.start", "status": status, "headers": raw}


class Client:
    """Reads what it sends, and cancels the task that serves when it goes away."""

    __slots__ = ("_gone", "_more", "_receive", "_serving", "_timer", "_watching")

    def __init__(self, receive: Receive) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving = serving
        self._receive = receive
        # Whether some of its body has still to come.
        self._more = True
        self._gone = False
        self._watching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def whole(self, limit_bytes: int) -> bytes:
        """All of its body.  Raises BODY_LATE, BODY_TOO_LARGE."""
        parts: list[bytes] = []
        size_bytes = 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while self._more:
                    piece = await self.piece()
                    size_bytes += len(piece)
                    if size_bytes > limit_bytes:
                        raise Failure(Reason.BODY_TOO_LARGE, limit_bytes=limit_bytes)
                    parts.append(piece)
        except TimeoutError:
            raise Failure(Reason.BODY_LATE, seconds=_BODY_SECONDS) from None
        return b"".join(parts)

    async def piece(self) -> Any:
        """What comes next of its body, EOF at the end.  Cancels who serves when the client has gone."""
        if not self._more:
            return EOF
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self._leave()
            # Whoever reads may be another task than the one that serves, whose end is its end.
            await asyncio.get_running_loop().create_future()
        self._more = message.get("more_body", False)
        if not self._more:
            self.watch()
        return message.get("body", b"")

    def watch(self) -> None:
        """Notice from now on when it goes away; what it still sends is read away."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_WATCHED_AFTER_SECONDS, self._watch)

    def _watch(self) -> None:
        self._watching = asyncio.create_task(self._listen(), name="client")

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        self._gone = True
        self._serving.cancel()

    def left(self) -> bool:
        """Whether a cancellation came because it has left; if so the task goes on."""
        if self._gone:
            self._serving.uncancel()
        return self._gone

    def unwatch(self) -> None:
        """The call has ended."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watching is not None:
            self._watching.cancel()
