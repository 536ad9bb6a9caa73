"""A peer's answer in the words of the catalogue."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import grpc

from services.chassis.errors import Code, Failure, Reason
from services.chassis.status import PeerFailure, from_rpc_error

_RETRY_SECONDS = 1.0
# Attributes of a failure that travel beside its variables.
_NOT_VARIABLES = {"correlation_id", "field", "reason", "retry_after_seconds", "violations"}


@contextmanager
def of(service: str, fields: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn what the peer ``service`` refuses with, inside the block, into a Failure that says so.

    ``fields`` says what the peer's request fields are called in our own.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise translated(service, from_rpc_error(error), fields or {}) from error


def translated(service: str, peer: PeerFailure, fields: Mapping[str, str]) -> Failure:
    """The failure that a peer's answer is to our own caller.

    What the peer says of the caller's request passes on as it is.  What it says of us
    (our credential, our bytes) and its own faults are ours to answer for: INTERNAL.
    """
    reason = Reason.__members__.get(peer.reason)
    if reason is not None and reason.value.code is not Code.UNAUTHENTICATED:
        variables = {name: value for name, value in peer.variables.items() if name not in _NOT_VARIABLES}
        if reason is Reason.INTERNAL:
            variables["correlation_id"] = peer.correlation_id
        # The named field comes back as the first violation; only the others are ours to pass.
        named = peer.variables.get("field")
        violations = [replace(item, field=fields.get(item.field, item.field)) for item in peer.violations]
        return Failure(
            reason,
            field=fields.get(named, named) if named else None,
            violations=violations[1:] if named else violations,
            retry_after_seconds=peer.retry_after_seconds,
            **variables,
        )
    if peer.code is Code.UNAVAILABLE:
        return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_SECONDS, service=service)
    if peer.code is Code.DEADLINE_EXCEEDED:
        return Failure(Reason.DEADLINE_EXCEEDED)
    if peer.code is Code.CANCELLED:
        return Failure(Reason.CALL_CANCELLED)
    if peer.code is Code.UNIMPLEMENTED:
        return Failure(Reason.NOT_YET_AVAILABLE, what=f"the service {service} that runs here does not know this call")
    return Failure(Reason.INTERNAL, correlation_id="", service=service, peer=f"{peer.code.name} {peer.reason}")
