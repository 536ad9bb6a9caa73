"""The registry's tables.  Nothing else in the service knows a column.

Every row carries its tenant and every key begins with it: a query that forgets
the tenant does not find one row by luck.  Times are Unix seconds.  The schema is
created by ``migrations`` alone; a test compares the two.
"""

from sqlalchemy import BigInteger, Float, ForeignKeyConstraint, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

# What identifies things has one width everywhere: ids are short, digests are sha256: and 64 digits.
_Id = String(128)
_Digest = String(80)
# SQLite numbers rows by INTEGER only; a plain BIGINT everywhere else.
_Big = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The registry's schema."""


class ModelRow(Base):
    """A named line of versions.  ``revision`` rises with each change; ``last_number`` is never reused."""

    __tablename__ = "models"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    model: Mapped[str] = mapped_column(_Id, primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    labels: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(_Big)
    last_number: Mapped[int] = mapped_column(_Big)
    created_at: Mapped[float] = mapped_column(Float)


class VersionRow(Base):
    """An immutable version.  ``manifest`` is the canonical text whose digest is ``version``."""

    __tablename__ = "versions"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
    model: Mapped[str] = mapped_column(_Id)
    number: Mapped[int] = mapped_column(_Big)
    parent: Mapped[str] = mapped_column(_Digest)
    manifest: Mapped[str] = mapped_column(Text)
    principal: Mapped[str] = mapped_column(_Id)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        UniqueConstraint("tenant", "model", "number", name="uq_versions_number"),
        ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_versions_model"),
        Index("ix_versions_version", "version"),
        Index("ix_versions_parent", "tenant", "parent"),
    )


class FileRow(Base):
    """One file of a version: the reference that keeps a blob and that gives the right to read it."""

    __tablename__ = "files"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
    filename: Mapped[str] = mapped_column(String(128), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(_Big)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_files_version"),
        Index("ix_files_sha256", "sha256", "tenant"),
    )


class UploadRow(Base):
    """A finished upload: the tenant's right to the bytes until a version references them or the sweep comes."""

    __tablename__ = "uploads"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    size_bytes: Mapped[int] = mapped_column(_Big)
    completed_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (Index("ix_uploads_sha256", "sha256"), Index("ix_uploads_completed_at", "completed_at"))


class AliasRow(Base):
    """An alias.  ``serving`` is empty until a first target was ready."""

    __tablename__ = "aliases"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    model: Mapped[str] = mapped_column(_Id, primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    target: Mapped[str] = mapped_column(_Digest)
    serving: Mapped[str] = mapped_column(_Digest)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    etag: Mapped[str] = mapped_column(String(40))
    principal: Mapped[str] = mapped_column(_Id)
    updated_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_aliases_model"),
        ForeignKeyConstraint(["tenant", "target"], ["versions.tenant", "versions.version"], name="fk_aliases_target"),
        Index("ix_aliases_target", "tenant", "target"),
        Index("ix_aliases_serving", "tenant", "serving"),
    )


class MoveRow(Base):
    """One move of an alias's serving version.  Kept when the alias is deleted: numbers never repeat."""

    __tablename__ = "alias_moves"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    model: Mapped[str] = mapped_column(_Id, primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(_Big, primary_key=True)
    from_version: Mapped[str] = mapped_column(_Digest)
    to_version: Mapped[str] = mapped_column(_Digest)
    principal: Mapped[str] = mapped_column(_Id)
    created_at: Mapped[float] = mapped_column(Float)


class LifeRow(Base):
    """One life of a generator and when it last spoke; ``number`` rises, the highest is the present one."""

    __tablename__ = "generator_lives"
    generator: Mapped[str] = mapped_column(_Id, primary_key=True)
    instance: Mapped[str] = mapped_column(_Id, primary_key=True)
    number: Mapped[int] = mapped_column(_Big)
    seen_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("generator", "number", name="uq_generator_lives_number"),)


class ReadinessRow(Base):
    """A generator's last word on a version, by the life that said it."""

    __tablename__ = "readiness"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
    generator: Mapped[str] = mapped_column(_Id, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[float] = mapped_column(Float)
    instance: Mapped[str] = mapped_column(_Id, server_default="")
    __table_args__ = (Index("ix_readiness_generator", "generator"),)


class EventRow(Base):
    """One change.

    ``sequence`` counts all tenants' events, ``tenant_sequence`` one tenant's: what a
    tenant sees must not tell how busy the others are.
    """

    __tablename__ = "events"
    sequence: Mapped[int] = mapped_column(_Big, primary_key=True, autoincrement=False)
    tenant: Mapped[str] = mapped_column(_Id)
    tenant_sequence: Mapped[int] = mapped_column(_Big)
    kind: Mapped[str] = mapped_column(String(32))
    model: Mapped[str] = mapped_column(_Id)
    version: Mapped[str] = mapped_column(_Digest)
    alias: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("tenant", "tenant_sequence", name="uq_events_tenant_sequence"),)


class CounterRow(Base):
    """A named number that only rises.

    Taken inside the writing transaction, so numbers appear in the order in which they
    commit: a watcher that has seen n has seen all before n.
    """

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(160), primary_key=True)
    value: Mapped[int] = mapped_column(_Big)


def next_number(session: Session, name: str) -> int:
    """Raise a counter by one and return it.  Whoever writes has the registry's turn, so nobody else raises it."""
    row = session.get(CounterRow, name)
    if row is None:
        row = CounterRow(name=name, value=0)
        session.add(row)
    row.value += 1
    session.flush()
    return row.value
