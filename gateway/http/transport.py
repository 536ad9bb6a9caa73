"""HTTP as a transport of the chassis' calls: the same layers, the same servicer, another encoding.

Invariant: an HTTP request passes authentication, admission, deadline, validation, error
mapping and telemetry in exactly the order that a gRPC call does, because it is the same
list, and with the places and the time of the RPC behind its route; its body is read
behind all that may refuse it, so that who has no place holds none; and when its client
goes away the call is cancelled, and with it all work below.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, Protocol, cast

from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import BytesValue
from google.rpc import status_pb2
from starlette.types import Receive, Send

from gateway.http.connection import Answer, Client
from gateway.http.connections import placed
from gateway.http.errors import of_status
from gateway.http.waiting import waits_seconds
from gateway.leaving import hold
from services.chassis.context import current, enter
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import Call, Method, MethodPolicy, Proceed, ServicerContext
from services.chassis.interceptors.dispatch import Dispatcher
from services.chassis.permissions import Permission
from services.chassis.status import CORRELATION_KEY, DETAILS_KEY

_ANY_KEY = re.compile(r"\[[^][]+\]$")
_CARRIED_HEADERS = ("authorization", "traceparent")


class _NoStream:
    async def __aiter__(self) -> AsyncGenerator[bytes]:
        nothing: tuple[bytes, ...] = ()
        for chunk in nothing:
            yield chunk


_NO_STREAM = _NoStream()
_ANY = MethodPolicy()
_LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request said: its body, the parts of its path by their names in the route, and its query.

    Where the route's body is streamed, ``stream`` is it and ``body`` is empty; any other route has no stream.
    """

    body: bytes = b""
    path: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterable[bytes] = _NO_STREAM
    content_type: str = ""


