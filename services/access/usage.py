"""What requests used, and the receipts that let an answer be computed again.

Invariant: one record a request id inside a tenant; the first one stays, and what it used
is added to its month in the same transaction.  A repeat is the same record given again, and where
nobody waits for the answer the same answer to the same caller: another one is refused under the id,
so that whoever made it can record it under one of its own.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.access.allowances import Spent, spend
from services.access.quotas import OWN, Quota, quota_of
from services.access.store import TenantRow, UsageRow, in_turn, next_numbers
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason

# Principal, method, project and receipt.
_Kept = tuple[str, str, str, bytes]


@dataclass(frozen=True, slots=True)
class Usage:
    """What one request used.  ``receipt`` is opaque here; ``created_at`` is Unix microseconds, 0 before it is kept.

    ``model`` is the one that answered, without alias or version, and ``asked`` the one that the request named; that is
    known until it is kept, as is ``unattended``: a service asked, and asks again after a crash.  ``micros`` is what it
    cost.
    """

    tenant: str
    request_id: str
    principal: str
    method: str
    receipt: bytes
    prompt_tokens: int
    completion_tokens: int
    created_at: int = 0
    sequence: int = 0
    model: str = ""
    project: str = ""
    micros: int = 0
    asked: str = ""
    unattended: bool = False


def shown(row: UsageRow) -> Usage:
    """The domain's view of a row."""
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
        model=row.model,
        project=row.project,
        micros=row.micros,
    )


class UsageLedger:
    """Keeps usage records by request id.  ``answer_of`` gives what of a receipt says which answer it is of."""

    def __init__(self, database: Database, now: Callable[[], int], answer_of: Callable[[bytes], bytes]) -> None:
        self._database = database
        self._now = now
        self._answer_of = answer_of

    async def record(self, usage: Usage) -> None:
        """Keep a record, durably.  A repeat changes nothing.

        Raises REQUEST_ID_REUSED when the id came with another record, TENANT_NOT_FOUND.
        """
        (refusal,) = await self.record_all([usage])
        if refusal is not None:
            raise refusal

    async def record_all(self, records: Sequence[Usage | Failure]) -> list[Failure | None]:
        """Keep many records in one transaction; why each was not kept, None where it was, in their order.

        What is no record, but why there is none, stays so and holds up no other.
        """

        def transaction(session: Session) -> list[Failure | None]:
            by_tenant: dict[str, list[tuple[int, Usage]]] = defaultdict(list)
            refusals: list[Failure | None] = [None] * len(records)
            for place, usage in enumerate(records):
                if isinstance(usage, Failure):
                    refusals[place] = usage
                else:
                    by_tenant[usage.tenant].append((place, usage))
            # One order everywhere, or two transactions would wait for each other.
            for tenant in sorted(by_tenant):
                in_turn(session, tenant)
                for place, refusal in self._record(session, tenant, by_tenant[tenant]):
                    refusals[place] = refusal
            return refusals

        return await self._database.write(transaction)

    def _record(
        self, session: Session, tenant: str, placed: Sequence[tuple[int, Usage]]
    ) -> list[tuple[int, Failure | None]]:
        if session.get(TenantRow, tenant) is None:
            return [(place, Failure(Reason.TENANT_NOT_FOUND, name=tenant)) for place, _ in placed]
        ids = [usage.request_id for _, usage in placed]
        same = (UsageRow.tenant == tenant, UsageRow.request_id.in_(ids))
        columns = (UsageRow.request_id, UsageRow.principal, UsageRow.method, UsageRow.project, UsageRow.receipt)
        kept: dict[str, _Kept] = {
            row.request_id: (row.principal, row.method, row.project, row.receipt)
            for row in session.execute(select(*columns).where(*same))
        }
        refusals: list[tuple[int, Failure | None]] = []
        new: list[Usage] = []
        for place, usage in placed:
            first = kept.get(usage.request_id)
            found = (usage.principal, usage.method, usage.project, usage.receipt)
            if first is None:
                kept[usage.request_id] = found
                new.append(usage)
            elif first != found and not (usage.unattended and self._same_answer(first, found)):
                reused = Failure(Reason.REQUEST_ID_REUSED, field="record.request_id", request_id=usage.request_id)
                refusals.append((place, reused))
        if new:
            self._add(session, tenant, new)
        return refusals

    def _same_answer(self, first: _Kept, found: _Kept) -> bool:
        return first[:3] == found[:3] and self._answer_of(first[3]) == self._answer_of(found[3])

    def _add(self, session: Session, tenant: str, new: Sequence[Usage]) -> None:
        quota, at = quota_of(session, tenant), self._now()
        first = next_numbers(session, f"usage/{tenant}", len(new))
        sums: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for sequence, usage in enumerate(new, first):
            row = _row(usage, quota, sequence, at)
            session.add(row)
            for scope in _scopes(row, usage.asked):
                sums[scope][0] += row.prompt_tokens + row.completion_tokens
                sums[scope][1] += row.micros
        spend(session, tenant, at, [Spent(scope, tokens, micros) for scope, (tokens, micros) in sums.items()])

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
            return [shown(row) for row in session.scalars(rows.order_by(UsageRow.sequence.desc()).limit(limit))]

        return await self._database.read(query)


def _scopes(row: UsageRow, asked: str) -> list[str]:
    models = dict.fromkeys((row.model, asked or row.model))
    scopes = [OWN, f"key:{row.principal}", *(f"model:{model}" for model in models)]
    return [*scopes, f"project:{row.project}"] if row.project else scopes


def _row(usage: Usage, quota: Quota, sequence: int, at: int) -> UsageRow:
    return UsageRow(
        tenant=usage.tenant,
        request_id=usage.request_id,
        sequence=sequence,
        principal=usage.principal,
        method=usage.method,
        receipt=usage.receipt,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        created_at=at,
        model=usage.model,
        project=usage.project,
        micros=quota.cost(usage.model, usage.prompt_tokens, usage.completion_tokens),
    )
