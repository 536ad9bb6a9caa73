"""HTTP as a transport of the chassis' calls: the same layers, the same servicer, another encoding.

Invariant: an HTTP request passes authentication, admission, deadline, validation, error
mapping and telemetry in exactly the order that a gRPC call does, because it is the same
list; and when its client goes away the call is cancelled, and with it all work below.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol, cast

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from google.protobuf.message import Message
from google.rpc import status_pb2
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.http.connection import Answer, Client
from gateway.http.errors import of_status
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import Call, Method, MethodPolicy, Proceed, ServicerContext
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.permissions import Permission
from services.chassis.status import CORRELATION_KEY, DETAILS_KEY

# Chunks of a body that may wait for whoever reads it before their sender does.
_BUFFERED_CHUNKS = 16
_ANY_KEY = re.compile(r"\[[^][]+\]$")
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

    def __init__(self, metadata: Mapping[str, str], answer: Answer) -> None:
        self._metadata = tuple(metadata.items())
        self._answer = answer
        # Passes one chunk of the answer on; waits for a slow reader.
        self.write = answer.write

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers that a call takes notice of."""
        return self._metadata

    def time_remaining(self) -> None:
        """HTTP states no deadline; the client hangs up instead."""

    async def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """What goes before the answer: its headers."""
        self._answer.headers.update(metadata)

    def set_trailing_metadata(self, _: object) -> None:
        """Dropped: the request id travels as a header."""

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
    # Parameters of the query, NAME[KEY] for those with keys of the caller's; None where the exchange itself refuses others.
    query: frozenset[str] | None = None

    def method(self, exchange: Exchange, asked: Asked) -> Method:
        """The method of one request: its codec holds the request's own state."""
        return Method(
            path=self.path,
            service="openai",
            name=self.path,
            request_streams=False,
            response_streams=True,
            request_type="JSON",
            parse=lambda _: self._parsed(exchange, asked),
            serialize=cast("Callable[[Message], bytes]", _as_it_is),
            behaviour=exchange.answer,
            policy=MethodPolicy(),
            permission=self.permission,
            metrics=self.metrics,
        )

    def _parsed(self, exchange: Exchange, asked: Asked) -> Message:
        """The call's request, of whose query nothing is ignored."""
        for name in asked.query:
            if self.query is not None and _ANY_KEY.sub("[KEY]", name) not in self.query:
                raise Failure(Reason.PARAMETER_UNSUPPORTED, field=name[:64], why=" in the query")
        try:
            return exchange.parse(asked)
        except UnicodeEncodeError:
            # Half of a surrogate pair, which JSON can spell and no text has.
            raise Failure(Reason.BODY_NOT_DECODABLE, type="text: it has half of a surrogate pair") from None

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
        self._door = door
        self._into = body
        self._method = method
        self._exchange = exchange
        self._chain: Proceed = dispatcher.around(method)
        self._metadata = metadata
        self._raw = raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the call until it ends or the client does."""
        answer = Answer(self._exchange, send, self._door.media_type, self._door.headers)
        rpc = cast("ServicerContext", HttpRpc(self._metadata, answer))
        client = Client(receive, self._into)
        try:
            await self._chain(Call(self._method, self._raw, rpc))
            await answer.end()
        except Refused as refused:
            await answer.refuse(of_status(refused.status, self._exchange.request_id, self._exchange.sent))
        except asyncio.CancelledError:
            if not client.left():
                raise
            # Nobody reads an answer.
        finally:
            client.unwatch()
