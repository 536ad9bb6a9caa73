"""A page of a batch: its entries in their order, each with the document that it names, or with why there is none."""

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.retriever import listing
from services.retriever.documents.documents import Document, shown
from services.retriever.documents.readers import Viewer, readable
from services.retriever.documents.states import State
from services.retriever.listing import Asked, Order, Page
from services.retriever.store import DocumentRow
from services.retriever.store_batches import BatchEntryRow, BatchRow


def entries(
    session: Session, row: BatchRow, collection: str, asked: Asked, states: Sequence[State], viewer: Viewer
) -> Page[Document]:
    """The page.  An entry whose document is gone, or hidden from the viewer, is left out; one that was refused is FAILED.

    Raises DOCUMENT_NOT_FOUND for an entry to go on from that is not in the batch, FIELD_INVALID.
    """
    same = and_(
        DocumentRow.collection_number == row.collection_number,
        DocumentRow.document == BatchEntryRow.document,
        BatchEntryRow.refused.is_(False),
        readable(viewer),
    )
    wanted = states or tuple(State)
    there = DocumentRow.state.in_(wanted)
    passes = or_(there, BatchEntryRow.refused.is_(True)) if State.FAILED in wanted else there
    mine = BatchEntryRow.batch_number == row.number
    rows = select(BatchEntryRow).outerjoin(DocumentRow, same).where(mine, passes)

    def place_of(document: str) -> int:
        place = session.scalar(select(BatchEntryRow.place).where(mine, BatchEntryRow.document == document).limit(1))
        if place is None:
            raise Failure(Reason.DOCUMENT_NOT_FOUND, name=document, field="after")
        return place

    # A batch has an order of its own; by id, it is that.
    placed = replace(asked, order=Order.OLDEST_FIRST) if asked.order is Order.ID else asked
    found = listing.page(session, rows, BatchEntryRow.document, BatchEntryRow.place, placed, place_of)
    return Page(tuple(_document(session, entry, row, collection) for entry in found.entries), found.next)


def _document(session: Session, entry: BatchEntryRow, row: BatchRow, collection: str) -> Document:
    if not entry.refused:
        mine = DocumentRow.collection_number == row.collection_number, DocumentRow.document == entry.document
        return shown(session.scalars(select(DocumentRow).where(*mine)).one(), collection)
    return Document(
        collection=collection,
        document=entry.document,
        title="",
        serving_version="",
        newest_version="",
        state=State.FAILED,
        reason=entry.refusal,
        media_type="",
        metadata={},
        updated_at=row.created_at,
        chunks=0,
        chunks_embedded=0,
        chunks_reused=0,
    )
