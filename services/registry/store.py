"""The registry's tables; those of what serves are in ``store_aliases``.  Nothing else in the service knows a column.

Every row carries its tenant and every key begins with it: a query that forgets
the tenant does not find one row by luck.  Times are Unix seconds.  The schema is
created by ``migrations`` alone; a test compares the two.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    false,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

# What identifies things has one width everywhere: ids are short, digests are sha256: and 64 digits.
Id = String(128)
Digest = String(80)
# SQLite numbers rows by INTEGER only; a plain BIGINT everywhere else.
Big = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The registry's schema."""


class ModelRow(Base):
    """A named line of versions.  ``revision`` rises with each change; ``last_number`` is never reused.

    ``examples`` is a JSON list of questions.

    A deleted one is hidden from ``deleted_at`` and gone from ``purge_at`` on; 0 days or versions to keep set no bound.
    """

    __tablename__ = "models"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(Id, primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    labels: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(Big)
    last_number: Mapped[int] = mapped_column(Big)
    created_at: Mapped[float] = mapped_column(Float)
    card: Mapped[str] = mapped_column(Text, server_default="")
    task: Mapped[str] = mapped_column(String(64), server_default="")
    keep_last: Mapped[int] = mapped_column(Integer, server_default="0")
    keep_days: Mapped[int] = mapped_column(Integer, server_default="0")
    deleted_at: Mapped[float | None] = mapped_column(Float)
    purge_at: Mapped[float | None] = mapped_column(Float)
    examples: Mapped[str] = mapped_column(Text, server_default="[]")
    fallback: Mapped[str] = mapped_column(Text, server_default="")


class VersionRow(Base):
    """An immutable version.  ``manifest`` is the canonical text whose digest is ``version``.

    ``base_digest``, ``kind``, ``job`` and ``dataset_digest`` repeat the manifest, to be searched by.  A deleted one is
    hidden from ``deleted_at`` and gone from ``purge_at`` on; ``with_model`` says that it went with its model.
    ``unservable_reason`` is our word on an adapter's files, empty for what engines can load.
    """

    __tablename__ = "versions"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[str] = mapped_column(Digest, primary_key=True)
    model: Mapped[str] = mapped_column(Id)
    number: Mapped[int] = mapped_column(Big)
    parent: Mapped[str] = mapped_column(Digest)
    manifest: Mapped[str] = mapped_column(Text)
    principal: Mapped[str] = mapped_column(Id)
    created_at: Mapped[float] = mapped_column(Float)
    base_digest: Mapped[str] = mapped_column(Digest, server_default="")
    kind: Mapped[str] = mapped_column(String(16), server_default="")
    job: Mapped[str] = mapped_column(Id, server_default="")
    dataset_digest: Mapped[str] = mapped_column(Digest, server_default="")
    deleted_at: Mapped[float | None] = mapped_column(Float)
    purge_at: Mapped[float | None] = mapped_column(Float)
    with_model: Mapped[bool] = mapped_column(Boolean, server_default=false())
    unservable_reason: Mapped[str] = mapped_column(Text, server_default="")
    __table_args__ = (
        UniqueConstraint("tenant", "model", "number", name="uq_versions_number"),
        ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_versions_model"),
        Index("ix_versions_version", "version"),
        Index("ix_versions_parent", "tenant", "parent"),
        Index("ix_versions_created_at", "tenant", "created_at"),
        Index("ix_versions_purge_at", "purge_at"),
        Index("ix_versions_base_digest", "tenant", "base_digest"),
    )


class ParentRow(Base):
    """One parent of a version; position 0 is the one that training continued from, as ``versions.parent`` says too."""

    __tablename__ = "parents"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[str] = mapped_column(Digest, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    parent: Mapped[str] = mapped_column(Digest)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_parents_version"),
        Index("ix_parents_parent", "tenant", "parent"),
    )


class TagRow(Base):
    """A tag of a version."""

    __tablename__ = "tags"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[str] = mapped_column(Digest, primary_key=True)
    tag: Mapped[str] = mapped_column(String(63), primary_key=True)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_tags_version"),
        Index("ix_tags_tag", "tenant", "tag"),
    )


class MeasurementRow(Base):
    """One value of a metric, never changed.

    ``source`` is "training" for what the manifest's metrics say of the run itself and "evaluation" for the rest.
    """

    __tablename__ = "measurements"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[str] = mapped_column(Digest, primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True)
    source: Mapped[str] = mapped_column(String(16))
    metric: Mapped[str] = mapped_column(String(128))
    value: Mapped[float] = mapped_column(Float)
    dataset_digest: Mapped[str] = mapped_column(Digest)
    dataset_rows: Mapped[int] = mapped_column(Big)
    note: Mapped[str] = mapped_column(Text)
    principal: Mapped[str] = mapped_column(Id)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_measurements_version"
        ),
        Index("ix_measurements_metric", "tenant", "metric", "dataset_digest"),
    )


class FileRow(Base):
    """One file of a version: the reference that keeps a blob and that gives the right to read it."""

    __tablename__ = "files"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[str] = mapped_column(Digest, primary_key=True)
    filename: Mapped[str] = mapped_column(String(128), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(Big)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_files_version"),
        Index("ix_files_sha256", "sha256", "tenant"),
    )


class UploadRow(Base):
    """A finished upload: the tenant's right to the bytes until a version references them or the sweep comes."""

    __tablename__ = "uploads"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(Big)
    completed_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (Index("ix_uploads_sha256", "sha256"), Index("ix_uploads_completed_at", "completed_at"))


class EventRow(Base):
    """One change.

    ``sequence`` counts all tenants' events, ``tenant_sequence`` one tenant's: what a
    tenant sees must not tell how busy the others are.
    """

    __tablename__ = "events"
    sequence: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(Id)
    tenant_sequence: Mapped[int] = mapped_column(Big)
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(Id)
    version: Mapped[str] = mapped_column(Digest)
    alias: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("tenant", "tenant_sequence", name="uq_events_tenant_sequence"),)


class ChangeRow(Base):
    """A deletion, restoration or purge.  Kept when what it tells of is gone: numbers never repeat."""

    __tablename__ = "changes"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(Id, primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True)
    kind: Mapped[str] = mapped_column(String(24))
    version: Mapped[str] = mapped_column(Digest)
    version_number: Mapped[int] = mapped_column(Big)
    principal: Mapped[str] = mapped_column(Id)
    created_at: Mapped[float] = mapped_column(Float)
    reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)


class LeaseRow(Base):
    """Who does a piece of long work, named by its SHA-256, until when by the database's clock, and how far it is."""

    __tablename__ = "leases"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    work: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(String(64))
    progress: Mapped[str] = mapped_column(Text)
    expires_at: Mapped[float] = mapped_column(Float)


class CounterRow(Base):
    """A named number that only rises.

    Taken inside the writing transaction, so numbers appear in the order in which they
    commit: a watcher that has seen n has seen all before n.
    """

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(160), primary_key=True)
    value: Mapped[int] = mapped_column(Big)


def next_number(session: Session, name: str, count: int = 1) -> int:
    """Raise a counter by ``count`` and return the first of the new numbers.

    Whoever writes has the registry's turn, so nobody else raises it.
    """
    row = session.get(CounterRow, name)
    if row is None:
        row = CounterRow(name=name, value=0)
        session.add(row)
    row.value += count
    session.flush()
    return row.value - count + 1
