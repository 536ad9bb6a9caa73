"""One call as the layers see it, the same for all four kinds of RPC.

A layer is an awaitable step around the next one.  Requests and responses that
stream go through the objects here, so that a layer which acts once a call costs
nothing for each message.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
from google.protobuf.message import Message

from services.chassis.context import Identity, RequestContext
from services.chassis.permissions import Permission

ServicerContext = grpc.aio.ServicerContext[Any, Any]
# What a read answers at the end of a stream.
EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # absent from the stubs


@dataclass(frozen=True, slots=True)
class MethodPolicy:
    """What one RPC is allowed.  None takes the deployment's setting for its kind.

    ``long_lived`` marks a watch: it has no imposed deadline and no idle limit, and is
    ended as soon as the server drains instead of holding it up.  Who may call stands in the
    contract (``chassis.permissions``), not here.
    """

    default_seconds: float | None = None
    max_seconds: float | None = None
    long_lived: bool = False
    idle_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC: its names, its kind, its wire functions and the servicer's function.

    ``request_streams`` and ``response_streams`` say how it is read and written; ``streams``, whether its places and its
    time are a stream's: a door that writes in pieces what its RPC answers at once says no.
    ``permission`` is None for a door that serves several RPCs: the request that it makes says which.
    """

    path: str
    service: str
    name: str
    request_streams: bool
    response_streams: bool
    streams: bool
    request_type: str
    parse: Callable[[bytes], Message]
    serialize: Callable[[Message], bytes]
    behaviour: Callable[[Any, ServicerContext], Any]
    policy: MethodPolicy
    permission: Permission | None = None
    # Whether gRPC carries it, which bounds messages, and ends a call by itself at the deadline that its caller named.
    over_grpc: bool = True
    metrics: dict[str, Any] = field(default_factory=dict, compare=False)


class Call:
    """The mutable state of one call, passed from layer to layer."""

    __slots__ = (
        "after_write",
        "answer",
        "context",
        "correlation_id",
        "deadline",
        "identity",
        "imposed",
        "is_writing",
        "limit",
        "metadata",
        "method",
        "permission",
        "raw",
        "request",
        "response",
        "rpc",
        "started",
        "status",
        "traced",
        "traceparent",
    )

    def __init__(self, method: Method, raw: Any, rpc: ServicerContext) -> None:
        self.method = method
        self.rpc = rpc
        # Unparsed: bytes of the one request; a stream is read from ``rpc``, and so is a request that has still to come (None).
        self.raw = raw
        self.request: Any = None
        # What the handler answered, of a stream the last message; None before it did.
        self.answer: object | None = None
        self.response: bytes = b""
        # Whether a message of a stream is on its way to gRPC, and what is done once it is there.
        self.is_writing = False
        self.after_write: Callable[[], object] | None = None
        self.metadata: Mapping[str, str | bytes] = {}
        self.correlation_id = ""
        self.traceparent = ""
        # Whether the caller began the trace; ours, made up where it did not, is never sampled.
        self.traced = True
        self.started = 0.0
        # On the monotonic clock, in seconds.
        self.deadline: float | None = None
        # Whether it is ours to keep: gRPC keeps the caller's own, and then cancels the call.
        self.imposed = False
        # What keeps it, where it is ours to keep, while the call is under way.
        self.limit: asyncio.Timeout | None = None
        self.identity: Identity | None = None
        self.context: RequestContext | None = None
        # What the RPC asks of its caller; of a door that serves several it is known with the request.
        self.permission = method.permission
        # Name of the status code, written by the errors layer, read by telemetry.
        self.status = "OK"

    def until(self, deadline: float) -> None:
        """End by this too, on the monotonic clock in seconds: its caller has said with the request for how long it waits."""
        if self.deadline is not None and self.deadline <= deadline:
            return
        self.deadline = deadline
        if self.limit is not None:
            self.limit.reschedule(asyncio.get_running_loop().time() + deadline - time.monotonic())


Proceed = Callable[[Call], Awaitable[None]]


class Layer(Protocol):
    """One concern around every call: do something, await ``proceed(call)`` once, do something."""

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Serve ``call``; raise to refuse it."""
