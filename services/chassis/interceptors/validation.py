"""Innermost before the handler: bytes become a message, and the message obeys its annotations.

Parsing happens here rather than in the transport so that undecodable bytes are
INVALID_ARGUMENT like any other bad request, and so that an unauthorised caller
learns nothing about what would have been valid.  So does reading, where the transport
serves a call whose request has still to come: who is slow with it is known, and holds
a place of its tenant's.
"""

import asyncio
from typing import Any

from google.protobuf.message import DecodeError, Message
from protovalidate import ValidationError, Validator

from services.chassis import permissions
from services.chassis.config import ServiceSettings
from services.chassis.errors import Failure, Reason, Violation
from services.chassis.interceptors.call import EOF, Call, Method, Proceed
from services.chassis.interceptors.rules_in_words import in_words
from services.chassis.status import MAX_VIOLATIONS


class ValidationLayer:
    """Parses and validates the request, or hands the handler a stream that does so message by message."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._validator = Validator()
        self.validate = self._validator.validate
        self._idle_seconds = settings.stream_idle_seconds

    def warm(self, request: Message) -> None:
        """Compile the rules of a message type now: the first validation is slow."""
        self._validator.collect_violations(request)

    async def __call__(self, proceed: Proceed, call: Call) -> None:
        """Make ``call.request`` ready for the handler."""
        if not call.method.request_streams:
            raw = call.raw
            if raw is None:
                raw = await call.rpc.read()
            try:
                call.request = request = call.method.parse(raw)
                if call.permission is None:
                    _authorise(call, request)
                self.validate(request)
            except (DecodeError, ValidationError) as error:
                raise refusal(call.method, error) from None
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

    A message costs no timer and no clock: one timer a stream looks whether the handler
    still waits for the message that it waited for the last time.
    """

    __slots__ = (
        "_asked",
        "_idle",
        "_loop",
        "_method",
        "_parse",
        "_read",
        "_seen",
        "_task",
        "_timer",
        "_validate",
        "_waits",
        "ended",
        "went_idle",
    )

    def __init__(self, layer: "ValidationLayer", call: Call, idle_seconds: float | None) -> None:
        self._method = call.method
        self._parse = call.method.parse
        self._validate = layer.validate
        self._read: Any = call.rpc.read
        self._idle = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._asked = self._seen = 0
        self._waits = False
        self.went_idle = self.ended = False
        self._timer = None if idle_seconds is None else self._loop.call_later(idle_seconds, self._look)

    def __aiter__(self) -> "RequestStream":
        return self

    async def __anext__(self) -> Message:
        self._asked += 1
        self._waits = True
        raw = await self._read()
        self._waits = False
        if raw is EOF:
            self.ended = True
            raise StopAsyncIteration
        try:
            message = self._parse(raw)
            self._validate(message)
        except (DecodeError, ValidationError) as error:
            raise refusal(self._method, error) from None
        return message

    def _look(self) -> None:
        """End the call if the handler has waited for one message from one look to the next."""
        if self._waits and self._asked == self._seen and self._task is not None:
            self.went_idle = True
            self._task.cancel()
            return
        self._seen = self._asked
        assert self._idle is not None
        self._timer = self._loop.call_later(self._idle, self._look)

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()


def _authorise(call: Call, request: Message) -> None:
    """Check what is asked by the RPC that takes this request, before its rules tell anything.  Raises ROLE_MISSING."""
    assert call.identity is not None
    call.permission = permissions.of_request(request.DESCRIPTOR)
    call.permission.check(call.identity)


def refusal(method: Method, error: DecodeError | ValidationError) -> Failure:
    """The failure for a request that does not decode or breaks its rules."""
    if isinstance(error, DecodeError):
        return Failure(Reason.BODY_NOT_DECODABLE, type=method.request_type)
    found = [Violation(field_path(item.proto.field), in_words(item)) for item in error.violations[:MAX_VIOLATIONS]]
    first = _sentence(found[0]) if found else str(error)
    count = len(error.violations)
    more = f" Of what is wrong with it this is the first of {count}." if count > 1 else ""
    return Failure(Reason.REQUEST_INVALID, violations=found, count=count, first=first, more=more)


def _sentence(violation: Violation) -> str:
    between = " " if violation.description.startswith("must ") else ": "
    return f"{violation.field}{between}{violation.description}" if violation.field else violation.description


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
