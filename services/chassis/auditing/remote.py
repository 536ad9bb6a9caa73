"""The audit log at access, over its stub."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

import grpc
from trivium.access.v1 import audit_pb2, audit_pb2_grpc

from services.chassis.errors import Code, Failure, Reason
from services.chassis.status import from_rpc_error


class RemoteEventLog:
    """Implements :class:`services.chassis.auditing.trail.EventLog`.  ``as_service`` opens work of the service itself."""

    def __init__(
        self, channel: grpc.aio.Channel, as_service: Callable[[], AbstractAsyncContextManager[object]]
    ) -> None:
        self._stub: audit_pb2_grpc.AuditServiceAsyncStub = audit_pb2_grpc.AuditServiceStub(channel)
        self._as_service = as_service

    async def record(self, events: Sequence[bytes]) -> list[str]:
        """As the Protocol says."""
        request = audit_pb2.RecordEventsRequest(events=map(audit_pb2.Change.FromString, events))
        try:
            async with self._as_service():
                return list((await self._stub.RecordEvents(request)).refusals)
        except grpc.RpcError as error:
            peer = from_rpc_error(error)
            if peer.code is Code.INVALID_ARGUMENT:
                raise Failure(Reason.FIELD_INVALID, field="events", problem=peer.message) from error
            raise Failure(Reason.PEER_UNAVAILABLE, service="access") from error
