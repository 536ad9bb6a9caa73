"""The durable queue of sources: the sources themselves, by the time at which they are due.

Invariant: a source is read once at a time, and a tenant's one after another; a reading that a kill left behind is due
again at the next start, and whatever was recorded of it is not fetched again.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Code, Failure
from services.retriever.documents.readers import Viewer
from services.retriever.sources.sources import SourceState
from services.retriever.store import CollectionRow, in_turn
from services.retriever.store_sources import SourceRow

_MOST_TRIES = 5
_AWAY = (Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED, Code.DEADLINE_EXCEEDED)


@dataclass(frozen=True, slots=True)
class Work:
    """One reading of a source.  ``deleting``: nothing is read, and all that it brought goes."""

    tenant: str
    collection: str
    collection_number: int
    number: int
    uri: str
    revision: int
    reading: int
    prune: bool
    deleting: bool
    readers: tuple[str, ...]
    viewer: Viewer


@dataclass(frozen=True, slots=True)
class SourceQueue:
    """Claims, and what becomes of them.  ``now`` gives Unix time in seconds."""

    database: Database
    now: Callable[[], float]
    retry_seconds: float

    async def recover(self) -> None:
        """At start: whatever was being read when the process died is due."""

        def change(session: Session) -> None:
            reading, deleting = SourceRow.state == SourceState.RUNNING, SourceRow.state == SourceState.DELETING
            session.execute(update(SourceRow).where(reading).values(state=SourceState.QUEUED, due_at=self.now()))
            session.execute(update(SourceRow).where(deleting).values(due_at=self.now()))

        await self.database.write(change)

    async def claim(self) -> Work | None:
        """The source that has been due for longest, marked as running; None where none is."""
        while (found := await self.database.read(self._due)) is not None:
            tenant, number = found
            work = await self.database.write(partial(self._claim, tenant=tenant, number=number))
            if work is not None:
                return work
            # Another reader took it in between.
        return None

    def _due(self, session: Session) -> tuple[str, int] | None:
        busy = select(SourceRow.tenant).where(SourceRow.state == SourceState.RUNNING)
        waiting = SourceRow.due_at <= self.now(), SourceRow.tenant.not_in(busy)
        oldest = select(SourceRow.tenant, SourceRow.number).where(*waiting).order_by(SourceRow.due_at).limit(1)
        row = session.execute(oldest).one_or_none()
        return None if row is None else (row.tenant, row.number)

    def _claim(self, session: Session, tenant: str, number: int) -> Work | None:
        in_turn(session, tenant)
        row = session.get(SourceRow, number)
        running = SourceRow.tenant == tenant, SourceRow.state == SourceState.RUNNING
        if row is None or row.due_at is None or session.scalar(select(func.count()).where(*running)):
            return None
        deleting = row.state == SourceState.DELETING
        row.due_at = None
        row.reading += 1
        if not deleting:
            row.state, row.reason = SourceState.RUNNING, ""
            row.found = row.stored = row.unchanged = row.failed = row.deleted = row.fetched_bytes = 0
        return Work(
            tenant=tenant,
            collection=session.get_one(CollectionRow, row.collection_number).collection,
            collection_number=row.collection_number,
            number=number,
            uri=row.uri,
            revision=row.revision,
            reading=row.reading,
            prune=row.prune or deleting,
            deleting=deleting,
            readers=tuple(json.loads(row.readers_json)),
            viewer=Viewer(frozenset({row.ordered_by}), row.ordered_by, row.manages_all),
        )

    async def seconds_until_due(self) -> float | None:
        """How long until something is due; None where nothing will be."""

        def query(session: Session) -> float | None:
            return session.scalar(select(func.min(SourceRow.due_at)).where(SourceRow.due_at.is_not(None)))

        due = await self.database.read(query)
        return None if due is None else max(0.0, due - self.now())

    async def finish(self, work: Work) -> None:
        """The source was read to its end; one that was being deleted is gone."""

        def change(session: Session) -> None:
            row = still_wanted(session, work)
            if row is None:
                return
            if work.deleting:
                session.execute(delete(SourceRow).where(SourceRow.number == row.number))
                return
            row.read_at, row.tries = self.now(), 0
            judge(row)
            self._again(row)

        await self.database.write(change)

    async def fail(self, work: Work, failure: Failure) -> None:
        """The source could not be read; one that is away is tried again, some times, later and later."""

        def change(session: Session) -> None:
            row = still_wanted(session, work)
            if row is None:
                return
            row.tries += 1
            if failure.code in _AWAY and row.tries < _MOST_TRIES:
                row.state = SourceState.DELETING if work.deleting else SourceState.QUEUED
                row.reason = f"Waits: {failure.sentence}"
                row.due_at = self.now() + self.retry_seconds * 2 ** (row.tries - 1)
                return
            row.state, row.reason, row.tries = SourceState.FAILED, failure.sentence, 0
            self._again(row)

        await self.database.write(change)

    def _again(self, row: SourceRow) -> None:
        row.due_at = self.now() + row.refresh_seconds if row.refresh_seconds else None


def judge(row: SourceRow) -> None:
    """What the counts of a reading come to."""
    row.state = SourceState.FAILED if row.failed and row.failed == row.found else SourceState.READY
    row.reason = f"{row.failed} of {row.found} could not be stored" if row.failed else ""


def still_wanted(session: Session, work: Work) -> SourceRow | None:
    """The source of a reading, unless it was stopped or forgotten; nobody changes it before the transaction ends."""
    in_turn(session, work.tenant)
    row = session.get(SourceRow, work.number)
    return row if row is not None and row.revision == work.revision else None
