"""The record of who changed what: chained, and verified by computing it again.

A change of access's own is written with the change or not at all; what other services changed they tell
(:mod:`services.access.changes`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from services.access.chain import GENESIS, Link
from services.access.store import AuditRow, CounterRow, next_numbers, require_tenant, take_number_turn
from services.chassis.context import current_or_none
from services.chassis.database import Database

# The log of what services changed for no tenant; no tenant's name has an underscore.
SYSTEM = "_system"
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
    outcome: str = ""
    request_id: str = ""
    event_id: str = ""


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
    asking = current_or_none()
    actor, method = (asking.actor, asking.method) if asking is not None else ("", "")
    append(session, tenant, [Link(tenant, 0, principal, actor, action, method, resource, at)])


def take_log_turn(session: Session, tenant: str) -> None:
    """Have nobody else add to a tenant's log until the transaction ends."""
    take_number_turn(session, _counter(tenant))


def append(session: Session, tenant: str, links: Sequence[Link]) -> None:
    """Add events behind the newest of a tenant's log; their sequences are given here."""
    if not links:
        return
    # Whoever has the numbers has the tenant's turn, so that no event comes between these and the one before them.
    first = next_numbers(session, _counter(tenant), len(links))
    before = session.get(AuditRow, (tenant, first - 1))
    previous = GENESIS if before is None else before.hash
    for sequence, link in enumerate(links, first):
        numbered = replace(link, sequence=sequence)
        previous = numbered.hash(previous)
        session.add(_row(numbered, previous))
    session.flush()


def _counter(tenant: str) -> str:
    return f"audit/{tenant}"


def _row(link: Link, digest: bytes) -> AuditRow:
    return AuditRow(
        tenant=link.tenant,
        sequence=link.sequence,
        principal=link.principal,
        action=link.action,
        resource=link.resource,
        created_at=link.at,
        actor=link.actor,
        method=link.method,
        hash=digest,
        event_id=link.event_id or None,
        outcome=link.outcome,
        request_id=link.request_id,
    )


class Audit:
    """Reads the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, tenant: str, wanted: Filter, before: int | None, limit: int) -> list[AuditEvent]:
        """A tenant's events, newest first, below a number.  Raises TENANT_NOT_FOUND."""

        def transaction(session: Session) -> list[AuditEvent]:
            _require_log(session, tenant)
            query = select(AuditRow).where(AuditRow.tenant == tenant, *_conditions(wanted))
            if before is not None:
                query = query.where(AuditRow.sequence < before)
            rows = session.scalars(query.order_by(AuditRow.sequence.desc()).limit(limit))
            return [_shown(row) for row in rows]

        return await self._database.read(transaction)

    async def verify(self, tenant: str, known_sequence: int, known_hash: bytes) -> Verified:
        """Compute a tenant's log again, and compare it with a hash that was noted before.  Raises TENANT_NOT_FOUND."""

        def transaction(session: Session) -> Verified:
            _require_log(session, tenant)
            return _verified(session, tenant, known_sequence, known_hash)

        return await self._database.read(transaction)


def _require_log(session: Session, tenant: str) -> None:
    if tenant != SYSTEM:
        require_tenant(session, tenant)


def _shown(row: AuditRow) -> AuditEvent:
    return AuditEvent(
        row.sequence,
        row.principal,
        row.action,
        row.resource,
        row.created_at,
        row.actor,
        row.method,
        row.hash,
        row.outcome,
        row.request_id,
        row.event_id or "",
    )


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
    counter = session.get(CounterRow, _counter(tenant))
    last = 0 if counter is None else counter.value
    sequence, previous = 0, GENESIS
    for row in _rows(session, tenant):
        due = sequence + 1
        if row.sequence != due:
            return Verified(sequence, sequence, previous, due, f"event {due} is missing")
        if _link(row).hash(previous) != row.hash:
            return Verified(sequence, sequence, previous, due, f"event {due} is not what was written")
        if due == known_sequence and row.hash != known_hash:
            return Verified(sequence, sequence, previous, due, f"event {due} had another hash before")
        sequence, previous = due, row.hash
    if sequence != max(last, known_sequence):
        return Verified(sequence, sequence, previous, sequence + 1, f"event {sequence + 1} is missing")
    return Verified(sequence, sequence, previous)


def _link(row: AuditRow) -> Link:
    return Link(
        row.tenant,
        row.sequence,
        row.principal,
        row.actor,
        row.action,
        row.method,
        row.resource,
        row.created_at,
        row.outcome,
        row.request_id,
        row.event_id or "",
    )


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
