"""The audit log: who changed what, and whether anybody changed that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING

from trivium.access.v1 import access_pb2 as pb
from trivium.access.v1.access_pb2_grpc import AccessServiceStub

from trivium_client import nouns, wire
from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.access.v1.access_pb2_grpc import AccessServiceAsyncStub


class Audit:
    """The audit log of the tenant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> AccessServiceAsyncStub:
        stub: AccessServiceAsyncStub = self._transport.stub("access", AccessServiceStub)
        return stub

    async def list(
        self,
        *,
        principal: str = "",
        action: str = "",
        resource: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        tenant: str = "",
    ) -> AsyncIterator[nouns.AuditEvent]:
        """Changes, newest first.  `action` and `resource` are beginnings; `end` itself is left out.

        Only an admin may name another `tenant`, or `_system`: what services changed for no tenant.
        """
        request = pb.ListAuditEventsRequest(
            principal=principal, action_prefix=action, resource_prefix=resource, tenant=tenant
        )
        if start is not None:
            request.start_time.FromDatetime(start)
        if end is not None:
            request.end_time.FromDatetime(end)
        while True:
            page = await self._transport.call("access", self._stub().ListAuditEvents, request)
            for item in page.events:
                yield wire.audit_event(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def verify(self, *, known_sequence: int = 0, known_hash: str = "", tenant: str = "") -> nouns.AuditVerdict:
        """Compute the log again; with a hash (hexadecimal) noted before, say whether it is that log still."""
        request = pb.VerifyAuditRequest(
            tenant=tenant, known_sequence=known_sequence, known_hash=bytes.fromhex(known_hash)
        )
        answer = await self._transport.call("access", self._stub().VerifyAudit, request)
        return nouns.AuditVerdict(
            intact=answer.intact,
            events=answer.events,
            head_sequence=answer.head_sequence,
            head_hash=answer.head_hash.hex(),
            broken_sequence=answer.broken_sequence,
            problem=answer.problem,
        )
