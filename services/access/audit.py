"""The record of who changed what: written with the change or not at all."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.access.store import AuditRow, next_number
from services.chassis.database import Database


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One change.  ``created_at`` is Unix time in microseconds."""

    sequence: int
    principal: str
    action: str
    resource: str
    created_at: int


def note(session: Session, *, tenant: str, principal: str, action: str, resource: str, at: int) -> None:
    """Add an event to the tenant that the change concerns, in the transaction of the change."""
    session.add(
        AuditRow(
            tenant=tenant,
            sequence=next_number(session, f"audit/{tenant}"),
            principal=principal,
            action=action,
            resource=resource,
            created_at=at,
        )
    )


class Audit:
    """Reads the record."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, tenant: str, before: int | None, limit: int) -> list[AuditEvent]:
        """A tenant's events, newest first, below a number."""

        def transaction(session: Session) -> list[AuditEvent]:
            query = select(AuditRow).where(AuditRow.tenant == tenant)
            if before is not None:
                query = query.where(AuditRow.sequence < before)
            rows = session.scalars(query.order_by(AuditRow.sequence.desc()).limit(limit))
            return [AuditEvent(r.sequence, r.principal, r.action, r.resource, r.created_at) for r in rows]

        return await self._database.read(transaction)
