"""The rows of the catalog: the truth from which every index can be built again.

Invariant: every row names its tenant; a version's text never changes; the chunks of a
document are those of its serving version and no others.
"""

import uuid
from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    Connection,
    Double,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    Update,
    event,
    func,
    inspect,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from services.chassis.database import take_turn

# SQLite numbers rows by itself only where the type is exactly INTEGER.
Number = BigInteger().with_variant(Integer(), "sqlite")
# Compared by code points, as SQLite and Python do, whatever the server's locale.
_OrderedText = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
# What of a searchable document, and of a collection, has a part in what is found, or in how it is ranked and judged.
_FOUND_BY = ("serving_version", "title", "metadata_json", "attributes_json", "readers_json")
_SEARCHED_BY = ("embedding_digest", "search_settings_json", "answerable_threshold", "expired_at")


class Base(DeclarativeBase):
    """The retriever's tables."""


class FactRow(Base):
    """One fact about the catalog as a whole."""

    __tablename__ = "facts"
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


def new_version() -> str:
    """A version for a collection.

    Drawn, not counted: it tells nobody how much changes that is hidden from him, and after a backup was played back none
    comes again for other documents.
    """
    return uuid.uuid4().hex


class CollectionRow(Base):
    """A collection.  ``number`` is never used again, so nothing old can turn up under a new collection."""

    __tablename__ = "collections"
    __table_args__ = (
        UniqueConstraint("tenant", "collection", name="uq_collections_name"),
        {"sqlite_autoincrement": True},
    )
    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(String(128))
    collection: Mapped[str] = mapped_column(String(128))
    description: Mapped[str] = mapped_column(Text, default="")
    # Of the model that the vectors come from; empty until the first document is ready.
    embedding_digest: Mapped[str] = mapped_column(String(80), default="")
    vectors_computed: Mapped[int] = mapped_column(Number, default=0)
    revision: Mapped[int] = mapped_column(Number, default=1)
    # Of the last change of one of its documents.
    change_sequence: Mapped[int] = mapped_column(Number, default=0)
    created_at: Mapped[float] = mapped_column(Float)
    # Which index it is in, of ``index_places.Kind``; empty is the deployment's.
    index_kind: Mapped[str] = mapped_column(String(16), default="", server_default="")
    # The build of its index that serves, and how many were ever begun.
    index_build: Mapped[int] = mapped_column(Number, default=0, server_default="0")
    index_builds: Mapped[int] = mapped_column(Number, default=0, server_default="0")
    # How it is searched where a request does not say (``search/settings.py``).
    search_settings_json: Mapped[str] = mapped_column(Text, default="{}", server_default="{}")
    # From which score on an answer counts as found; the default where there is none.
    answerable_threshold: Mapped[float | None] = mapped_column(Float, default=None)
    # What that was until a change of embedding model ended it; none where nothing was, or another is since.
    former_threshold: Mapped[float | None] = mapped_column(Float, default=None)
    # Questions that are written for each of its chunks, and why they wait.
    questions_per_chunk: Mapped[int] = mapped_column(Integer, default=0, server_default="0")
    questions_reason: Mapped[str] = mapped_column(Text, default="", server_default="")
    title: Mapped[str] = mapped_column(Text, default="", server_default="")
    metadata_json: Mapped[str] = mapped_column(Text, default="{}", server_default="{}")
    # Seconds without use after which it expires, 0 for never; when it was last used, and when it expired (``expiry``).
    expire_after_seconds: Mapped[int] = mapped_column(Number, default=0, server_default="0")
    last_active_at: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    expired_at: Mapped[float | None] = mapped_column(Float, default=None)
    # Another one as soon as a search may find something else, or rank or judge it otherwise.
    version: Mapped[str] = mapped_column(String(32), default=new_version, server_default="")


