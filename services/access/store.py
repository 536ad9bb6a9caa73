"""The tables of access.  Times are Unix microseconds: whole numbers order and page exactly."""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from services.chassis.database import take_turn
from services.chassis.errors import Failure, Reason

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


class ProjectRow(Base):
    """A label under which a tenant groups keys, usage and limits."""

    __tablename__ = "projects"
    tenant: Mapped[str] = mapped_column(_Id, ForeignKey("tenants.tenant", name="fk_projects_tenant"), primary_key=True)
    project: Mapped[str] = mapped_column(_Id, primary_key=True)
    display_name: Mapped[str] = mapped_column(String(200))
    created_at: Mapped[int] = mapped_column(_Big)


class KeyRow(Base):
    """An API key: its keyed hash, never its text.  ``roles`` and ``scopes`` are names with commas between."""

    __tablename__ = "keys"
    key: Mapped[str] = mapped_column(String(64), primary_key=True)
    tenant: Mapped[str] = mapped_column(_Id, ForeignKey("tenants.tenant", name="fk_keys_tenant"))
    display_name: Mapped[str] = mapped_column(String(200))
    roles: Mapped[str] = mapped_column(String(200))
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    created_at: Mapped[int] = mapped_column(_Big)
    expires_at: Mapped[int | None] = mapped_column(_Big)
    revoked_at: Mapped[int | None] = mapped_column(_Big)
    project: Mapped[str] = mapped_column(_Id, server_default="")
    scopes: Mapped[str] = mapped_column(String(400), server_default="")
    used_at: Mapped[int | None] = mapped_column(_Big)
    replaces: Mapped[str] = mapped_column(String(64), server_default="")
    user: Mapped[str] = mapped_column("user_id", _Id, server_default="")
    __table_args__ = (
        Index("ix_keys_tenant", "tenant", "created_at"),
        Index("ix_keys_revoked_at", "revoked_at"),
        Index("ix_keys_user", "user_id"),
    )


class UserRow(Base):
    """A person of a tenant.  ``issuer`` and ``subject`` are what their tokens say, which is what the id is made of.

    ``roles`` are names with commas between; where there are none, those that the token gives count: ``issuer_roles`` are
    those of the last one.
    """

    __tablename__ = "users"
    user: Mapped[str] = mapped_column("user_id", _Id, primary_key=True)
    tenant: Mapped[str] = mapped_column(_Id, ForeignKey("tenants.tenant", name="fk_users_tenant"))
    issuer: Mapped[str] = mapped_column(String(500))
    subject: Mapped[str] = mapped_column(String(255))
    display_name: Mapped[str] = mapped_column(String(200))
    roles: Mapped[str] = mapped_column(String(200))
    projects: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(_Big)
    disabled_at: Mapped[int | None] = mapped_column(_Big)
    deleted_at: Mapped[int | None] = mapped_column(_Big)
    issuer_roles: Mapped[str] = mapped_column(String(200), server_default="")
    __table_args__ = (Index("ix_users_tenant", "tenant", "user_id"), Index("ix_users_disabled_at", "disabled_at"))


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
    # As the request named it, without alias or version; empty in records from before there were prices.
    model: Mapped[str] = mapped_column(String(256), server_default="")
    project: Mapped[str] = mapped_column(_Id, server_default="")
    micros: Mapped[int] = mapped_column(_Big, server_default="0")
    __table_args__ = (
        Index("ix_usage_sequence", "tenant", "sequence", unique=True),
        Index("ix_usage_created_at", "tenant", "created_at"),
    )


class QuotaRow(Base):
    """The limits of a tenant, as :mod:`services.access.quotas` packs them; none where there is no row."""

    __tablename__ = "quotas"
    tenant: Mapped[str] = mapped_column(_Id, ForeignKey("tenants.tenant", name="fk_quotas_tenant"), primary_key=True)
    quota: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[int] = mapped_column(_Big)


