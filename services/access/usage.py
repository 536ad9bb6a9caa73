"""What requests used, and the receipts that let an answer be computed again.

Invariant: one record a request id inside a tenant; the first one stays.
"""

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.access.store import UsageRow, in_turn, next_number
from services.access.tenants import require_tenant
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason


@dataclass(frozen=True, slots=True)
class Usage:
    """What one request used.  ``receipt`` is opaque here; ``created_at`` is Unix microseconds, 0 before it is kept."""

    tenant: str
    request_id: str
    principal: str
    method: str
    receipt: bytes
    prompt_tokens: int
    completion_tokens: int
    created_at: int = 0
    sequence: int = 0


def _shown(row: UsageRow) -> Usage:
    return Usage(
        tenant=row.tenant,
        request_id=row.request_id,
        principal=row.principal,
        method=row.method,
        receipt=row.receipt,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        created_at=row.created_at,
        sequence=row.sequence,
    )


class UsageLedger:
    """Keeps usage records by request id."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def record(self, usage: Usage) -> None:
        """Keep a record, durably.  A repeat changes nothing.

        Raises REQUEST_ID_REUSED when the id came with another receipt, TENANT_NOT_FOUND.
        """

        def transaction(session: Session) -> None:
            in_turn(session, usage.tenant)
            require_tenant(session, usage.tenant)
            kept = session.get(UsageRow, (usage.tenant, usage.request_id))
            if kept is not None:
                if kept.receipt != usage.receipt:
                    raise Failure(Reason.REQUEST_ID_REUSED, field="record.request_id", request_id=usage.request_id)
                return
            session.add(
                UsageRow(
                    tenant=usage.tenant,
                    request_id=usage.request_id,
                    sequence=next_number(session, f"usage/{usage.tenant}"),
                    principal=usage.principal,
                    method=usage.method,
                    receipt=usage.receipt,
                    prompt_tokens=usage.prompt_tokens,
                    completion_tokens=usage.completion_tokens,
                    created_at=self._now(),
                )
            )

        await self._database.write(transaction)

    async def receipt(self, tenant: str, request_id: str) -> bytes:
        """The receipt of one of the tenant's requests.  Raises RECEIPT_NOT_FOUND."""

        def query(session: Session) -> bytes:
            row = session.get(UsageRow, (tenant, request_id))
            if row is None:
                raise Failure(Reason.RECEIPT_NOT_FOUND, name=request_id)
            return row.receipt

        return await self._database.read(query)

    async def page(self, tenant: str, before: int | None, limit: int) -> list[Usage]:
        """A tenant's records, newest first, below a number."""

        def query(session: Session) -> list[Usage]:
            rows = select(UsageRow).where(UsageRow.tenant == tenant)
            if before is not None:
                rows = rows.where(UsageRow.sequence < before)
            return [_shown(row) for row in session.scalars(rows.order_by(UsageRow.sequence.desc()).limit(limit))]

        return await self._database.read(query)
