"""The rows of documents that were brought together; the others stand in `store`."""

from sqlalchemy import Boolean, Float, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.retriever.store import Base, Number


class BatchRow(Base):
    """A batch.  How far it is follows from its documents, so nothing of that is kept."""

    __tablename__ = "document_batches"
    __table_args__ = (UniqueConstraint("batch", name="uq_document_batches_id"), {"sqlite_autoincrement": True})
    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    batch: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(
        Number, ForeignKey("collections.number", ondelete="CASCADE"), index=True
    )
    created_at: Mapped[float] = mapped_column(Float)
    cancelled: Mapped[bool] = mapped_column(Boolean, default=False)


class BatchEntryRow(Base):
    """A document of a batch, by its id: it may be deleted meanwhile.  ``refusal`` is why it never was one."""

    __tablename__ = "document_batch_entries"
    batch_number: Mapped[int] = mapped_column(
        Number, ForeignKey("document_batches.number", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    place: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)
    document: Mapped[str] = mapped_column(String(512))
    refused: Mapped[bool] = mapped_column(Boolean, default=False)
    refusal: Mapped[str] = mapped_column(Text, default="")