class PolicyRow(Base):
    """The content policy of a tenant, as :mod:`services.access.policies` packs it; none where there is no row."""

    __tablename__ = "policies"
    tenant: Mapped[str] = mapped_column(_Id, ForeignKey("tenants.tenant", name="fk_policies_tenant"), primary_key=True)
    policy: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[int] = mapped_column(_Big)


class BucketRow(Base):
    """A limit a minute: how much nobody has been given, in millionths, at a moment."""

    __tablename__ = "buckets"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    meter: Mapped[str] = mapped_column(String(320), primary_key=True)
    level_millionths: Mapped[int] = mapped_column(_Big)
    filled_at: Mapped[int] = mapped_column(_Big)


class HoldingRow(Base):
    """What one life of a gateway holds of a limit of places or of a month, until a moment."""

    __tablename__ = "holdings"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    meter: Mapped[str] = mapped_column(String(320), primary_key=True)
    gateway: Mapped[str] = mapped_column(_Id, primary_key=True)
    amount: Mapped[int] = mapped_column(_Big)
    expires_at: Mapped[int] = mapped_column(_Big)


class SpendingRow(Base):
    """What a scope used in a month (year * 12 + month - 1, UTC): raised in the transaction that records usage."""

    __tablename__ = "spending"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    scope: Mapped[str] = mapped_column(String(300), primary_key=True)
    month: Mapped[int] = mapped_column(Integer, primary_key=True)
    tokens: Mapped[int] = mapped_column(_Big)
    micros: Mapped[int] = mapped_column(_Big)


class AuditRow(Base):
    """One change that somebody made, here or in another service; never changed."""

    __tablename__ = "audit"
    tenant: Mapped[str] = mapped_column(_Id, primary_key=True)
    sequence: Mapped[int] = mapped_column(_Big, primary_key=True)
    principal: Mapped[str] = mapped_column(_Id)
    action: Mapped[str] = mapped_column(String(64))
    resource: Mapped[str] = mapped_column(Text)
    created_at: Mapped[int] = mapped_column(_Big)
    actor: Mapped[str] = mapped_column(_Id, server_default="")
    method: Mapped[str] = mapped_column(String(200), server_default="")
    hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    # Of another service's event; none of these here.
    event_id: Mapped[str | None] = mapped_column(String(64))
    outcome: Mapped[str] = mapped_column(String(32), server_default="")
    request_id: Mapped[str] = mapped_column(_Id, server_default="")
    __table_args__ = (Index("ix_audit_event", "tenant", "event_id", unique=True),)


class CounterRow(Base):
    """A named number that only rises, taken inside the writing transaction."""

    __tablename__ = "counters"
    name: Mapped[str] = mapped_column(String(160), primary_key=True)
    value: Mapped[int] = mapped_column(_Big)


def require_tenant(session: Session, tenant: str) -> TenantRow:
    """The tenant's row.  Raises TENANT_NOT_FOUND."""
    row = session.get(TenantRow, tenant)
    if row is None:
        raise Failure(Reason.TENANT_NOT_FOUND, name=tenant)
    return row


def in_turn(session: Session, tenant: str) -> None:
    """Take the tenant's turn to write, before the transaction reads what it decides by."""
    take_turn(session, f"access/{tenant}")


def take_number_turn(session: Session, name: str) -> None:
    """Have nobody else raise a counter until the transaction ends, before it is read what depends on it."""
    take_turn(session, f"access/counters/{name}")


def next_number(session: Session, name: str) -> int:
    """Raise a counter by one and return it.  Nobody else raises it until the transaction ends."""
    return next_numbers(session, name, 1)


def next_numbers(session: Session, name: str, count: int) -> int:
    """Raise a counter by ``count`` and return the first of the numbers that are the caller's."""
    take_number_turn(session, name)
    row = session.get(CounterRow, name)
    if row is None:
        row = CounterRow(name=name, value=0)
        session.add(row)
    row.value += count
    session.flush()
    return row.value - count + 1
