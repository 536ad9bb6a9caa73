"""The record of who changed what: written with the change or not at all, chained, and verified by computing it again."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from services.access.chain import GENESIS, Link
from services.access.store import AuditRow, CounterRow, next_number, require_tenant
from services.chassis.context import current_or_none
from services.chassis.database import Database

_ROWS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change.  ``created_at`` is Unix time in microseconds."""

    sequence: int
    principal: str
    action: str
    resource: str
    created_at: int
    actor: str = ""
    method: str = ""
    hash: bytes = b""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are listed; what is empty or None leaves none out.  Times are Unix microseconds."""

    principal: str = ""
    action_prefix: str = ""
    resource_prefix: str = ""
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """What a log came to: the newest event that is whole with all before it, and where it is broken first, or 0."""

    events: int
    head_sequence: int
    head_hash: bytes
    broken_sequence: int = 0
    problem: str = ""


def note(session: Session, *, tenant: str, principal: str, action: str, resource: str, at: int) -> None:
    """Add an event to the tenant that the change concerns, in the transaction of the change."""
    # Whoever has the number has the tenant's turn, so that no event comes between this and the one before it.
    sequence = next_number(session, f"audit/{tenant}")
    before = session.get(AuditRow, (tenant, sequence - 1))
    asking = current_or_none()
    actor, method = (asking.actor, asking.method) if asking is not None else ("", "")
    link = Link(tenant, sequence, principal, actor, action, method, resource, at)
    session.add(
        AuditRow(
            tenant=tenant,
            sequence=sequence,
            principal=principal,
            action=action,
            resource=resource,
            created_at=at,
            actor=actor,
            method=method,
            hash=link.hash(GENESIS if before is None else before.hash),
        )
    )
    session.flush()


class Audit:
    """Reads the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, tenant: str, wanted: Filter, before: int | None, limit: int) -> list[AuditEvent]:
        """A tenant's events, newest first, below a number.  Raises TENANT_NOT_FOUND."""

        def transaction(session: Session) -> list[AuditEvent]:
            require_tenant(session, tenant)
            query = select(AuditRow).where(AuditRow.tenant == tenant, *_conditions(wanted))
            if before is not None:
                query = query.where(AuditRow.sequence < before)
            rows = session.scalars(query.order_by(AuditRow.sequence.desc()).limit(limit))
            return [
                AuditEvent(r.sequence, r.principal, r.action, r.resource, r.created_at, r.actor, r.method, r.hash)
                for r in rows
            ]

        return await self._database.read(transaction)

    async def verify(self, tenant: str, known_sequence: int, known_hash: bytes) -> Verified:
        """Compute a tenant's log again, and compare it with a hash that was noted before.  Raises TENANT_NOT_FOUND."""

        def transaction(session: Session) -> Verified:
            require_tenant(session, tenant)
            return _verified(session, tenant, known_sequence, known_hash)

        return await self._database.read(transaction)


def _conditions(wanted: Filter) -> Iterator[ColumnElement[bool]]:
    if wanted.principal:
        yield AuditRow.principal == wanted.principal
    if wanted.action_prefix:
        yield AuditRow.action.startswith(wanted.action_prefix, autoescape=True)
    if wanted.resource_prefix:
        yield AuditRow.resource.startswith(wanted.resource_prefix, autoescape=True)
    if wanted.since is not None:
        yield AuditRow.created_at >= wanted.since
    if wanted.until is not None:
        yield AuditRow.created_at < wanted.until


def _verified(session: Session, tenant: str, known_sequence: int, known_hash: bytes) -> Verified:
    counter = session.get(CounterRow, f"audit/{tenant}")
    last = 0 if counter is None else counter.value
    sequence, previous = 0, GENESIS
    for row in _rows(session, tenant):
        due = sequence + 1
        if row.sequence != due:
            return Verified(sequence, sequence, previous, due, f"event {due} is missing")
        link = Link(
            row.tenant, row.sequence, row.principal, row.actor, row.action, row.method, row.resource, row.created_at
        )
        if link.hash(previous) != row.hash:
            return Verified(sequence, sequence, previous, due, f"event {due} is not what was written")
        if due == known_sequence and row.hash != known_hash:
            return Verified(sequence, sequence, previous, due, f"event {due} had another hash before")
        sequence, previous = due, row.hash
    if sequence != max(last, known_sequence):
        return Verified(sequence, sequence, previous, sequence + 1, f"event {sequence + 1} is missing")
    return Verified(sequence, sequence, previous)


def _rows(session: Session, tenant: str) -> Iterator[AuditRow]:
    """A tenant's events, oldest first, some at a time."""
    after: int | None = None
    while True:
        query = select(AuditRow).where(AuditRow.tenant == tenant).order_by(AuditRow.sequence).limit(_ROWS_AT_ONCE)
        rows = list(session.scalars(query if after is None else query.where(AuditRow.sequence > after)))
        yield from rows
        if len(rows) < _ROWS_AT_ONCE:
            return
        after = rows[-1].sequence
        session.expunge_all()
