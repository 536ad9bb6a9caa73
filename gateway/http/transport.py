"""HTTP as a transport of the chassis' calls: the same layers, the same servicer, another encoding.

Invariant: an HTTP request passes authentication, admission, deadline, validation, error
mapping and telemetry in exactly the order that a gRPC call does, because it is the same
list; and when its client goes away the call is cancelled, and with it all work below.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.http.errors import REQUEST_ID, of_status
from services.chassis.interceptors.call import Call, Method, MethodPolicy, Proceed, ServicerContext
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.permissions import Permission
from services.chassis.status import CORRELATION_KEY, DETAILS_KEY

# Chunks that may wait for a slow reader before the generation does.
_BUFFERED_CHUNKS = 16
_CARRIED_HEADERS = ("authorization", "traceparent")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request said: its body, the parts of its path by their names in the route, and its query.

    Where the route's body is streamed, ``stream`` is it and ``body`` is empty.
    """

    body: bytes = b""
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterable[bytes] = field(default_factory=lambda: body_stream()[1])
    content_type: str = ""


def body_stream() -> tuple[MemoryObjectSendStream[bytes], MemoryObjectReceiveStream[bytes]]:
    """The two ends of a body that is read while it is answered; the writer waits for the reader."""
    return anyio.create_memory_object_stream[bytes](_BUFFERED_CHUNKS)


class Exchange(Protocol):
    """One HTTP request on its way through: JSON in, JSON or server-sent events out."""

    request_id: str
    # True after ``parse`` when the answer is a stream of events.
    stream: bool
    # After ``parse`` the caller's names of fields that have several.
    sent: dict[str, str]

    def parse(self, asked: Asked) -> Message:
        """The call's request.  Raises FIELD_INVALID or PARAMETER_UNSUPPORTED by name."""

    def answer(self, message: Any, context: ServicerContext) -> AsyncGenerator[bytes]:
        """The servicer's answer, encoded."""


class Refused(Exception):
    """A call that ended with a status other than OK."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__(status.code)
        self.status = status


class HttpRpc:
    """What the layers use of an RPC, for a call that came over HTTP."""

    def __init__(self, metadata: Mapping[str, str], chunks: MemoryObjectSendStream[bytes]) -> None:
        self._metadata = tuple(metadata.items())
        self._chunks = chunks

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers that a call takes notice of."""
        return self._metadata

    def time_remaining(self) -> None:
        """HTTP states no deadline; the client hangs up instead."""

    def set_trailing_metadata(self, _: object) -> None:
        """Dropped: the request id travels as a header."""

    async def write(self, chunk: bytes) -> None:
        """Pass one chunk of the answer on; waits for a slow reader."""
        await self._chunks.send(chunk)

    async def abort(self, _: object, __: str, trailers: tuple[tuple[str, str | bytes], ...]) -> NoReturn:
        """End the call with the status in its trailers."""
        status = status_pb2.Status()
        status.ParseFromString(cast("bytes", dict(trailers)[DETAILS_KEY]))
        raise Refused(status)


@dataclass(frozen=True, slots=True)
class Door:
    """One HTTP route as a method behind the layers."""

    path: str
    exchange: Callable[[str], Exchange]
    dispatcher: Dispatcher
    metrics: dict[str, Any]
    media_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    permission: Permission | None = None

    def method(self, exchange: Exchange, asked: Asked) -> Method:
        """The method of one request: its codec holds the request's own state."""
        return Method(
            path=self.path,
            service="openai",
            name=self.path,
            request_streams=False,
            response_streams=True,
            request_type="JSON",
            parse=lambda _: exchange.parse(asked),
            serialize=cast("Callable[[Message], bytes]", _as_it_is),
            behaviour=exchange.answer,
            policy=MethodPolicy(),
            permission=self.permission,
            metrics=self.metrics,
        )

    def response(
        self,
        request_id: str,
        headers: Mapping[str, str],
        asked: Asked,
        body: MemoryObjectSendStream[bytes] | None = None,
    ) -> "CallResponse":
        """The answer to one request, computed as it is sent; ``body`` takes the body of a route that is streamed."""
        exchange = self.exchange(request_id)
        metadata = {name: headers[name] for name in _CARRIED_HEADERS if name in headers}
        metadata[CORRELATION_KEY] = request_id
        method = self.method(exchange, asked)
        return CallResponse(method, exchange, self.dispatcher, metadata, asked.body, self, body)