class _Pieces:
    """A body that is read while it is answered, out of the stream of messages that the layers watch."""

    def __init__(self, requests: AsyncIterator[BytesValue]) -> None:
        self._requests = requests

    def __aiter__(self) -> "_Pieces":
        return self

    async def __anext__(self) -> bytes:
        return (await anext(self._requests)).value


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

    call: Call

    def __init__(
        self,
        metadata: Mapping[str, str],
        answer: Answer,
        client: Client,
        exchange: Exchange,
        asked: Asked,
        waiting: Mapping[str, str],
        method: Method,
        limit_bytes: int,
    ) -> None:
        """``waiting`` are headers that may say for how long the client waits.

        A body is read no further than ``limit_bytes`` unless it is streamed; ``asked`` is all but that.
        """
        self._metadata = tuple(metadata.items())
        self._waiting = waiting
        self._method = method
        self._limit_bytes = limit_bytes
        self._answer = answer
        self._client = client
        self.exchange = exchange
        self.asked = asked
        # Passes one chunk of the answer on; waits for a slow reader.
        self.write = answer.write

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The headers that a call takes notice of."""
        return self._metadata

    def time_remaining(self) -> float | None:
        """For how long the client waits, if it says so; of what may stream see :meth:`waits_seconds`."""
        return None if self._method.streams else waits_seconds(self._waiting, stream=False)

    def waits_seconds(self) -> float | None:
        """For how long it waits where this is not known before the body is read, which says whether the answer streams."""
        return waits_seconds(self._waiting, stream=self.exchange.stream) if self._method.streams else None

    async def read(self) -> Any:
        """What comes next of a body that is streamed, EOF at its end; of any other, what its method parses."""
        if self._method.request_streams:
            return await self._client.piece()
        body = await self._client.whole(self._limit_bytes)
        return self.exchange, Asked(body, self.asked.path, self.asked.query)

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


class Door:
    """One HTTP route as a method behind the layers: the chain is built when the server starts, as for gRPC."""

    def __init__(
        self,
        path: str,
        exchange: Callable[[str], Exchange],
        dispatcher: Dispatcher,
        *,
        media_type: str = "application/json",
        headers: tuple[tuple[str, str], ...] = (),
        streamed: bool = False,
        streams: bool = True,
        policy: MethodPolicy = _ANY,
        permission: Permission | None = None,
        query: frozenset[str] | None = None,
        bodiless: bool = False,
        limit_bytes: int = _LIMIT_BYTES,
    ) -> None:
        """Of a ``streamed`` route the body is read while it is answered.  ``streams`` and ``policy`` are those of its RPC.

        ``query`` has its parameters, NAME[KEY] for those with keys of the caller's; None where the exchange itself refuses
        others.  Of a ``bodiless`` one the path says all, beside the query.  No body is read beyond ``limit_bytes``, unless it
        is streamed.
        """
        self._limit_bytes = limit_bytes
        self._bodiless = bodiless
        self._exchange = exchange
        self._media_type = media_type
        self._headers = headers
        self._query = query
        self._method = Method(
            path=path,
            service="openai",
            name=path,
            request_streams=streamed,
            response_streams=True,
            streams=streams,
            request_type="JSON",
            parse=_piece if streamed else lambda raw: self.parsed(*cast("tuple[Exchange, Asked]", raw)),
            serialize=cast("Callable[[Message], bytes]", _as_it_is),
            behaviour=self._answer_upload if streamed else _answer,
            policy=policy,
            permission=permission,
            over_grpc=False,
        )
        self._chain: Proceed = dispatcher.around(self._method)

    def parsed(self, exchange: Exchange, asked: Asked) -> Message:
        """The call's request, of which nothing is ignored.  Raises as ``Exchange.parse``."""
        if self._query is not None:
            for name in asked.query:
                if _ANY_KEY.sub("[KEY]", name) not in self._query:
                    raise Failure(Reason.PARAMETER_UNSUPPORTED, field=name[:64], why=" in the query")
        if self._bodiless and asked.body.strip() not in (b"", b"{}"):
            raise Failure(Reason.PARAMETER_UNSUPPORTED, field="body", why=" here: the path says all")
        try:
            return exchange.parse(asked)
        except UnicodeEncodeError:
            # Half of a surrogate pair, which JSON can spell and no text has.
            raise Failure(Reason.BODY_NOT_DECODABLE, type="text: it has half of a surrogate pair") from None

    def _answer_upload(self, requests: AsyncIterator[BytesValue], rpc: Any) -> AsyncGenerator[bytes]:
        asked = replace(rpc.asked, stream=_Pieces(requests))
        return _answer(self.parsed(rpc.exchange, asked), rpc)

    async def serve(
        self,
        request_id: str,
        headers: Mapping[str, str],
        asked: Asked,
        state: MutableMapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Serve one request until it ends or its client does; ``asked`` is what its head says, ``state`` the request's own.

        The call runs while it sends: the status line waits for the first chunk, so a refusal has its own.
        """
        exchange = self._exchange(request_id)
        metadata = {name: headers[name] for name in _CARRIED_HEADERS if name in headers}
        metadata[CORRELATION_KEY] = request_id
        answer = Answer(exchange, send, self._media_type, self._headers)
        client = Client(receive)
        # While it still sends its body nobody waits for an answer.
        waiting = {} if self._method.request_streams else headers
        rpc = HttpRpc(metadata, answer, client, exchange, asked, waiting, self._method, self._limit_bytes)
        rpc.call = Call(self._method, None, cast("ServicerContext", rpc))
        try:
            try:
                with placed(state):
                    await self._chain(rpc.call)
                await answer.end()
            except Refused as refused:
                client.watch()
                await answer.refuse(of_status(refused.status, exchange.request_id, exchange.sent))
        except asyncio.CancelledError:
            if not client.left():
                raise
            # Nobody reads an answer.
        finally:
            client.unwatch()


def _piece(raw: bytes) -> Message:
    return BytesValue(value=raw)


def _as_it_is(chunk: bytes) -> bytes:
    return chunk


def _answer(message: Message, rpc: Any) -> AsyncGenerator[bytes]:
    hold(not rpc.exchange.stream)
    seconds = rpc.waits_seconds()
    if seconds is not None:
        deadline = time.monotonic() + seconds
        rpc.call.until(deadline)
        enter(current().until(deadline))
    answered: AsyncGenerator[bytes] = rpc.exchange.answer(message, rpc)
    return answered
