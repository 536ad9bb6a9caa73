"""What a call can raise: one root, one class for each thing that a caller can do about it.

Every error carries the server's `reason` (stable, upper case), its `variables`, the
violated fields and the `request_id` to quote when reporting it.
"""

from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One field of a request that broke a rule, and how."""

    field: str
    description: str


class TriviumError(Exception):
    """A call that failed.  `retry_after_seconds` is the server's hint, None where it gave none."""

    def __init__(
        self,
        message: str,
        *,
        reason: str = "",
        request_id: str = "",
        variables: dict[str, str] | None = None,
        violations: tuple[FieldViolation, ...] = (),
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.request_id = request_id
        self.variables = variables or {}
        self.violations = violations
        self.retry_after_seconds = retry_after_seconds


class InvalidRequestError(TriviumError):
    """The request itself is wrong; `violations` names the fields."""


class NotFoundError(TriviumError):
    """What was named does not exist for this tenant."""


class ConflictError(TriviumError):
    """It exists already, or somebody changed it first."""


class PreconditionError(TriviumError):
    """The state of things does not allow it now."""


class AuthenticationError(TriviumError):
    """The key is missing, unknown, expired or revoked."""


class PermissionDeniedError(TriviumError):
    """The key's roles do not allow it."""


class OverloadedError(TriviumError):
    """A quota or a bound is reached; wait `retry_after_seconds` where it is given."""


class UnavailableError(TriviumError):
    """A service is down, starting or stopping; retrying later may work."""


class RequestTimeoutError(TriviumError):
    """The deadline passed before the answer came."""


class NotYetAvailableError(TriviumError):
    """The contract has it, this release does not."""


class ServerError(TriviumError):
    """Something failed inside Trivium; report it with `request_id`."""


_CLASSES: dict[grpc.StatusCode, type[TriviumError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.UNAUTHENTICATED: AuthenticationError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: RequestTimeoutError,
    grpc.StatusCode.UNIMPLEMENTED: NotYetAvailableError,
}


def from_rpc(error: grpc.aio.AioRpcError, address: str) -> TriviumError:
    """Return the typed error for a failed call; `address` is named when nobody answered there."""
    details = _details(error)
    message = error.details() or error.code().name
    if error.code() is grpc.StatusCode.UNAVAILABLE and not details.reason:
        message = (
            f"nothing answers at {address}. Is the suite up? (trivium status, trivium up) "
            "A running suite restarts a service within seconds: then try again"
        )
    kind = _CLASSES.get(error.code(), ServerError)
    return kind(
        message,
        reason=details.reason or error.code().name,
        request_id=details.request_id,
        variables=details.variables,
        violations=details.violations,
        retry_after_seconds=details.retry_after_seconds,
    )


@dataclass(frozen=True, slots=True)
class _Details:
    reason: str = ""
    request_id: str = ""
    variables: dict[str, str] | None = None
    violations: tuple[FieldViolation, ...] = ()
    retry_after_seconds: float | None = None


def _details(error: grpc.aio.AioRpcError) -> _Details:
    # Metadata is a sequence of pairs here, and as a mapping it knows keys alone.
    packed = next((value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"), None)
    if not isinstance(packed, bytes):
        return _Details()
    try:
        status = status_pb2.Status.FromString(packed)
    except DecodeError:
        return _Details()
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    retry_after_seconds = None
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
        if detail.Unpack(retry):
            retry_after_seconds = retry.retry_delay.ToNanoseconds() / 1e9
    return _Details(
        reason=info.reason,
        request_id=info.metadata.get("correlation_id", ""),
        variables=dict(info.metadata),
        violations=tuple(FieldViolation(item.field, item.description) for item in bad.field_violations),
        retry_after_seconds=retry_after_seconds,
    )
