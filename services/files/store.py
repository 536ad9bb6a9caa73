"""The tables of files.  Nothing else in the service knows a column.

Every row carries its tenant and every key begins with it: a query that forgets the tenant does not
find one row by luck.  Times are Unix seconds.  The schema is created by ``migrations`` alone; a test
compares the two.
"""

from sqlalchemy import BigInteger, Boolean, Float, ForeignKeyConstraint, Index, Integer, LargeBinary, String, true
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

Id = String(128)
# SQLite numbers rows by INTEGER only; a plain BIGINT everywhere else.
Big = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The schema of files."""


class FileRow(Base):
    """One file: the reference that keeps a blob.  Ids sort by the time at which files were created."""

    __tablename__ = "files"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    file: Mapped[str] = mapped_column(String(64), primary_key=True)
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    media_type: Mapped[str] = mapped_column(String(127))
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int] = mapped_column(Big)
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float | None] = mapped_column(Float)
    # Whether it may be in vector stores.  Of a row that an older version wrote nobody knows.
    attached: Mapped[bool] = mapped_column(Boolean, server_default=true())
    __table_args__ = (
        Index("ix_files_purpose", "tenant", "purpose", "file"),
        Index("ix_files_sha256", "sha256"),
        Index("ix_files_expires_at", "expires_at"),
    )


class ResponseRow(Base):
    """One stored response; ``fingerprint`` is a digest of all that was put, by which a repeat is known."""

    __tablename__ = "responses"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    response: Mapped[str] = mapped_column(String(64), primary_key=True)
    previous: Mapped[str] = mapped_column(String(64))
    model: Mapped[str] = mapped_column(String(256))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary(32))
    size_bytes: Mapped[int] = mapped_column(Big)
    created_at: Mapped[float] = mapped_column(Float)
    expires_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (Index("ix_responses_expires_at", "expires_at"),)


class InputItemRow(Base):
    """One input item of a response, at its place from 0."""

    __tablename__ = "input_items"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    response: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True)
    item: Mapped[str] = mapped_column(String(64))
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "response"],
            ["responses.tenant", "responses.response"],
            name="fk_input_items_response",
            ondelete="CASCADE",
        ),
    )


class HoldingRow(Base):
    """How much of a kind a tenant keeps: changed in the transactions that add and remove, so it is always the sum."""

    __tablename__ = "holdings"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    entries: Mapped[int] = mapped_column(Big)
    size_bytes: Mapped[int] = mapped_column(Big)


def held(session: Session, tenant: str, kind: str) -> tuple[int, int]:
    """How many entries of a kind a tenant keeps, and their bytes."""
    row = session.get(HoldingRow, (tenant, kind))
    return (0, 0) if row is None else (row.entries, row.size_bytes)


def hold(session: Session, tenant: str, kind: str, entries: int, size_bytes: int) -> HoldingRow:
    """Add to what a tenant keeps, or take from it; how much it is then.  The writer has the service's turn."""
    row = session.get(HoldingRow, (tenant, kind))
    if row is None:
        row = HoldingRow(tenant=tenant, kind=kind, entries=0, size_bytes=0)
        session.add(row)
    row.entries += entries
    row.size_bytes += size_bytes
    return row
