"""Failures to and from ``google.rpc.Status``: the only file that knows both.

Invariant: packed details stay under 4 KiB and name at most 20 violations.  Trailers
over about 12 KiB reach the client as RESOURCE_EXHAUSTED instead of the failure.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2 as details
from google.rpc import status_pb2

from services.chassis.catalogue import Code
from services.chassis.errors import Failure, Reason, Violation

DOMAIN = "trivium"
MAX_DETAILS_BYTES = 4096
MAX_VIOLATIONS = 20
_MAX_TEXT = 512
DETAILS_KEY = "grpc-status-details-bin"
CORRELATION_KEY = "x-correlation-id"
# What says that there is too much to do, by the names of the reasons.
_SHED = frozenset({Reason.OVERLOADED.name, Reason.TOO_BUSY_FOR_DEADLINE.name})
_NO_REPEATS = ("grpc-retry-pushback-ms", "-1")


def to_status(failure: Failure, *, correlation_id: str, subject: str = "") -> status_pb2.Status:
    """Pack a failure.  ``subject`` is the tenant, named by QuotaFailure."""
    status = status_pb2.Status(code=int(failure.code), message=_clip(failure.sentence))
    variables = {name: _clip(value) for name, value in failure.variables.items()}
    variables["correlation_id"] = correlation_id
    info = details.ErrorInfo(reason=failure.reason.name, domain=DOMAIN, metadata=variables)
    for detail in (info, *_particulars(failure, subject)):
        packed = PackedAny()
        packed.Pack(detail)
        status.details.append(packed)
    _shrink(status)
    return status


def _particulars(failure: Failure, subject: str) -> Iterable[Message]:
    if failure.retry_after_seconds is not None:
        retry = details.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(failure.retry_after_seconds * 1e9))
        yield retry
    violations = list(failure.violations)
    if failure.field is not None:
        violations.insert(0, Violation(failure.field, failure.sentence))
    if violations and failure.code in (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE):
        yield details.BadRequest(
            field_violations=[
                details.BadRequest.FieldViolation(field=_clip(item.field), description=_clip(item.description))
                for item in violations[:MAX_VIOLATIONS]
            ]
        )
    text = _clip(failure.sentence)
    if failure.code is Code.RESOURCE_EXHAUSTED:
        yield details.QuotaFailure(
            violations=[details.QuotaFailure.Violation(subject=f"tenants/{subject}", description=text)]
        )
    if failure.code is Code.FAILED_PRECONDITION:
        name = _clip(failure.variables.get("name", subject))
        violation = details.PreconditionFailure.Violation(type=failure.reason.name, subject=name, description=text)
        yield details.PreconditionFailure(violations=[violation])
    if failure.reason.value.resource:
        yield details.ResourceInfo(
            resource_type=failure.reason.value.resource,
            resource_name=_clip(failure.variables.get("name", "")),
            description=text,
        )


def _clip(text: str) -> str:
    """The text as the wire can carry it: not too long, and without half of a surrogate pair, which JSON can spell."""
    short = text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
    return short.encode(errors="replace").decode()


def _shrink(status: status_pb2.Status) -> None:
    """Drop detail from the end until it fits; what remains is still true."""
    while status.ByteSize() > MAX_DETAILS_BYTES:
        bad = next((item for item in status.details if item.Is(details.BadRequest.DESCRIPTOR)), None)
        request = details.BadRequest()
        if bad is not None and bad.Unpack(request) and len(request.field_violations) > 1:
            del request.field_violations[len(request.field_violations) // 2 :]
            bad.Pack(request)
        elif len(status.details) > 1:
            del status.details[-1]
        else:
            info = details.ErrorInfo()
            status.details[0].Unpack(info)
            longest = max(info.metadata, key=lambda name: len(info.metadata[name]))
            del info.metadata[longest]
            status.details[0].Pack(info)


def to_trailers(status: status_pb2.Status, correlation_id: str) -> tuple[tuple[str, str | bytes], ...]:
    """The trailing metadata that carries a status and its correlation id.

    To who is refused because there is too much to do it says that the caller's transport is not to repeat the call by itself:
    that would be more to do, and the refusal would come late (gRFC A6, "server pushback").
    """
    trailers = ((DETAILS_KEY, status.SerializeToString()), (CORRELATION_KEY, correlation_id))
    return (*trailers, _NO_REPEATS) if _is_shed(status) else trailers


def _is_shed(status: status_pb2.Status) -> bool:
    info = details.ErrorInfo()
    if status.code != Code.UNAVAILABLE or not status.details or not status.details[0].Unpack(info):
        return False
    return info.reason in _SHED


@dataclass(frozen=True, slots=True)
class PeerFailure:
    """What a peer answered, read back from its status; ``reason`` is empty when it was not one of ours."""

    code: Code
    message: str
    reason: str = ""
    correlation_id: str = ""
    retry_after_seconds: float | None = None
    variables: dict[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    status: status_pb2.Status | None = None


def from_rpc_error(error: grpc.RpcError) -> PeerFailure:
    """Read a peer's answer.  Never raises: what does not decode counts as absent."""
    code_object = error.code() if hasattr(error, "code") else None
    number = code_object.value[0] if code_object is not None else Code.UNKNOWN
    code = Code(number) if number in set(Code) else Code.UNKNOWN
    message = (error.details() if hasattr(error, "details") else "") or ""
    raw = _trailer(error)
    status = status_pb2.Status()
    try:
        status.ParseFromString(raw)
    except DecodeError:
        raw = b""
    if not raw:
        return PeerFailure(code=code, message=message)
    return _read(code, message, status)


def read(status: status_pb2.Status) -> PeerFailure:
    """Read a status that did not travel as an error: of a call inside this process."""
    code = Code(status.code) if status.code in set(Code) else Code.UNKNOWN
    return _read(code, status.message, status)


def _trailer(error: grpc.RpcError) -> bytes:
    trailers: Any = error.trailing_metadata() if hasattr(error, "trailing_metadata") else None
    for key, value in trailers or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return value
    return b""


def _read(code: Code, message: str, status: status_pb2.Status) -> PeerFailure:
    info, retry, bad = details.ErrorInfo(), details.RetryInfo(), details.BadRequest()
    for item in status.details:
        for candidate in (info, retry, bad):
            if item.Is(candidate.DESCRIPTOR):
                item.Unpack(candidate)
    ours = info.domain == DOMAIN
    delay = retry.retry_delay.ToNanoseconds() / 1e9 if retry.HasField("retry_delay") else None
    return PeerFailure(
        code=code,
        message=message,
        reason=info.reason if ours else "",
        correlation_id=info.metadata.get("correlation_id", "") if ours else "",
        retry_after_seconds=delay,
        variables=dict(info.metadata) if ours else {},
        violations=tuple(Violation(item.field, item.description) for item in bad.field_violations),
        status=status if ours else None,
    )
