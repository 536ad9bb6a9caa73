"""The bytes of a document that is not text, from its put until it is converted.

Invariants: they are durable when the put is acknowledged, in parts that every database takes, so a copy of the catalog
is whole; they go in the transaction that stores the version made of them, or says why none can be.
"""

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from services.retriever.store import DocumentRow, SourcePartRow

_PART_BYTES = 1024 * 1024


def keep(session: Session, row: DocumentRow, content: bytes) -> None:
    """Store the bytes for the document, in place of any others."""
    session.flush()
    forget(session, row)
    parts = [content[at : at + _PART_BYTES] for at in range(0, len(content), _PART_BYTES)]
    # One by one: a driver that takes a list copies all of it.
    for part, piece in enumerate(parts):
        values = {"document_number": row.number, "part": part, "tenant": row.tenant, "content": piece}
        session.execute(insert(SourcePartRow).values(**values))
    row.source_parts = len(parts)


def forget(session: Session, row: DocumentRow) -> None:
    """Nothing waits to be converted any more."""
    session.execute(delete(SourcePartRow).where(SourcePartRow.document_number == row.number))
    row.source_parts = 0


def load(session: Session, document_number: int) -> bytes:
    """The bytes that wait."""
    query = select(SourcePartRow.content).where(SourcePartRow.document_number == document_number)
    return b"".join(session.scalars(query.order_by(SourcePartRow.part)))
