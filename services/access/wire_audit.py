"""The audit log between protobuf and the domain."""

from collections.abc import Iterable

from trivium.access.v1 import access_pb2, audit_pb2

from services.access.audit import AuditEvent, Filter, Verified
from services.access.changes import Change
from services.access.wire import time
from services.chassis.errors import Failure


def change(message: audit_pb2.Change) -> Change:
    """What a service says that it changed."""
    return Change(
        event_id=message.event_id,
        tenant=message.tenant,
        principal=message.principal,
        actor=message.actor,
        action=message.action,
        method=message.method,
        resource=message.resource,
        outcome=message.outcome,
        request_id=message.request_id,
        at=message.time.ToMicroseconds(),
    )


def refusals(failures: Iterable[Failure | None]) -> audit_pb2.RecordEventsResponse:
    """Which events were kept."""
    reasons = ["" if failure is None else failure.reason.name for failure in failures]
    return audit_pb2.RecordEventsResponse(refusals=reasons)


def event(value: AuditEvent) -> access_pb2.AuditEvent:
    """An audit event as the API shows it."""
    return access_pb2.AuditEvent(
        sequence=value.sequence,
        principal=value.principal,
        action=value.action,
        resource=value.resource,
        create_time=time(value.created_at),
        actor=value.actor,
        method=value.method,
        hash=value.hash,
        outcome=value.outcome,
        request_id=value.request_id,
        event_id=value.event_id,
    )


def wanted(request: access_pb2.ListAuditEventsRequest) -> Filter:
    """Which events are wanted."""
    return Filter(
        principal=request.principal,
        action_prefix=request.action_prefix,
        resource_prefix=request.resource_prefix,
        since=request.start_time.ToMicroseconds() if request.HasField("start_time") else None,
        until=request.end_time.ToMicroseconds() if request.HasField("end_time") else None,
    )


def verified(value: Verified) -> access_pb2.VerifyAuditResponse:
    """What a log came to."""
    return access_pb2.VerifyAuditResponse(
        intact=not value.broken_sequence,
        events=value.events,
        head_sequence=value.head_sequence,
        head_hash=value.head_hash,
        broken_sequence=value.broken_sequence,
        problem=value.problem,
    )
