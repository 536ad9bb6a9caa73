"""What other services changed, added to the audit logs of the tenants whose state it is.

Invariant: an event is in its tenant's log once, however often it is told; the first one stays.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.access.audit import SYSTEM, append, take_log_turn
from services.access.chain import Link
from services.access.store import AuditRow, TenantRow
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Change:
    """A change that another service made.  ``tenant`` is empty for what concerns none; ``at`` is Unix microseconds."""

    event_id: str
    tenant: str
    principal: str
    actor: str
    action: str
    method: str
    resource: str
    outcome: str
    request_id: str
    at: int


class Changes:
    """Takes the events of other services."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record_all(self, changes: Sequence[Change]) -> list[Failure | None]:
        """Keep many events in one transaction; why each was not kept, None where it was, in their order."""

        def transaction(session: Session) -> list[Failure | None]:
            by_tenant: dict[str, list[int]] = defaultdict(list)
            for place, change in enumerate(changes):
                by_tenant[change.tenant].append(place)
            refusals: list[Failure | None] = [None] * len(changes)
            # One order everywhere, or two transactions would wait for each other.
            for tenant in sorted(by_tenant):
                if tenant and session.get(TenantRow, tenant) is None:
                    for place in by_tenant[tenant]:
                        refusals[place] = Failure(Reason.TENANT_NOT_FOUND, name=tenant)
                    continue
                _add(session, tenant or SYSTEM, [changes[place] for place in by_tenant[tenant]])
            return refusals

        return await self._database.write(transaction)


def _add(session: Session, tenant: str, changes: Sequence[Change]) -> None:
    take_log_turn(session, tenant)
    ids = {change.event_id for change in changes}
    kept = set(session.scalars(select(AuditRow.event_id).where(AuditRow.tenant == tenant, AuditRow.event_id.in_(ids))))
    new: dict[str, Change] = {}
    for change in changes:
        if change.event_id not in kept:
            new.setdefault(change.event_id, change)
    append(session, tenant, [_link(tenant, change) for change in new.values()])


def _link(tenant: str, change: Change) -> Link:
    return Link(
        tenant,
        0,
        change.principal,
        change.actor,
        change.action,
        change.method,
        change.resource,
        change.at,
        change.outcome,
        change.request_id,
        change.event_id,
    )
