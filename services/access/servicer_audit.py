"""The RPC by which other services tell what they changed."""

from typing import Any

from trivium.access.v1 import audit_pb2, audit_pb2_grpc

from services.access import wire_audit as wire
from services.access.verbs import Verbs

AUDIT_SERVICE = "trivium.access.v1.AuditService"


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Serves the intake of events."""

    def __init__(self, verbs: Verbs) -> None:
        self._do = verbs

    async def RecordEvents(
        self, request: audit_pb2.RecordEventsRequest, context: Any
    ) -> audit_pb2.RecordEventsResponse:
        return wire.refusals(await self._do.changes.record_all([wire.change(event) for event in request.events]))