def _as_it_is(chunk: bytes) -> bytes:
    return chunk


class CallResponse(Response):
    """Runs the call while it sends: the status line waits for the first chunk, so a refusal has its own."""

    def __init__(
        self,
        method: Method,
        exchange: Exchange,
        dispatcher: Dispatcher,
        metadata: Mapping[str, str],
        raw: bytes,
        door: Door,
        body: MemoryObjectSendStream[bytes] | None,
    ) -> None:
        super().__init__()
        self._success_type = door.media_type
        self._answered_with = dict(door.headers)
        self._into = body
        self._method = method
        self._exchange = exchange
        self._chain: Proceed = dispatcher.around(method)
        self._metadata = metadata
        self._raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the call until it ends or the client does."""
        chunks, source = anyio.create_memory_object_stream[bytes](_BUFFERED_CHUNKS)
        rpc = cast("ServicerContext", HttpRpc(self._metadata, chunks))

        async def serve() -> None:
            with chunks:
                await self._chain(Call(self._method, self._raw, rpc))

        serving = asyncio.create_task(serve(), name=self._method.path)
        gone = asyncio.create_task(_heard(receive, self._into))
        gone.add_done_callback(lambda _: serving.cancel())
        started = False
        try:
            async with source:
                async for chunk in source:
                    if not started:
                        await send(self._start(200, self._answered_with))
                        started = True
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await self._finish(serving, send, started)
        finally:
            serving.cancel()
            gone.cancel()
            await asyncio.gather(serving, gone, return_exceptions=True)

    async def _finish(self, serving: "asyncio.Task[None]", send: Send, started: bool) -> None:
        last = b""
        try:
            await serving
        except Refused as refused:
            error = of_status(refused.status, self._exchange.request_id, self._exchange.sent)
            last = error.body
            if started and not self._exchange.stream:
                # Of an answer that is cut off the end is left out, so that nobody takes it for a whole one.
                return
            if started:
                # The status line has gone; what the clients of streams look for is an event.
                last = b"data: " + error.body + b"\n\n"
            else:
                self._exchange.stream = False
                await send(self._start(error.status, error.headers))
        except asyncio.CancelledError:
            if not serving.cancelled():
                raise
            # The client has gone: nobody reads an answer.
            return
        with suppress(OSError):
            await send({"type": "http.response.body", "body": last, "more_body": False})

    def _start(self, status: int, extra: Mapping[str, str]) -> dict[str, Any]:
        kind = "text/event-stream; charset=utf-8" if self._exchange.stream else self._success_type
        kind = kind if status == 200 else "application/json"
        headers = {
            "content-type": kind,
            "cache-control": "no-store",
            REQUEST_ID: self._exchange.request_id,
            **extra,
        }
        if self._exchange.stream:
            # Proxies that buffer would turn the stream into one block.
            headers["x-accel-buffering"] = "no"
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        return {"type": "http.response.start", "status": status, "headers": raw}


async def _heard(receive: Receive, body: MemoryObjectSendStream[bytes] | None) -> None:
    """Pass a streamed body on, then return when the client has gone.

    What comes when nobody takes it any more is read away: the client hears its answer only when it has sent all.
    """
    while (message := await receive())["type"] != "http.disconnect":
        if body is None or message["type"] != "http.request":
            continue
        with suppress(anyio.BrokenResourceError):
            await body.send(message.get("body", b""))
        if not message.get("more_body", False):
            body.close()
            body = None