class DocumentRow(Base):
    """A document, and how far its newest version has come.  It is its own place in the ingestion queue."""

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("collection_number", "document", name="uq_documents_id"),
        Index("ix_documents_queue", "state", "tenant", "queued_at"),
        Index("ix_documents_changes", "collection_number", "change_sequence"),
        {"sqlite_autoincrement": True},
    )
    number: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(Number, ForeignKey("collections.number", ondelete="CASCADE"))
    document: Mapped[str] = mapped_column(String(512))
    # As the client gave it; empty takes the first heading.
    given_title: Mapped[str] = mapped_column(String(512), default="")
    title: Mapped[str] = mapped_column(String(512), default="")
    media_type: Mapped[str] = mapped_column(String(128))
    metadata_json: Mapped[str] = mapped_column(Text, default="{}")
    attributes_json: Mapped[str] = mapped_column(Text, default="{}")
    readers_json: Mapped[str] = mapped_column(Text, default="[]")
    # The principal that stored it first, who may always manage it.
    stored_by: Mapped[str] = mapped_column(String(128), default="")
    newest_version: Mapped[str] = mapped_column(String(64))
    # Of the bytes that came last; several byte strings may be one normalised text.
    source_sha256: Mapped[str] = mapped_column(String(64), default="", server_default="")
    source_bytes: Mapped[int] = mapped_column(Number, default=0, server_default="0")
    # What else its sender said of bytes that are to be converted, and in how many parts they wait for it; 0: none do.
    source_charset: Mapped[str] = mapped_column(String(64), default="", server_default="")
    source_parts: Mapped[int] = mapped_column(Number, default=0, server_default="0")
    serving_version: Mapped[str] = mapped_column(String(64), default="")
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text, default="")
    # What is known to be amiss with a version that serves all the same.
    notice: Mapped[str] = mapped_column(Text, default="", server_default="")
    # Counts what was asked of it: ingestion that began for an older revision ends in nothing.
    revision: Mapped[int] = mapped_column(Number, default=1)
    chunks: Mapped[int] = mapped_column(Number, default=0)
    chunks_embedded: Mapped[int] = mapped_column(Number, default=0)
    chunks_reused: Mapped[int] = mapped_column(Number, default=0)
    queued_at: Mapped[float] = mapped_column(Float)
    updated_at: Mapped[float] = mapped_column(Float)
    # Rises inside the collection with every change, in the order of commits: what a watcher goes on from.
    change_sequence: Mapped[int] = mapped_column(Number, default=0)


@event.listens_for(DocumentRow, "before_insert")
@event.listens_for(DocumentRow, "before_update")
def _number_change(_: object, connection: Connection, row: DocumentRow) -> None:
    counted = (
        update(CollectionRow)
        .where(CollectionRow.number == row.collection_number)
        .values(change_sequence=CollectionRow.change_sequence + 1)
        .returning(CollectionRow.change_sequence)
    )
    row.change_sequence = connection.execute(counted).scalar_one()


def renewal(*where: ColumnElement[bool]) -> Update:
    """Gives collections another version: for changes that no row of a collection or document shows."""
    return update(CollectionRow).where(*where).values(version=new_version())


@event.listens_for(DocumentRow, "before_update")
def _renew_with_document(_: object, connection: Connection, row: DocumentRow) -> None:
    # One that is about to be searchable has a serving version here already.
    if row.serving_version and _differs(row, _FOUND_BY):
        connection.execute(renewal(CollectionRow.number == row.collection_number))


@event.listens_for(DocumentRow, "before_delete")
def _renew_without_document(_: object, connection: Connection, row: DocumentRow) -> None:
    if row.serving_version:
        connection.execute(renewal(CollectionRow.number == row.collection_number))


@event.listens_for(CollectionRow, "before_update")
def _renew_with_collection(_: object, __: Connection, row: CollectionRow) -> None:
    if _differs(row, _SEARCHED_BY):
        row.version = new_version()


def _differs(row: Base, names: Sequence[str]) -> bool:
    """Whether one of these attributes is to be written."""
    held = inspect(row).attrs
    return any(held[name].history.has_changes() for name in names)


