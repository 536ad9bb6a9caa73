"""What a peer of ours refuses with, as a Failure of our own.

Invariant: a refusal that the caller can do something about keeps its reason; one of our own
credential, and what is no answer of ours at all, says that the peer cannot be reached.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from services.chassis.errors import Code, Failure, Reason
from services.chassis.status import PeerFailure, from_rpc_error

_RETRY_SECONDS = 1.0
# Attributes of a failure that travel beside its variables; the field is one of our request, not of our caller's.
_NOT_VARIABLES = frozenset({"field", "reason", "correlation_id", "retry_after_seconds", "violations"})


@contextmanager
def answers(service: str) -> Iterator[None]:
    """Turn what the peer ``service`` refuses with, inside the block, into a Failure."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _failure(service, from_rpc_error(error)) from error


def _failure(service: str, peer: PeerFailure) -> Failure:
    reason = Reason.__members__.get(peer.reason)
    if reason is not None and reason.value.code not in (Code.UNAUTHENTICATED, Code.INTERNAL):
        variables: dict[str, Any] = {
            name: value for name, value in peer.variables.items() if name not in _NOT_VARIABLES
        }
        return Failure(reason, retry_after_seconds=peer.retry_after_seconds, **variables)
    if peer.code is Code.DEADLINE_EXCEEDED:
        return Failure(Reason.DEADLINE_EXCEEDED)
    if peer.code is Code.CANCELLED:
        return Failure(Reason.CALL_CANCELLED)
    return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_SECONDS, service=service)
