"""Tenants: created and disabled by an admin, never renamed, never deleted.

Invariant: a tenant by whose keys services work is not disabled, since that nobody could take back.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from services.access import audit
from services.access.store import KeyRow, TenantRow, in_turn, require_tenant
from services.chassis.context import RequestContext, Role
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant.  ``created_at`` is Unix time in microseconds."""

    tenant: str
    display_name: str
    created_at: int
    disabled: bool = False


def shown(row: TenantRow) -> Tenant:
    """The domain's view of a row."""
    return Tenant(row.tenant, row.display_name, row.created_at, row.disabled_at is not None)


def tenant_asked_for(asking: RequestContext, named: str) -> str:
    """The tenant that a request means: its caller's own when it names none.

    Only admin may name another; to anybody else another tenant does not exist.  Raises TENANT_NOT_FOUND.
    """
    if not named or named == asking.tenant_id:
        return asking.tenant_id
    if not asking.has(Role.ADMIN):
        raise Failure(Reason.TENANT_NOT_FOUND, name=named)
    return named


class Tenants:
    """The verbs on tenants."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def create(self, asking: RequestContext, tenant: str, display_name: str, key: IdempotencyKey) -> Tenant:
        """Create a tenant.  Raises TENANT_EXISTS."""

        def effect(session: Session) -> str:
            in_turn(session, tenant)
            if session.get(TenantRow, tenant) is not None:
                raise Failure(Reason.TENANT_EXISTS, name=tenant)
            return json.dumps(asdict(self.add(session, tenant, display_name, asking.principal_id)))

        return await self._database.write(
            lambda session: Tenant(**json.loads(once(session, key, lambda: effect(session))))
        )

    def add(self, session: Session, tenant: str, display_name: str, principal: str) -> Tenant:
        """Add a tenant to the open transaction."""
        at = self._now()
        row = TenantRow(tenant=tenant, display_name=display_name or tenant, created_at=at, disabled_at=None)
        session.add(row)
        session.flush()
        audit.note(
            session, tenant=tenant, principal=principal, action="tenant.created", resource=f"tenants/{tenant}", at=at
        )
        return shown(row)

    async def get(self, tenant: str) -> Tenant:
        """One tenant.  Raises TENANT_NOT_FOUND."""
        return await self._database.read(lambda session: shown(require_tenant(session, tenant)))

    async def page(self, after: str, limit: int) -> list[Tenant]:
        """Tenants by id, after one."""

        def transaction(session: Session) -> list[Tenant]:
            query = select(TenantRow).where(TenantRow.tenant > after).order_by(TenantRow.tenant).limit(limit)
            return [shown(row) for row in session.scalars(query)]

        return await self._database.read(transaction)

    async def disable(self, asking: RequestContext, tenant: str) -> Tenant:
        """Disable a tenant; repeating it changes nothing.  Raises TENANT_NOT_FOUND, TENANT_IN_USE."""

        def transaction(session: Session) -> Tenant:
            in_turn(session, tenant)
            row = require_tenant(session, tenant)
            if row.disabled_at is None:
                self._require_no_service(session, tenant)
                row.disabled_at = self._now()
                audit.note(
                    session,
                    tenant=tenant,
                    principal=asking.principal_id,
                    action="tenant.disabled",
                    resource=f"tenants/{tenant}",
                    at=row.disabled_at,
                )
            return shown(row)

        return await self._database.write(transaction)

    def _require_no_service(self, session: Session, tenant: str) -> None:
        """Raise TENANT_IN_USE while a key with role service works in the tenant."""
        works = select(func.count()).where(
            KeyRow.tenant == tenant,
            KeyRow.roles.contains(Role.SERVICE.value),
            KeyRow.revoked_at.is_(None),
            or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > self._now()),
        )
        keys = session.scalar(works)
        if keys:
            raise Failure(Reason.TENANT_IN_USE, name=tenant, keys=keys)