class MetadataRow(Base):
    """One value of a document's metadata, for filters; a list has a row for each of its texts, or one without a value."""

    __tablename__ = "document_values"
    __table_args__ = (Index("ix_document_values_name", "collection_number", "name", "kind"),)
    document_number: Mapped[int] = mapped_column(
        Number, ForeignKey("documents.number", ondelete="CASCADE"), primary_key=True
    )
    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    place: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(Number)
    # The name of an ``attributes.Kind``.
    kind: Mapped[str] = mapped_column(String(8))
    text: Mapped[str | None] = mapped_column(_OrderedText)
    # The text without its case.
    folded: Mapped[str | None] = mapped_column(_OrderedText)
    # Of a number; of a flag, 0 or 1.
    number: Mapped[float | None] = mapped_column(Double)
    # Of a moment.
    micros: Mapped[int | None] = mapped_column(Number)


class ReaderRow(Base):
    """One id that may read a document.  A document without any is everybody's."""

    __tablename__ = "document_readers"
    __table_args__ = (Index("ix_document_readers_collection", "collection_number"),)
    document_number: Mapped[int] = mapped_column(
        Number, ForeignKey("documents.number", ondelete="CASCADE"), primary_key=True
    )
    reader: Mapped[str] = mapped_column(String(128), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(Number)


class SourcePartRow(Base):
    """A part of a document's bytes that wait to be converted."""

    __tablename__ = "source_parts"
    document_number: Mapped[int] = mapped_column(
        Number, ForeignKey("documents.number", ondelete="CASCADE"), primary_key=True
    )
    part: Mapped[int] = mapped_column(Number, primary_key=True)
    tenant: Mapped[str] = mapped_column(String(128))
    content: Mapped[bytes] = mapped_column(LargeBinary)


class VersionRow(Base):
    """An immutable version: ``version`` is the SHA-256 of ``text``."""

    __tablename__ = "versions"
    document_number: Mapped[int] = mapped_column(
        Number, ForeignKey("documents.number", ondelete="CASCADE"), primary_key=True
    )
    version: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(128))
    # Order of storing inside the document.
    sequence: Mapped[int] = mapped_column(Number)
    text: Mapped[str] = mapped_column(Text)
    characters: Mapped[int] = mapped_column(Number)
    source_sha256: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[float] = mapped_column(Float)
    # Blocks and pages of a text that was converted (``layout.py``); none of one that is read as it came.
    layout: Mapped[bytes | None] = mapped_column(LargeBinary, nullable=True, default=None)
    pages: Mapped[int] = mapped_column(Number, default=0, server_default="0")


class ChunkRow(Base):
    """A chunk of a serving version: characters [start, end) of its text.

    ``chunk`` follows from tenant, collection, document and indexed text, so that a rebuilt
    index equals the first, ties included, and what an edit left alone keeps its number.
    """

    __tablename__ = "chunks"
    __table_args__ = (
        ForeignKeyConstraint(
            ["document_number", "version"], ["versions.document_number", "versions.version"], ondelete="CASCADE"
        ),
        Index("ix_chunks_document", "document_number"),
        Index("ix_chunks_vector", "tenant", "text_digest"),
        Index("ix_chunks_collection", "collection_number"),
    )
    chunk: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(Number, ForeignKey("collections.number", ondelete="CASCADE"))
    document_number: Mapped[int] = mapped_column(Number)
    version: Mapped[str] = mapped_column(String(64))
    start: Mapped[int] = mapped_column(Number)
    end: Mapped[int] = mapped_column(Number)
    text: Mapped[str] = mapped_column(Text)
    # What stands before the text where it is embedded and indexed.
    context: Mapped[str] = mapped_column(Text)
    heading_path_json: Mapped[str] = mapped_column(Text)
    # Counted from 1; 0 where the document has no pages.
    first_page: Mapped[int] = mapped_column(Number, default=0, server_default="0")
    last_page: Mapped[int] = mapped_column(Number, default=0, server_default="0")
    text_digest: Mapped[bytes] = mapped_column(LargeBinary(32))


