"""Collections that end by themselves: when they were last used, and what becomes of one that nobody used for its time.

Invariants: an expired collection holds nothing, and never holds anything again; its documents left the catalog in the
transaction that says so.  Use is kept in memory and written down once a round: a kill forgets one round of it, which is
little beside any time to expire by.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Code, Failure, Reason
from services.retriever import catalog
from services.retriever.changes import Changes
from services.retriever.index.gates import Gates
from services.retriever.index.index import Index
from services.retriever.store import CollectionRow, ReembeddingRow, in_turn
from services.retriever.store_generated import SummaryRow
from services.retriever.store_sources import SourceRow

# Use is told to this: what came in the minute since it was written down is not written down again.
_GRAIN_SECONDS = 60.0
# What passes: the database comes back, a disk has room again.
_AWAY = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED)


def require_live(session: Session, tenant: str, collection: str) -> CollectionRow:
    """The tenant's collection, to be searched or changed.  Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED."""
    row = catalog.require(session, tenant, collection)
    if row.expired_at is not None:
        raise Failure(Reason.COLLECTION_EXPIRED, name=collection, field="collection")
    return row


@dataclass(slots=True)
class Activity:
    """Which collections were used since it was last written down.  ``now`` gives Unix time in seconds."""

    now: Callable[[], float]
    _used: dict[int, float] = field(default_factory=dict)

    def used(self, numbers: Iterable[int]) -> None:
        """The collections with these numbers were used now."""
        self._used |= dict.fromkeys(numbers, self.now())

    def take(self) -> dict[int, float]:
        """What was used when, by number; it is forgotten here."""
        taken, self._used = self._used, {}
        return taken

    def put_back(self, taken: dict[int, float]) -> None:
        """What was taken could not be written down; later use counts before it."""
        self._used = taken | self._used


@dataclass(frozen=True, slots=True)
class Expiry:
    """The one task over all collections.  ``blocking`` runs a function in a thread."""

    database: Database
    activity: Activity
    index: Index
    gates: Gates
    changes: Changes
    blocking: Callable[..., Awaitable[Any]]
    round_seconds: float

    async def run(self) -> None:
        """A round now and after each pause, until it is cancelled; what was used till then is written down.

        While the database is away nothing expires, and use is remembered.
        """
        try:
            while True:
                await self._tried(self.round())
                await asyncio.sleep(self.round_seconds)
        finally:
            await self._tried(self._write_down())

    async def _tried(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Failure as failure:
            if failure.code not in _AWAY:
                raise

    async def round(self) -> None:
        """Write down what was used, then expire whatever nobody used for its time."""
        await self._write_down()
        for number in await self.database.read(self._due):
            await self._expire(number)

    async def _write_down(self) -> None:
        taken = self.activity.take()
        try:
            if taken:
                await self.database.write(lambda session: _used(session, taken))
        except BaseException:
            self.activity.put_back(taken)
            raise

    def _due(self, session: Session) -> list[int]:
        return list(session.scalars(select(CollectionRow.number).where(*self._overdue())))

    def _overdue(self) -> tuple[Any, ...]:
        ends = CollectionRow.last_active_at + CollectionRow.expire_after_seconds
        return CollectionRow.expire_after_seconds > 0, CollectionRow.expired_at.is_(None), ends <= self.activity.now()

    async def _expire(self, number: int) -> None:
        async with self.gates.change(number):
            if await self.database.write(lambda session: self._emptied(session, number)):
                await self.blocking(self.index.drop, number)
        self.changes.tell(number)

    def _emptied(self, session: Session, number: int) -> bool:
        """Take everything out of the collection; False where it was used, changed or deleted meanwhile."""
        query = select(CollectionRow.tenant).where(CollectionRow.number == number)
        tenant = session.scalar(query)
        if tenant is None:
            return False
        in_turn(session, tenant)
        row = session.scalars(select(CollectionRow).where(CollectionRow.number == number, *self._overdue())).first()
        if row is None:
            return False
        row.expired_at, row.revision = self.activity.now(), row.revision + 1
        for rows in (SourceRow, ReembeddingRow, SummaryRow):
            session.execute(delete(rows).where(rows.collection_number == number))
        catalog.empty(session, tenant, number)
        return True


def _used(session: Session, taken: dict[int, float]) -> None:
    # Each row stands alone: no turn is needed, and a revision is no part of it.  Whoever else changes several collections
    # in one transaction locks them by number too (``questions/rows``).
    for number, moment in sorted(taken.items()):
        stale = CollectionRow.number == number, CollectionRow.last_active_at < moment - _GRAIN_SECONDS
        session.execute(update(CollectionRow).where(*stale).values(last_active_at=moment))
