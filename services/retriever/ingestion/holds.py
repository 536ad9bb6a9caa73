"""Which vectors are kept though no chunk uses them, so that nothing has to be embedded twice.  Questions as well.

A vector is kept while a chunk uses it, while the document that it was computed for has a
version with its text (going back to that version embeds nothing, and neither does what a
kill or a newer put cut short), and, once a deletion took all of these, while the tenant has
documents in the queue: a renamed file is a deletion beside a put.  Invariant: what has none
of these reasons is gone when the transaction that took the last one ends.
"""

from collections.abc import Collection as AnyOf
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from sqlalchemy import ColumnElement, Exists, delete, insert, or_, select
from sqlalchemy.orm import Session

from services.retriever.documents.states import State
from services.retriever.store import ChunkRow, DocumentRow, HoldRow, NewChunkRow, ReembeddingRow, VectorRow
from services.retriever.store_generated import QuestionsRow, QuestionVectorsRow

T = TypeVar("T")
Kept = type[VectorRow] | type[QuestionsRow] | type[QuestionVectorsRow]
# What goes with its text.
_KEPT: tuple[Kept, ...] = (VectorRow, QuestionsRow, QuestionVectorsRow)
_BATCH = 500
# Holds for whatever document of the tenant comes next in its queue.
_QUEUE = 0


def hold(session: Session, tenant: str, holder: int, digests: AnyOf[bytes]) -> None:
    """Keep these for the document with this number."""
    held: set[bytes] = set()
    for some in _batches(digests):
        query = select(HoldRow.text_digest).where(*_of(tenant, holder), HoldRow.text_digest.in_(some))
        held.update(session.scalars(query))
    rows = [
        {"tenant": tenant, "holder": holder, "text_digest": digest}
        for digest in dict.fromkeys(digests)
        if digest not in held
    ]
    if rows:
        session.execute(insert(HoldRow), rows)


def hold_for_the_queue(session: Session, tenant: str, digests: AnyOf[bytes]) -> bool:
    """Keep these until the tenant's queue is empty; False when it is."""
    if not _busy(session, tenant):
        return False
    hold(session, tenant, _QUEUE, digests)
    return True


def used_by_chunks(session: Session, tenant: str, holder: int) -> None:
    """The document's chunks have come into sight: what they use needs no other reason."""
    chunk = select(ChunkRow.chunk).where(
        ChunkRow.document_number == holder, ChunkRow.text_digest == HoldRow.text_digest
    )
    session.execute(delete(HoldRow).where(*_of(tenant, holder), chunk.correlate(HoldRow).exists()))


def let_go(session: Session, tenant: str, holders: Sequence[int]) -> list[bytes]:
    """End the documents' reasons; the digests that they were for."""
    digests: dict[bytes, None] = {}
    for some in _batches(holders):
        mine = HoldRow.tenant == tenant, HoldRow.holder.in_(some)
        digests |= dict.fromkeys(session.scalars(select(HoldRow.text_digest).where(*mine)))
        session.execute(delete(HoldRow).where(*mine))
    return list(digests)


def release(session: Session, tenant: str, digests: Sequence[bytes]) -> None:
    """Chunks or documents went that used these: forget the vectors that have no reason left.

    An ingestion that counted on one embeds it again: it finds out before it publishes.
    """
    if not hold_for_the_queue(session, tenant, list(_unused(session, tenant, digests))):
        _forget(session, tenant, digests)
    settle(session, tenant)


def settle(session: Session, tenant: str) -> None:
    """A document has left the queue: if it was the last one, forget what was kept for it."""
    if not _busy(session, tenant):
        _forget(session, tenant, let_go(session, tenant, [_QUEUE]))


def sweep(session: Session) -> None:
    """At start: forget what has no reason; tenants with work to do keep theirs."""
    busy = select(DocumentRow.tenant).where(DocumentRow.state.in_(State.unfinished()))
    session.execute(delete(HoldRow).where(HoldRow.holder == _QUEUE, HoldRow.tenant.not_in(busy)))
    changing = select(ReembeddingRow.tenant).where(ReembeddingRow.running)
    for rows in _KEPT:
        session.execute(delete(rows).where(rows.tenant.not_in(busy.union(changing)), ~_used(rows)))


def _of(tenant: str, holder: int) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return HoldRow.tenant == tenant, HoldRow.holder == holder


def _busy(session: Session, tenant: str) -> bool:
    waiting = select(DocumentRow.number).where(DocumentRow.state.in_(State.unfinished()), DocumentRow.tenant == tenant)
    return session.scalar(waiting.limit(1)) is not None


def _forget(session: Session, tenant: str, digests: Sequence[bytes]) -> None:
    for some in _batches(digests):
        for rows in _KEPT:
            mine = rows.tenant == tenant, rows.text_digest.in_(some)
            session.execute(delete(rows).where(*mine, ~_used(rows)))


def _unused(session: Session, tenant: str, digests: Sequence[bytes]) -> Iterator[bytes]:
    for some in _batches(digests):
        mine = VectorRow.tenant == tenant, VectorRow.text_digest.in_(some)
        yield from session.scalars(select(VectorRow.text_digest).where(*mine, ~_used(VectorRow)).distinct())


def _used(kept: Kept) -> ColumnElement[bool]:
    return or_(_reason(ChunkRow, kept), _reason(HoldRow, kept), _reason(NewChunkRow, kept))


def _reason(rows: type[ChunkRow] | type[HoldRow] | type[NewChunkRow], kept: Kept) -> Exists:
    found = select(rows.tenant).where(rows.tenant == kept.tenant, rows.text_digest == kept.text_digest)
    return found.correlate(kept).exists()


def _batches(values: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(values)
    while some := list(islice(rest, _BATCH)):
        yield some
