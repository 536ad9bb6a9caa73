"""Innermost before the handler: bytes become a message, and the message obeys its annotations.

Parsing happens here rather than in the transport so that undecodable bytes are
INVALID_ARGUMENT like any other bad request, and so that an unauthorised caller
learns nothing about what would have been valid.
"""

import asyncio
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from protovalidate import ValidationError, Validator

from services.chassis.config import ServiceSettings
from services.chassis.errors import Failure, Reason, Violation
from services.chassis.interceptors.call import Call, Method, Proceed
from services.chassis.status import MAX_VIOLATIONS

_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # absent from the stubs


class ValidationLayer:
    """Parses and validates the request, or hands the handler a stream that does so message by message."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._validator = Validator()
        self._idle_seconds = settings.stream_idle_seconds

    def warm(self, request: Message) -> None:
        """Compile the rules of a message type now: the first validation is slow."""
        self._validator.collect_violations(request)

    def check(self, method: Method, raw: bytes) -> Message:
        """Parse and validate one message.  Raises BODY_NOT_DECODABLE or REQUEST_INVALID."""
        try:
            message = method.parse(raw)
        except DecodeError:
            raise Failure(Reason.BODY_NOT_DECODABLE, type=method.request_type) from None
        try:
            self._validator.validate(message)
        except ValidationError as error:
            raise _invalid(error) from None
        return message

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Make ``call.request`` ready for the handler."""
        if not call.method.request_streams:
            call.request = self.check(call.method, call.raw)
            await proceed(call)
            return
        policy = call.method.policy
        idle = None if policy.long_lived else (policy.idle_seconds or self._idle_seconds)
        call.request = requests = RequestStream(self, call, idle)
        try:
            await proceed(call)
        except asyncio.CancelledError:
            if requests.went_idle:
                task = asyncio.current_task()
                if task is not None:
                    task.uncancel()
                raise Failure(Reason.REQUEST_STREAM_IDLE, seconds=f"{idle:g}") from None
            raise
        finally:
            requests.close()


class RequestStream:
    """The messages of the caller, parsed and validated as the handler asks for them.

    The idle limit is one timer a stream, moved lazily, instead of one a message.
    """

    __slots__ = ("_check", "_idle", "_loop", "_method", "_read", "_since", "_task", "_timer", "went_idle")

    def __init__(self, layer: ValidationLayer, call: Call, idle_seconds: float | None) -> None:
        self._check = layer.check
        self._method = call.method
        self._read: Any = call.rpc.read
        self._idle = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._since: float | None = None
        self.went_idle = False
        self._timer = None if idle_seconds is None else self._loop.call_later(idle_seconds, self._look)

    def __aiter__(self) -> "RequestStream":
        return self

    async def __anext__(self) -> Message:
        self._since = self._loop.time()
        raw = await self._read()
        self._since = None
        if raw is _EOF:
            raise StopAsyncIteration
        return self._check(self._method, raw)

    def _look(self) -> None:
        """End the call if the handler has been waiting for a message for longer than allowed."""
        assert self._idle is not None
        waited = 0.0 if self._since is None else self._loop.time() - self._since
        if waited >= self._idle and self._task is not None:
            self.went_idle = True
            self._task.cancel()
            return
        self._timer = self._loop.call_later(self._idle - waited, self._look)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()


def _invalid(error: ValidationError) -> Failure:
    found = [
        Violation(field_path(item.proto.field), item.proto.message or item.proto.rule_id or "")
        for item in error.violations[:MAX_VIOLATIONS]
    ]
    first = f"{found[0].field}: {found[0].description}" if found else str(error)
    return Failure(Reason.REQUEST_INVALID, violations=found, count=len(error.violations), first=first)


def field_path(path: Any) -> str:
    """A protovalidate field path as people write it: ``documents[2].name``."""
    parts: list[str] = []
    for element in getattr(path, "elements", None) or ():
        name = element.field_name or ""
        subscript = getattr(element, "subscript", None)
        if subscript is not None and getattr(subscript, "value", None) is not None:
            name += f"[{subscript.value}]"
        parts.append(name)
    return ".".join(parts)
