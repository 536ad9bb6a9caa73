"""The tables of batches.  Times are Unix seconds, but for a lease's end, which is by the database's clock."""

from sqlalchemy import Boolean, Float, ForeignKeyConstraint, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from services.files.store import Base, Big, Id


class BatchRow(Base):
    """One batch.

    ``roles`` and ``scopes`` are its creator's, names with commas between; of what was created before they were kept, the
    least that a batch needs.
    ``ending`` is the state that finalizing leads to.  ``run`` names the one run that may write to the batch, under
    ``holder``'s lease until ``leased_until``; whoever takes the lease over gives it another name.
    """

    __tablename__ = "batches"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    batch: Mapped[str] = mapped_column(String(64), primary_key=True)
    principal: Mapped[str] = mapped_column(Id)
    endpoint: Mapped[str] = mapped_column(String(64))
    input_file: Mapped[str] = mapped_column(String(64))
    input_sha256: Mapped[str] = mapped_column(String(64))
    output_file: Mapped[str] = mapped_column(String(64))
    error_file: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    ending: Mapped[str] = mapped_column(String(16))
    window_seconds: Mapped[int] = mapped_column(Big)
    output_seconds: Mapped[int] = mapped_column(Big)
    details: Mapped[str] = mapped_column(Text)
    problems: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(String(256))
    total: Mapped[int] = mapped_column(Big)
    completed: Mapped[int] = mapped_column(Big)
    failed: Mapped[int] = mapped_column(Big)
    prompt_tokens: Mapped[int] = mapped_column(Big)
    cached_tokens: Mapped[int] = mapped_column(Big)
    completion_tokens: Mapped[int] = mapped_column(Big)
    created_at: Mapped[float] = mapped_column(Float)
    started_at: Mapped[float | None] = mapped_column(Float)
    finalized_at: Mapped[float | None] = mapped_column(Float)
    cancelled_at: Mapped[float | None] = mapped_column(Float)
    ended_at: Mapped[float | None] = mapped_column(Float)
    holder: Mapped[str] = mapped_column(String(64))
    run: Mapped[str] = mapped_column(String(64))
    leased_until: Mapped[float] = mapped_column(Float)
    roles: Mapped[str] = mapped_column(String(200), server_default="member")
    scopes: Mapped[str] = mapped_column(String(400), server_default="inference")
    __table_args__ = (Index("ix_batches_state", "state", "batch"), Index("ix_batches_input_sha256", "input_sha256"))


class ResultRow(Base):
    """What became of one line, as the line of its file, until the files are written; ``answered`` says of which."""

    __tablename__ = "batch_results"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    batch: Mapped[str] = mapped_column(String(64), primary_key=True)
    line: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    answered: Mapped[bool] = mapped_column(Boolean)
    written: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "batch"], ["batches.tenant", "batches.batch"], name="fk_batch_results_batch"),
    )