def by_number(tenant: str, chunks: Sequence[int]) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Chunks of a tenant by their numbers.

    The function keeps the tenant's index out of it: for more than a few numbers SQLite would read all of the tenant's chunks.
    """
    return func.coalesce(ChunkRow.tenant, "") == tenant, ChunkRow.chunk.in_(chunks)


class ReembeddingRow(Base):
    """A change of a collection's embedding model: under way, or why it came to nothing."""

    __tablename__ = "reembeddings"
    collection_number: Mapped[int] = mapped_column(
        Number, ForeignKey("collections.number", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    tenant: Mapped[str] = mapped_column(String(128))
    model: Mapped[str] = mapped_column(String(128))
    model_digest: Mapped[str] = mapped_column(String(80))
    dimensions: Mapped[int] = mapped_column(Number)
    running: Mapped[bool] = mapped_column(Boolean)
    # Why it waits, or failed.
    reason: Mapped[str] = mapped_column(Text, default="")
    # Of the index that is built for it; 0 before there is one.
    build: Mapped[int] = mapped_column(Number, default=0)
    started_at: Mapped[float] = mapped_column(Float)


class ReembeddedRow(Base):
    """A document that has its chunks under the new model: those of this version, under this title."""

    __tablename__ = "reembedded_documents"
    document_number: Mapped[int] = mapped_column(
        Number, ForeignKey("documents.number", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    collection_number: Mapped[int] = mapped_column(
        Number, ForeignKey("reembeddings.collection_number", ondelete="CASCADE"), index=True
    )
    version: Mapped[str] = mapped_column(String(64))
    title: Mapped[str] = mapped_column(String(512))
    chunks: Mapped[int] = mapped_column(Number)


class NewChunkRow(Base):
    """A chunk under the new model, beside those that serve; columns as in :class:`ChunkRow`."""

    __tablename__ = "reembedded_chunks"
    __table_args__ = (
        Index("ix_reembedded_chunks_document", "document_number"),
        Index("ix_reembedded_chunks_vector", "tenant", "text_digest"),
        Index("ix_reembedded_chunks_collection", "collection_number"),
    )
    chunk: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(String(128))
    collection_number: Mapped[int] = mapped_column(Number)
    document_number: Mapped[int] = mapped_column(
        Number, ForeignKey("reembedded_documents.document_number", ondelete="CASCADE")
    )
    version: Mapped[str] = mapped_column(String(64))
    start: Mapped[int] = mapped_column(Number)
    end: Mapped[int] = mapped_column(Number)
    text: Mapped[str] = mapped_column(Text)
    context: Mapped[str] = mapped_column(Text)
    heading_path_json: Mapped[str] = mapped_column(Text)
    first_page: Mapped[int] = mapped_column(Number, default=0)
    last_page: Mapped[int] = mapped_column(Number, default=0)
    text_digest: Mapped[bytes] = mapped_column(LargeBinary(32))


class VectorRow(Base):
    """A vector by what was embedded.  Per tenant: a shared one would tell a tenant what another has."""

    __tablename__ = "vectors"
    tenant: Mapped[str] = mapped_column(String(128), primary_key=True)
    model_digest: Mapped[str] = mapped_column(String(80), primary_key=True)
    text_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    # Little-endian binary16.
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class HoldRow(Base):
    """A reason to keep a vector that no chunk uses: ``holder`` is a document's number, or 0; see ``holds``."""

    __tablename__ = "vector_holds"
    __table_args__ = (Index("ix_vector_holds_holder", "tenant", "holder"),)
    tenant: Mapped[str] = mapped_column(String(128), primary_key=True)
    text_digest: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    holder: Mapped[int] = mapped_column(Number, primary_key=True, autoincrement=False)


def in_turn(session: Session, tenant: str) -> None:
    """Take the tenant's turn to write.  One turn a transaction, so turns cannot lock each other out."""
    take_turn(session, f"retriever/{tenant}")
