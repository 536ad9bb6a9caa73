"""The verbs of batches, each for one tenant: what a caller may ask.  Running them is :mod:`services.files.batches.runner`'s."""

import json
from collections.abc import Callable

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.files.batches.batch import UNENDED, Batch, Creator, Order, State, shown
from services.files.files import Files, Purpose
from services.files.store_batches import BatchRow

MOST_INPUT_BYTES = 200 * 1024**2


class Batches:
    """Creates, shows and cancels; ``wake`` tells the runner that there is something to do."""

    def __init__(
        self,
        database: Database,
        files: Files,
        most_unended: int,
        now: Callable[[], float],
        new_id: Callable[[], str],
        wake: Callable[[], None],
    ) -> None:
        self._database = database
        self._files = files
        self._most_unended = most_unended
        self._now = now
        self._new_id = new_id
        self._wake = wake

    async def create(self, tenant: str, creator: Creator, order: Order, key: IdempotencyKey) -> Batch:
        """Begin a batch that asks as its creator may.  Raises FILE_NOT_FOUND, FIELD_INVALID, BATCHES_EXHAUSTED, REQUEST_ID_REUSED."""
        batch = await self._database.write(
            lambda session: once(session, key, lambda: self._create(session, tenant, creator, order))
        )
        self._wake()
        return await self.get(tenant, batch)

    def _create(self, session: Session, tenant: str, creator: Creator, order: Order) -> str:
        file = self._files.find(session, tenant, order.input_file)
        if file.purpose is not Purpose.BATCH:
            problem = f"{file.file} is for {file.purpose}; upload the requests for batch"
            raise Failure(Reason.FIELD_INVALID, field="input_file", problem=problem)
        if file.size_bytes > MOST_INPUT_BYTES:
            problem = f"{file.file} has {file.size_bytes} bytes, over {MOST_INPUT_BYTES}; split it"
            raise Failure(Reason.FIELD_INVALID, field="input_file", problem=problem)
        unended = select(func.count()).where(BatchRow.tenant == tenant, BatchRow.state.in_(UNENDED))
        if session.scalars(unended).one() >= self._most_unended:
            raise Failure(Reason.BATCHES_EXHAUSTED, limit=self._most_unended)
        row = BatchRow(
            tenant=tenant,
            batch=f"batch_{self._new_id().replace('-', '')}",
            principal=creator.principal,
            roles=",".join(sorted(creator.rights.roles)),
            scopes=",".join(sorted(creator.rights.scopes)),
            endpoint=order.endpoint,
            input_file=file.file,
            input_sha256=file.sha256,
            output_file="",
            error_file="",
            state=State.VALIDATING,
            ending="",
            window_seconds=order.window_seconds,
            output_seconds=order.output_seconds,
            details=json.dumps(dict(order.metadata)),
            problems="[]",
            model="",
            total=0,
            completed=0,
            failed=0,
            prompt_tokens=0,
            cached_tokens=0,
            completion_tokens=0,
            created_at=self._now(),
            holder="",
            run="",
            leased_until=0.0,
        )
        session.add(row)
        session.flush()
        return row.batch

    async def get(self, tenant: str, batch: str) -> Batch:
        """One batch.  Raises BATCH_NOT_FOUND."""
        return await self._database.read(lambda session: shown(_row(session, tenant, batch)))

    async def page(self, tenant: str, after: str, limit: int) -> list[Batch]:
        """A tenant's batches, newest first, behind one of them; empty begins."""

        def query(session: Session) -> list[Batch]:
            rows = select(BatchRow).where(BatchRow.tenant == tenant)
            if after:
                rows = rows.where(BatchRow.batch < after)
            return [shown(row) for row in session.scalars(rows.order_by(BatchRow.batch.desc()).limit(limit))]

        return await self._database.read(query)

    async def cancel(self, tenant: str, batch: str) -> Batch:
        """End it early.  Raises BATCH_NOT_FOUND, BATCH_ENDED."""

        def change(session: Session) -> Batch:
            row = _row(session, tenant, batch)
            if row.state in (State.VALIDATING, State.IN_PROGRESS):
                row.state, row.cancelled_at = State.CANCELLING, self._now()
            elif row.state not in (State.CANCELLING, State.CANCELLED):
                raise Failure(Reason.BATCH_ENDED, name=batch, state=row.state)
            return shown(row)

        found = await self._database.write(change)
        self._wake()
        return found


def _row(session: Session, tenant: str, batch: str) -> BatchRow:
    row = session.get(BatchRow, (tenant, batch))
    if row is None:
        raise Failure(Reason.BATCH_NOT_FOUND, name=batch)
    return row
