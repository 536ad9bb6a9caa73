"""Sources: places that a collection's documents are read from, as their owners see them.

Invariant: a source that was acknowledged is durable and will be read; another tenant's and one that does not exist
look the same; what is stopped writes nothing more.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, func, or_, select, true, update
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.retriever import catalog
from services.retriever.documents.readers import NO_READERS, SERVICE, Viewer
from services.retriever.sources.addresses import refused
from services.retriever.sources.places import Places
from services.retriever.store import CollectionRow, in_turn
from services.retriever.store_sources import SourceObjectRow, SourceRow

_MOST_SOURCES = 1000
_MOST_FAILURES = 100
# What every database can index.
_MOST_URI_BYTES = 2048


class SourceState(StrEnum):
    """As stored."""

    QUEUED = "queued"
    RUNNING = "running"
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELETING = "deleting"


@dataclass(frozen=True, slots=True)
class Source:
    """A source as it is shown; counts are of its present reading or its last one, times Unix times in seconds."""

    source: str
    collection: str
    uri: str
    state: str
    reason: str
    prune: bool
    refresh_seconds: int
    found: int
    stored: int
    unchanged: int
    failed: int
    deleted: int
    fetched_bytes: int
    created_at: float
    read_at: float | None
    due_at: float | None
    readers: tuple[str, ...]
    number: int


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked for: read this into that collection, pruned or not, again after so many seconds (0: never).

    ``readers`` may read what comes, ``viewer`` asks.
    """

    collection: str
    uri: str
    prune: bool
    refresh_seconds: int
    readers: tuple[str, ...] = ()
    viewer: Viewer = SERVICE


@dataclass(frozen=True, slots=True)
class ObjectFailure:
    """An object that is no document, and why."""

    uri: str
    reason: str


@dataclass(frozen=True, slots=True)
class Sources:
    """The verbs.  ``now`` gives Unix time in seconds, ``wake`` stirs the readers, ``stop`` ends the reading of a number."""

    database: Database
    places: Places
    now: Callable[[], float]
    new_id: Callable[[], str]
    wake: Callable[[], None]
    stop: Callable[[int], None]
    most_sources: int = _MOST_SOURCES

    async def ingest(self, tenant: str, order: Order, key: IdempotencyKey) -> Source:
        """Queue a source to be read, now or again.

        Raises SOURCE_NOT_ALLOWED, COLLECTION_NOT_FOUND, LIMIT_REACHED and REQUEST_ID_REUSED.
        """
        uri = self.places.require(tenant, order.uri)
        if len(uri.encode()) > _MOST_URI_BYTES:
            raise refused(f"{uri[:100]}…", f"it has more than {_MOST_URI_BYTES} bytes")

        def effect(session: Session) -> str:
            in_turn(session, tenant)
            collection = catalog.require(session, tenant, order.collection)
            row = self._mine(session, collection, uri, order.viewer)
            row.prune, row.refresh_seconds = order.prune, order.refresh_seconds
            readers_json = json.dumps(sorted(order.readers))
            if row.readers_json != readers_json:
                row.readers_json = readers_json
                _forget(session, row)
            if row.state != SourceState.RUNNING:
                _queue(session, row, self.now())
            session.flush()
            return json.dumps(asdict(shown(row, order.collection)))

        answer = json.loads(await self.database.write(lambda session: once(session, key, lambda: effect(session))))
        self.wake()
        return Source(**{**answer, "readers": tuple(answer["readers"])})

    def _mine(self, session: Session, collection: CollectionRow, uri: str, viewer: Viewer) -> SourceRow:
        """The source of this URI, new if there is none.  Raises LIMIT_REACHED, and SOURCE_NOT_ALLOWED for a hidden one."""
        row = _at(session, collection, uri)
        if row is None:
            return self._new(session, collection, uri, viewer)
        if session.scalar(select(SourceRow.number).where(SourceRow.number == row.number, _visible(viewer))) is None:
            raise refused(uri, "somebody else reads it into this collection, for other readers; take another one")
        return row

    def _new(self, session: Session, collection: CollectionRow, uri: str, viewer: Viewer) -> SourceRow:
        held = select(func.count()).select_from(SourceRow).where(SourceRow.tenant == collection.tenant)
        if int(session.scalar(held) or 0) >= self.most_sources:
            raise Failure(Reason.LIMIT_REACHED, name="The tenant", limit=self.most_sources, what="sources")
        row = SourceRow(
            source=self.new_id(),
            tenant=collection.tenant,
            collection_number=collection.number,
            uri=uri,
            state=SourceState.QUEUED,
            readers_json=NO_READERS,
            ordered_by=viewer.principal,
            manages_all=viewer.sees_all,
            revision=0,
            reading=0,
            created_at=self.now(),
        )
        session.add(row)
        session.flush()
        return row

    async def get(self, tenant: str, source: str, viewer: Viewer = SERVICE) -> tuple[Source, list[ObjectFailure]]:
        """A source, and the first of its objects that are no documents.  Raises SOURCE_NOT_FOUND."""

        def query(session: Session) -> tuple[Source, list[ObjectFailure]]:
            row = _require(session, tenant, source, viewer)
            unfit = (
                select(SourceObjectRow)
                .where(SourceObjectRow.source_number == row.number, SourceObjectRow.problem != "")
                .order_by(SourceObjectRow.uri)
                .limit(_MOST_FAILURES)
            )
            failures = [ObjectFailure(item.uri, item.problem) for item in session.scalars(unfit)]
            return _shown(session, row), failures

        return await self.database.read(query)

    async def page(self, tenant: str, collection: str, after: int, most: int, viewer: Viewer = SERVICE) -> list[Source]:
        """Sources in the order of their making, those behind ``after``.  Raises COLLECTION_NOT_FOUND."""

        def query(session: Session) -> list[Source]:
            number = catalog.require(session, tenant, collection).number
            mine = SourceRow.collection_number == number, SourceRow.number > after, _visible(viewer)
            rows = session.scalars(select(SourceRow).where(*mine).order_by(SourceRow.number).limit(most))
            return [shown(row, collection) for row in rows]

        return await self.database.read(query)

    async def cancel(self, tenant: str, source: str, viewer: Viewer = SERVICE) -> Source:
        """Stop reading a source, now and later.  Raises SOURCE_NOT_FOUND."""

        def change(session: Session) -> Source:
            in_turn(session, tenant)
            row = _require(session, tenant, source, viewer)
            row.revision += 1
            row.due_at = None
            if row.state in (SourceState.QUEUED, SourceState.RUNNING):
                row.state, row.reason = SourceState.CANCELLED, ""
            elif row.state == SourceState.DELETING:
                row.state, row.reason = SourceState.CANCELLED, "its deletion was stopped"
            return _shown(session, row)

        stopped = await self.database.write(change)
        self.stop(stopped.number)
        return stopped

    async def delete(self, tenant: str, source: str, viewer: Viewer = SERVICE, *, documents: bool) -> int:
        """Forget a source, and delete what it brought if that is wanted; how many documents that will be.

        Raises SOURCE_NOT_FOUND.
        """

        def change(session: Session) -> tuple[int, int]:
            in_turn(session, tenant)
            row = _require(session, tenant, source, viewer)
            brought = SourceObjectRow.source_number == row.number, SourceObjectRow.sha256 != ""
            count = int(session.scalar(select(func.count()).select_from(SourceObjectRow).where(*brought)) or 0)
            row.revision += 1
            if documents and count:
                row.state, row.reason, row.due_at = SourceState.DELETING, "", self.now()
                return row.number, count
            session.delete(row)
            return row.number, 0

        number, count = await self.database.write(change)
        self.stop(number)
        self.wake()
        return count


