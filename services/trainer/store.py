"""The trainer's tables.  Nothing else in the service knows a column.

Every key begins with the tenant, so that a query which forgets it finds nothing by luck.
Times are Unix seconds.  The schema is created by `migrations` alone; a test
compares the two.
"""

from sqlalchemy import BigInteger, Boolean, Float, ForeignKeyConstraint, Index, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_Id = String(128)
_Digest = String(80)
# SQLite numbers rows by INTEGER only; a plain BIGINT everywhere else.
_Big = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The trainer's schema."""


class DatasetRow(Base):
    """A version of a dataset; its bytes are the blob of the digest.

    `dataset` is the key by which it is told apart: the name alone for the first version, name@version for others.
    """

    __tablename__ = "datasets"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    dataset: Mapped[str] = mapped_column(_Id, primary_key=True)
    # The key of a first version is its name.
    name: Mapped[str] = mapped_column(_Id, default=lambda context: context.get_current_parameters()["dataset"])
    version: Mapped[int] = mapped_column(Integer, default=1)
    digest: Mapped[str] = mapped_column(_Digest)
    filename: Mapped[str] = mapped_column(String(255))
    format: Mapped[str] = mapped_column(String(32))
    rows: Mapped[int] = mapped_column(_Big)
    size_bytes: Mapped[int] = mapped_column(_Big)
    tokens: Mapped[int] = mapped_column(_Big)
    max_row_tokens: Mapped[int] = mapped_column(_Big)
    supervised_tokens: Mapped[int] = mapped_column(_Big)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        UniqueConstraint("tenant", "name", "version", name="uq_datasets_version"),
        Index("ix_datasets_digest", "digest", "tenant"),
    )


class DatasetNameRow(Base):
    """The number of a name's last version, which stays when the version goes: no number is given twice."""

    __tablename__ = "dataset_names"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    name: Mapped[str] = mapped_column(_Id, primary_key=True)
    last_version: Mapped[int] = mapped_column(Integer)


class JobRow(Base):
    """A job.  `order`, `progress`, `measures` and `lease_nodes` are JSON; `sequence` is that of its newest event."""

    __tablename__ = "jobs"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    job: Mapped[str] = mapped_column(_Id, primary_key=True)
    principal: Mapped[str] = mapped_column(_Id)
    dataset_digest: Mapped[str] = mapped_column(_Digest)
    order: Mapped[str] = mapped_column("order_json", Text)
    progress: Mapped[str] = mapped_column("progress_json", Text)
    state: Mapped[str] = mapped_column(String(16))
    version: Mapped[str] = mapped_column(_Digest)
    error_reason: Mapped[str] = mapped_column(String(64))
    error_message: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(Integer)
    crashes: Mapped[int] = mapped_column(Integer)
    sequence: Mapped[int] = mapped_column(_Big)
    created_at: Mapped[float] = mapped_column(Float)
    queued_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    validation_digest: Mapped[str] = mapped_column(_Digest, default="", server_default="")
    lease_owner: Mapped[str] = mapped_column(_Id, default="", server_default="")
    lease_epoch: Mapped[int] = mapped_column(_Big, default=0, server_default="0")
    lease_expires_at: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    lease_since: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    lease_nodes: Mapped[str] = mapped_column("lease_nodes_json", Text, default="[]", server_default="[]")
    measures: Mapped[str] = mapped_column("measures_json", Text, default="{}", server_default="{}")
    result_seen_at: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    __table_args__ = (
        Index("ix_jobs_state", "state", "queued_at"),
        Index("ix_jobs_dataset", "tenant", "dataset_digest"),
    )


class EventRow(Base):
    """One event of a job, never changed."""

    __tablename__ = "events"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    job: Mapped[str] = mapped_column(_Id, primary_key=True)
    sequence: Mapped[int] = mapped_column(_Big, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16))
    progress: Mapped[str] = mapped_column("progress_json", Text)
    learning_rate: Mapped[float] = mapped_column(Float)
    gradient_norm: Mapped[float] = mapped_column(Float)
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Float)
    tokens_per_second: Mapped[float] = mapped_column(Float, default=0.0, server_default="0")
    memory_bytes: Mapped[int] = mapped_column(_Big, default=0, server_default="0")
    evaluation: Mapped[str] = mapped_column("evaluation_json", Text, default="{}", server_default="{}")
    __table_args__ = (ForeignKeyConstraint(["tenant", "job"], ["jobs.tenant", "jobs.job"], name="fk_events_job"),)


class UsageRow(Base):
    """What a tenant has used: seconds of machine, decayed up to `used_at`, and tokens trained in a window of the clock.

    `started` is JSON: when a job of each class (its number as text) was last started.
    """

    __tablename__ = "tenant_usage"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    used_seconds: Mapped[float] = mapped_column(Float)
    used_at: Mapped[float] = mapped_column(Float)
    window_tokens: Mapped[int] = mapped_column(_Big)
    window_at: Mapped[float] = mapped_column(Float)
    started: Mapped[str] = mapped_column("started_json", Text)


class SweepRow(Base):
    """A sweep.  `rungs` is JSON; `best` is the job of the best member, empty while not known."""

    __tablename__ = "sweeps"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    sweep: Mapped[str] = mapped_column(_Id, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    rungs: Mapped[str] = mapped_column("rungs_json", Text)
    kept_ratio: Mapped[float] = mapped_column(Float)
    best: Mapped[str] = mapped_column(_Id)
    message: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    __table_args__ = (Index("ix_sweeps_state", "state"),)


class SweepMemberRow(Base):
    """What a sweep knows of one of its jobs.  `point` and `hold_steps` are JSON; `position` counts from 0."""

    __tablename__ = "sweep_members"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    sweep: Mapped[str] = mapped_column(_Id, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    job: Mapped[str] = mapped_column(_Id)
    point: Mapped[str] = mapped_column("point_json", Text)
    hold_steps: Mapped[str] = mapped_column("hold_steps_json", Text)
    released: Mapped[int] = mapped_column(Integer)
    trained: Mapped[bool] = mapped_column(Boolean)
    ended_at_rung: Mapped[int] = mapped_column(Integer)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "sweep"], ["sweeps.tenant", "sweeps.sweep"], name="fk_sweep_members_sweep"),
        ForeignKeyConstraint(["tenant", "job"], ["jobs.tenant", "jobs.job"], name="fk_sweep_members_job"),
        UniqueConstraint("tenant", "job", name="uq_sweep_members_job"),
    )
