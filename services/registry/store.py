"""The registry's tables.  Nothing else in the service knows a column.

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
_Id = String(128)
_Digest = String(80)
# SQLite numbers rows by INTEGER only; a plain BIGINT everywhere else.
_Big = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The registry's schema."""


class ModelRow(Base):
    """A named line of versions.  ``revision`` rises with each change; ``last_number`` is never reused.

    A deleted one is hidden from ``deleted_at`` and gone from ``purge_at`` on; 0 days or versions to keep set no bound.
    """

    __tablename__ = "models"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    model: Mapped[str] = mapped_column(_Id, primary_key=True)
    description: Mapped[str] = mapped_column(Text)
    labels: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(_Big)
    last_number: Mapped[int] = mapped_column(_Big)
    created_at: Mapped[float] = mapped_column(Float)
    card: Mapped[str] = mapped_column(Text, server_default="")
    task: Mapped[str] = mapped_column(String(64), server_default="")
    keep_last: Mapped[int] = mapped_column(Integer, server_default="0")
    keep_days: Mapped[int] = mapped_column(Integer, server_default="0")
    deleted_at: Mapped[float | None] = mapped_column(Float)
    purge_at: Mapped[float | None] = mapped_column(Float)


class VersionRow(Base):
    """An immutable version.  ``manifest`` is the canonical text whose digest is ``version``.

    ``base_digest``, ``kind``, ``job`` and ``dataset_digest`` repeat the manifest, to be searched by.  A deleted one is
    hidden from ``deleted_at`` and gone from ``purge_at`` on; ``with_model`` says that it went with its model.
    ``unservable_reason`` is our word on an adapter's files, empty for what engines can load.
    """

    __tablename__ = "versions"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
    model: Mapped[str] = mapped_column(_Id)
    number: Mapped[int] = mapped_column(_Big)
    parent: Mapped[str] = mapped_column(_Digest)
    manifest: Mapped[str] = mapped_column(Text)
    principal: Mapped[str] = mapped_column(_Id)
    created_at: Mapped[float] = mapped_column(Float)
    base_digest: Mapped[str] = mapped_column(_Digest, server_default="")
    kind: Mapped[str] = mapped_column(String(16), server_default="")
    job: Mapped[str] = mapped_column(_Id, server_default="")
    dataset_digest: Mapped[str] = mapped_column(_Digest, server_default="")
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
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    parent: Mapped[str] = mapped_column(_Digest)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_parents_version"),
        Index("ix_parents_parent", "tenant", "parent"),
    )


class TagRow(Base):
    """A tag of a version."""

    __tablename__ = "tags"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
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
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
    number: Mapped[int] = mapped_column(_Big, primary_key=True)
    source: Mapped[str] = mapped_column(String(16))
    metric: Mapped[str] = mapped_column(String(128))
    value: Mapped[float] = mapped_column(Float)
    dataset_digest: Mapped[str] = mapped_column(_Digest)
    dataset_rows: Mapped[int] = mapped_column(_Big)
    note: Mapped[str] = mapped_column(Text)
    principal: Mapped[str] = mapped_column(_Id)
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
    """An alias.  ``serving`` is empty until a first target was ready, ``previous`` until a second one was.

    ``why`` is what whoever set the target gave as the reason.
    """

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
    previous: Mapped[str] = mapped_column(_Digest, server_default="")
    why: Mapped[str] = mapped_column(Text, server_default="")
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_aliases_model"),
        ForeignKeyConstraint(["tenant", "target"], ["versions.tenant", "versions.version"], name="fk_aliases_target"),
        Index("ix_aliases_target", "tenant", "target"),
        Index("ix_aliases_serving", "tenant", "serving"),
    )


class CanaryRow(Base):
    """A version that gets a share of an alias's requests: ``buckets`` of a hundred, a JSON list of numbers."""

    __tablename__ = "canaries"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    model: Mapped[str] = mapped_column(_Id, primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    version: Mapped[str] = mapped_column(_Digest, primary_key=True)
    buckets: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "model", "alias"], ["aliases.tenant", "aliases.model", "aliases.alias"], name="fk_canaries_alias"
        ),
        ForeignKeyConstraint(
            ["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_canaries_version"
        ),
        Index("ix_canaries_version", "tenant", "version"),
    )


class GateRow(Base):
    """A gate; ``policy`` is its conditions as JSON, read and written whole."""

    __tablename__ = "gates"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    model: Mapped[str] = mapped_column(_Id, primary_key=True)
    gate: Mapped[str] = mapped_column(String(64), primary_key=True)
    policy: Mapped[str] = mapped_column(Text)
    principal: Mapped[str] = mapped_column(_Id)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_gates_model"),
    )


class MoveRow(Base):
    """One thing that happened to an alias.  Kept when the alias is deleted: numbers never repeat."""

    __tablename__ = "alias_moves"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    model: Mapped[str] = mapped_column(_Id, primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(_Big, primary_key=True)
    from_version: Mapped[str] = mapped_column(_Digest)
    to_version: Mapped[str] = mapped_column(_Digest)
    principal: Mapped[str] = mapped_column(_Id)
    created_at: Mapped[float] = mapped_column(Float)
    kind: Mapped[str] = mapped_column(String(16), server_default="SET")
    reason: Mapped[str] = mapped_column(Text, server_default="")
    percent: Mapped[int] = mapped_column(Integer, server_default="0")
    detail: Mapped[str] = mapped_column(Text, server_default="")


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
