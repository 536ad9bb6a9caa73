"""How far a change of embedding model is, from the rows that it leaves."""

from dataclasses import dataclass

from sqlalchemy import Select, and_, func, or_, select
from sqlalchemy.orm import Session

from services.retriever.store import DocumentRow, ReembeddedRow, ReembeddingRow


@dataclass(frozen=True, slots=True)
class Change:
    """A change as it is shown; ``reason`` says why it waits, or, when it is not running, why it failed."""

    model: str
    model_digest: str
    running: bool
    reason: str
    documents: int
    documents_done: int


def change_of(session: Session, number: int) -> Change | None:
    """The change of the collection with this number, if there is one."""
    row = session.get(ReembeddingRow, number)
    if row is None:
        return None
    searchable = and_(DocumentRow.collection_number == number, DocumentRow.serving_version != "")
    documents = int(session.scalar(select(func.count()).select_from(DocumentRow).where(searchable)) or 0)
    left = int(session.scalar(select(func.count()).select_from(undone(number).subquery())) or 0)
    return Change(row.model, row.model_digest, row.running, row.reason, documents, documents - left)


def undone(number: int) -> Select[DocumentRow]:
    """Documents that are searchable and have no chunks, or those of another version or title, under the new model."""
    done = ReembeddedRow.document_number == DocumentRow.number
    return (
        select(DocumentRow)
        .outerjoin(ReembeddedRow, done)
        .where(
            DocumentRow.collection_number == number,
            DocumentRow.serving_version != "",
            or_(
                ReembeddedRow.version.is_(None),
                ReembeddedRow.version != DocumentRow.serving_version,
                ReembeddedRow.title != DocumentRow.title,
            ),
        )
    )
