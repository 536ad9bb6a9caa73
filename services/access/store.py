"""The tables of access.  Times are Unix microseconds: whole numbers order and page exactly."""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from services.chassis.database import take_turn

_Id = String(128)
_Big = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """The schema of access."""


class TenantRow(Base):
    """A customer of the deployment; never deleted, so that its name is never given twice."""

    __tablename__ = "tenants"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    display_name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[int] = mapped_column(_Big)
    disabled_at: Mapped[int | None] = mapped_column(_Big)


class KeyRow(Base):
    """An API key: its keyed hash, never its text.  ``roles`` are names with commas between."""

    __tablename__ = "keys"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(_Id, ForeignKey("tenants.tenant", name="fk_keys_tenant"))
    display_name: Mapped[str] = mapped_column(String(200))
    roles: Mapped[str] = mapped_column(String(200))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_at: Mapped[int] = mapped_column(_Big)
    expires_at: Mapped[int | None] = mapped_column(_Big)
    revoked_at: Mapped[int | None] = mapped_column(_Big)
    __table_args__ = (Index("ix_keys_tenant", "tenant", "created_at"), Index("ix_keys_revoked_at", "revoked_at"))


class UsageRow(Base):
    """What one request used.  ``receipt`` is the serialised receipt, kept as it was given."""

    __tablename__ = "usage"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    request_id: Mapped[str] = mapped_column(_Id, primary_key=True)
    sequence: Mapped[int] = mapped_column(_Big)
    principal: Mapped[str] = mapped_column(_Id)
    method: Mapped[str] = mapped_column(String(200))
    receipt: Mapped[bytes] = mapped_column(LargeBinary)
    prompt_tokens: Mapped[int] = mapped_column(_Big)
    completion_tokens: Mapped[int] = mapped_column(_Big)
    created_at: Mapped[int] = mapped_column(_Big)
    __table_args__ = (Index("ix_usage_sequence", "tenant", "sequence", unique=True),)


class AuditRow(Base):
    """One change that somebody made; written in the transaction of the change, never changed."""

    __tablename__ = "audit"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    sequence: Mapped[int] = mapped_column(_Big, primary_key=True)
    principal: Mapped[str] = mapped_column(_Id)
    action: Mapped[str] = mapped_column(String(64))
    resource: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(_Big)


class CounterRow(Base):
    """A named number that only rises, taken inside the writing transaction."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(160), primary_key=True)
    value: Mapped[int] = mapped_column(_Big)


def in_turn(session: Session, tenant: str) -> None:
    """Take the tenant's turn to write, before the transaction reads what it decides by."""
    take_turn(session, f"access/{tenant}")


def next_number(session: Session, name: str) -> int:
    """Raise a counter by one and return it.  Nobody else raises it until the transaction ends."""
    take_turn(session, f"access/counters/{name}")
    row = session.get(CounterRow, name)
    if row is None:
        row = CounterRow(name=name, value=0)
        session.add(row)
    row.value += 1
    session.flush()
    return row.value
