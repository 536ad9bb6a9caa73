"""Documents that were brought together: how far they are as one, and the end of those that are not ready.

Invariant: a batch keeps ids and nothing of how far its documents are, so it can never say other than they do; what is
hidden from a viewer looks, also here, like what is gone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, func, insert, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once
from services.retriever import catalog
from services.retriever.documents.batch_page import entries
from services.retriever.documents.documents import Document, require
from services.retriever.documents.readers import SERVICE, Viewer, readable
from services.retriever.documents.removal import Removal
from services.retriever.documents.states import State
from services.retriever.expiry import require_live
from services.retriever.listing import Asked, Page
from services.retriever.store import DocumentRow, in_turn
from services.retriever.store_batches import BatchEntryRow, BatchRow


class BatchState(StrEnum):
    """How far a batch is."""

    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Refused:
    """A document that was to be in a batch, and why it is not stored."""

    document: str
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as it is shown: how many documents wait or run, are searchable, failed or were refused, are gone."""

    batch: str
    collection: str
    created_at: float
    cancelled: bool
    pending: int
    ready: int
    failed: int
    gone: int

    @property
    def state(self) -> BatchState:
        """How far it is."""
        if self.cancelled:
            return BatchState.CANCELLED
        if self.pending:
            return BatchState.RUNNING
        return BatchState.FAILED if self.failed and not self.ready else BatchState.COMPLETED


@dataclass(frozen=True, slots=True)
class Batches:
    """The verbs on batches."""

    database: Database
    removal: Removal
    now: Callable[[], float]
    new_id: Callable[[], str]

    async def create(
        self,
        tenant: str,
        collection: str,
        documents: Sequence[str],
        refused: Sequence[Refused],
        key: IdempotencyKey,
        viewer: Viewer = SERVICE,
    ) -> Batch:
        """Remember documents, which are stored, and those that were refused, as one.

        Raises COLLECTION_NOT_FOUND, COLLECTION_EXPIRED, DOCUMENT_NOT_FOUND.
        """

        def effect(session: Session) -> str:
            in_turn(session, tenant)
            number = require_live(session, tenant, collection).number
            for document in documents:
                require(session, tenant, collection, document, viewer)
            row = BatchRow(
                batch=self.new_id(), tenant=tenant, collection_number=number, created_at=self.now(), cancelled=False
            )
            session.add(row)
            session.flush()
            _fill(session, row.number, documents, refused)
            return row.batch

        batch = await self.database.write(lambda session: once(session, key, lambda: effect(session)))
        return await self.get(tenant, collection, batch, viewer)

    async def get(self, tenant: str, collection: str, batch: str, viewer: Viewer = SERVICE) -> Batch:
        """The batch as it stands.  Raises COLLECTION_NOT_FOUND, DOCUMENT_BATCH_NOT_FOUND."""
        return await self.database.read(
            lambda session: _shown(session, _require(session, tenant, collection, batch), collection, viewer)
        )

    async def cancel(self, tenant: str, collection: str, batch: str, viewer: Viewer = SERVICE) -> Batch:
        """Delete those of its documents of which no version is searchable yet.  Raises as :meth:`get`."""

        def change(session: Session) -> list[str]:
            in_turn(session, tenant)
            row = _require(session, tenant, collection, batch)
            row.cancelled = True
            waiting = DocumentRow.state.in_(State.unfinished()), DocumentRow.serving_version == ""
            return list(session.scalars(select(DocumentRow.document).where(_there(row, viewer), *waiting)))

        for document in await self.database.write(change):
            try:
                await self.removal.document(tenant, collection, document, viewer)
            except Failure as failure:
                # Somebody else was faster.
                if failure.reason is not Reason.DOCUMENT_NOT_FOUND:
                    raise
        return await self.get(tenant, collection, batch, viewer)

    async def page(
        self,
        tenant: str,
        collection: str,
        batch: str,
        asked: Asked,
        states: Sequence[State] = (),
        viewer: Viewer = SERVICE,
    ) -> Page[Document]:
        """A page of its documents, in its order.

        Raises as :meth:`get`, DOCUMENT_NOT_FOUND for an entry to go on from that is not in it, FIELD_INVALID.
        """

        def query(session: Session) -> Page[Document]:
            row = _require(session, tenant, collection, batch)
            return entries(session, row, collection, asked, states, viewer)

        return await self.database.read(query)


def _fill(session: Session, number: int, documents: Sequence[str], refused: Sequence[Refused]) -> None:
    rows = [
        {"batch_number": number, "place": place, "document": document, "refused": False, "refusal": ""}
        for place, document in enumerate(documents)
    ]
    rows += [
        {"batch_number": number, "place": place, "document": it.document, "refused": True, "refusal": it.reason}
        for place, it in enumerate(refused, start=len(documents))
    ]
    if rows:
        session.execute(insert(BatchEntryRow), rows)


def _require(session: Session, tenant: str, collection: str, batch: str) -> BatchRow:
    number = catalog.require(session, tenant, collection).number
    mine = BatchRow.batch == batch, BatchRow.tenant == tenant, BatchRow.collection_number == number
    row = session.scalars(select(BatchRow).where(*mine)).one_or_none()
    if row is None:
        raise Failure(Reason.DOCUMENT_BATCH_NOT_FOUND, name=batch, field="batch")
    return row


def _there(row: BatchRow, viewer: Viewer) -> ColumnElement[bool]:
    """Of the documents, those of the batch that are there and that the viewer may read."""
    stored = BatchEntryRow.batch_number == row.number, BatchEntryRow.refused.is_(False)
    named = select(BatchEntryRow.document).where(*stored)
    mine = DocumentRow.collection_number == row.collection_number
    return and_(mine, DocumentRow.document.in_(named), readable(viewer))


def _shown(session: Session, row: BatchRow, collection: str, viewer: Viewer) -> Batch:
    counted = select(DocumentRow.state, func.count()).where(_there(row, viewer)).group_by(DocumentRow.state)
    by_state = {State(state): count for state, count in session.execute(counted)}
    mine = BatchEntryRow.batch_number == row.number
    refused = (
        session.scalar(select(func.count()).select_from(BatchEntryRow).where(mine, BatchEntryRow.refused.is_(True)))
        or 0
    )
    total = session.scalar(select(func.count()).select_from(BatchEntryRow).where(mine)) or 0
    return Batch(
        batch=row.batch,
        collection=collection,
        created_at=row.created_at,
        cancelled=row.cancelled,
        pending=sum(by_state.get(state, 0) for state in State.unfinished()),
        ready=by_state.get(State.READY, 0),
        failed=by_state.get(State.FAILED, 0) + refused,
        gone=total - refused - sum(by_state.values()),
    )
