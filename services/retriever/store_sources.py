"""The rows of sources and their objects; the others stand in `store`."""

from sqlalchemy import Boolean, Float, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from services.retriever.store import Base, Number


class SourceRow(Base):
    """A place that documents are read from, and its own place in the queue: read when ``due_at`` has come."""

    __tablename__ = "sources"
    __table_args__ = (
        UniqueConstraint("collection_number", "uri", name="uq_sources_uri"),
        UniqueConstraint("source", name="uq_sources_id"),
        Index("ix_sources_due", "due_at"),
        {"sqlite_autoincrement": True},
    )
    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    source: Mapped[str] = mapped_column(String(64))
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(Number, ForeignKey("collections.number", ondelete="CASCADE"))
    uri: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    prune: Mapped[bool] = mapped_column(Boolean, default=False)
    # Who may read what it brings; who asked for it, and whether they manage every document: it stores as they would.
    readers_json: Mapped[str] = mapped_column(Text, default="[]")
    ordered_by: Mapped[str] = mapped_column(String(128), default="")
    manages_all: Mapped[bool] = mapped_column(Boolean, default=False)
    refresh_seconds: Mapped[int] = mapped_column(Number, default=0)
    # Counts what was asked of it: a reading that began for an older revision writes nothing more.
    revision: Mapped[int] = mapped_column(Number, default=1)
    # Counts its readings: an object that one of them saw bears its number.
    reading: Mapped[int] = mapped_column(Number, default=0)
    # Failures of the whole in a row, since it was asked for or read.
    tries: Mapped[int] = mapped_column(Number, default=0)
    found: Mapped[int] = mapped_column(Number, default=0)
    stored: Mapped[int] = mapped_column(Number, default=0)
    unchanged: Mapped[int] = mapped_column(Number, default=0)
    failed: Mapped[int] = mapped_column(Number, default=0)
    deleted: Mapped[int] = mapped_column(Number, default=0)
    fetched_bytes: Mapped[int] = mapped_column(Number, default=0)
    created_at: Mapped[float] = mapped_column(Float)
    read_at: Mapped[float | None] = mapped_column(Float, default=None)
    due_at: Mapped[float | None] = mapped_column(Float, default=None)


class SourceObjectRow(Base):
    """An object of a source as it was last seen: enough to tell whether it has changed."""

    __tablename__ = "source_objects"
    __table_args__ = (Index("ix_source_objects_reading", "source_number", "reading"),)
    source_number: Mapped[int] = mapped_column(
        Number, ForeignKey("sources.number", ondelete="CASCADE"), primary_key=True
    )
    # Of the URI, which is longer than what some databases index.
    uri_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    etag: Mapped[str] = mapped_column(String(256), default="")
    modified: Mapped[str] = mapped_column(String(64), default="")
    size_bytes: Mapped[int] = mapped_column(Number, default=-1)
    # Of the bytes that became the document; empty while it has none of ours.
    sha256: Mapped[str] = mapped_column(String(64), default="")
    # Why it is no document; empty for one that is.
    problem: Mapped[str] = mapped_column(Text, default="")
    reading: Mapped[int] = mapped_column(Number)
    # The reading that counted it as stored; any other of its readings found it unchanged.
    stored_in: Mapped[int] = mapped_column(Number, default=0, server_default="0")