def shown(row: SourceRow, collection: str) -> Source:
    """The domain's view of a row."""
    return Source(
        source=row.source,
        collection=collection,
        uri=row.uri,
        state=row.state,
        reason=row.reason,
        prune=row.prune,
        refresh_seconds=row.refresh_seconds,
        found=row.found,
        stored=row.stored,
        unchanged=row.unchanged,
        failed=row.failed,
        deleted=row.deleted,
        fetched_bytes=row.fetched_bytes,
        created_at=row.created_at,
        read_at=row.read_at,
        due_at=row.due_at,
        readers=tuple(json.loads(row.readers_json)),
        number=row.number,
    )


def _shown(session: Session, row: SourceRow) -> Source:
    return shown(row, session.get_one(CollectionRow, row.collection_number).collection)


def _at(session: Session, collection: CollectionRow, uri: str) -> SourceRow | None:
    query = select(SourceRow).where(SourceRow.collection_number == collection.number, SourceRow.uri == uri)
    return session.scalars(query).one_or_none()


def _require(session: Session, tenant: str, source: str, viewer: Viewer) -> SourceRow:
    mine = SourceRow.source == source, SourceRow.tenant == tenant, _visible(viewer)
    row = session.scalars(select(SourceRow).where(*mine)).one_or_none()
    if row is None:
        raise Failure(Reason.SOURCE_NOT_FOUND, name=source, field="source")
    return row


def _queue(session: Session, row: SourceRow, now: float) -> None:
    """To be read as soon as may be; what could not be stored is tried again, also as it is."""
    row.state, row.reason, row.due_at = SourceState.QUEUED, "", now
    row.revision += 1
    row.tries = 0
    session.flush()
    _forget(session, row, SourceObjectRow.problem != "")


def _forget(session: Session, row: SourceRow, *conditions: ColumnElement[bool]) -> None:
    """Fetch these objects at the next reading, whether or not they have changed."""
    some = SourceObjectRow.source_number == row.number, *conditions
    session.execute(update(SourceObjectRow).where(*some).values(etag="", modified="", size_bytes=-1))


def _visible(viewer: Viewer) -> ColumnElement[bool]:
    """The condition on SourceRow: what a source with readers brings is not told to others."""
    if viewer.sees_all:
        return true()
    return or_(SourceRow.readers_json == NO_READERS, SourceRow.ordered_by == viewer.principal)
