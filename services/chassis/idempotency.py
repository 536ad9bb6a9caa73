"""A repeated ``request_id`` has one effect: the response is stored with the effect, in one transaction.

Invariant: either the effect and its response are both durable or neither is, so a
caller that got no answer may repeat the request and gets the first response.  Entries
are kept for 48 hours (promised: at least 24).
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import Column, Connection, DateTime, Index, LargeBinary, MetaData, String, Table, Text, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from services.chassis.context import current
from services.chassis.errors import Failure, Reason

KEPT = timedelta(hours=48)

_metadata = MetaData()
_table = Table(
    "chassis_idempotency",
    _metadata,
    Column("tenant", String(128), primary_key=True),
    Column("method", String(200), primary_key=True),
    Column("request_id", String(128), primary_key=True),
    Column("fingerprint", LargeBinary(32), nullable=False),
    Column("response", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Index("chassis_idempotency_age", "created_at"),
)


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What makes two requests the same one: who, which method, the id; and what they asked (fingerprint)."""

    tenant: str
    method: str
    request_id: str
    fingerprint: bytes


def key_for(request: Message) -> IdempotencyKey:
    """The key of the request being served; ``request`` has a ``request_id`` field."""
    asking = current()
    return IdempotencyKey(
        asking.tenant_id, asking.method, str(getattr(request, "request_id", "")), fingerprint(request)
    )


def fingerprint(request: Message) -> bytes:
    """A digest of what a request asks, without its ``request_id``."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("request_id")
    return hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()


def once(session: Session, key: IdempotencyKey, effect: Callable[[], str]) -> str:
    """Run ``effect`` in the session's transaction unless this request was served before.

    Returns the text that the first run returned.  Without a ``request_id`` the effect
    always runs.  Raises REQUEST_ID_REUSED when the id came with another request.
    """
    if not key.request_id:
        return effect()
    now = datetime.now(UTC)
    session.execute(delete(_table).where(_table.c.created_at < now - KEPT))
    # Claim first: on PostgreSQL a concurrent twin waits here until we commit, then sees our row.
    if not _claim(session, key, now):
        return _replay(session, key)
    response = effect()
    session.execute(_table.update().where(_same(key)).values(response=response))
    return response


def seen(session: Session, key: IdempotencyKey) -> str | None:
    """What the first run of this request returned, if it was served before: long work need not be begun again.

    Raises REQUEST_ID_REUSED when the id came with another request.
    """
    known = key.request_id and session.execute(select(_table.c.request_id).where(_same(key))).first()
    return _replay(session, key) if known else None


def _claim(session: Session, key: IdempotencyKey, now: datetime) -> bool:
    insert: Any = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = {
        "tenant": key.tenant,
        "method": key.method,
        "request_id": key.request_id,
        "fingerprint": _digest(key),
        "response": "",
        "created_at": now,
    }
    # What came back, not how many rows: drivers do not agree on the count after a conflict.
    claim = insert(_table).values(row).on_conflict_do_nothing().returning(_table.c.request_id)
    return session.execute(claim).first() is not None


def _replay(session: Session, key: IdempotencyKey) -> str:
    stored, response = session.execute(select(_table.c.fingerprint, _table.c.response).where(_same(key))).one()
    if stored != _digest(key):
        raise Failure(Reason.REQUEST_ID_REUSED, request_id=key.request_id, field="request_id")
    return str(response)


def _same(key: IdempotencyKey) -> Any:
    return (_table.c.tenant == key.tenant) & (_table.c.method == key.method) & (_table.c.request_id == key.request_id)


def _digest(key: IdempotencyKey) -> bytes:
    return hashlib.sha256(key.fingerprint).digest()


def create_table(connection: Connection) -> None:
    """Create the table if it is not there; every database has it, no service migrates it."""
    _metadata.create_all(connection)
