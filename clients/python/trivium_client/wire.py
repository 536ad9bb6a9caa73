"""Protobuf to nouns and back: what every noun's wire stands on, and keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.access.v1 import access_pb2, user_pb2
from trivium.common.v1 import permission_pb2

from trivium_client import nouns


def time(stamp: Timestamp) -> datetime | None:
    """An aware datetime, None for a timestamp that was not set."""
    return stamp.ToDatetime(UTC) if stamp.seconds or stamp.nanos else None


def word(kind: Any, value: int) -> str:
    """An enum value as a lower-case word without its prefix; empty when unspecified, its number when newer than us."""
    if value == 0:
        return ""
    known = kind.DESCRIPTOR.values_by_number
    if value not in known:
        return str(value)
    prefix = str(known[0].name).removesuffix("UNSPECIFIED")
    return str(known[value].name).removeprefix(prefix).lower()


def words(kind: Any) -> dict[str, int]:
    """The words of an enum, each with its value; the unspecified one has none."""
    return {word(kind, value): value for value in kind.DESCRIPTOR.values_by_number if value}


def number(kind: Any, name: str, what: str) -> Any:
    """The enum value that a lower-case word names, 0 for an empty one; Any, because each stub takes its own enum.

    Raises ValueError that lists what there is.
    """
    if not name:
        return 0
    values = words(kind)
    if name.lower() not in values:
        raise ValueError(f"{what} {name!r} is none of {', '.join(values)}")
    return values[name.lower()]


def api_key(message: access_pb2.Key, secret: str = "") -> nouns.ApiKey:
    """From the wire."""
    return nouns.ApiKey(
        key=message.key,
        tenant=message.tenant,
        display_name=message.display_name,
        roles=tuple(word(access_pb2.Role, role) for role in message.roles),
        revoked=time(message.revoke_time) is not None,
        secret=secret,
        project=message.project,
        scopes=tuple(word(permission_pb2.Scope, scope).replace("_", ".") for scope in message.scopes),
        expires=time(message.expire_time),
        last_used=time(message.last_used_time),
        replaces=message.replaces,
        user=message.user,
    )


def user(message: user_pb2.User) -> nouns.User:
    """From the wire."""
    return nouns.User(
        user=message.user,
        tenant=message.tenant,
        display_name=message.display_name,
        issuer=message.issuer,
        subject=message.subject,
        roles=tuple(word(access_pb2.Role, role) for role in message.roles),
        projects=tuple(message.projects),
        disabled=message.disabled,
        created=time(message.create_time),
    )


def audit_event(message: access_pb2.AuditEvent) -> nouns.AuditEvent:
    """From the wire."""
    return nouns.AuditEvent(
        sequence=message.sequence,
        time=time(message.create_time),
        principal=message.principal,
        action=message.action,
        resource=message.resource,
        actor=message.actor,
        method=message.method,
        hash=message.hash.hex(),
        outcome=message.outcome,
        request_id=message.request_id,
        event_id=message.event_id,
    )


def scopes_to_wire(scopes: Sequence[str]) -> list[Any]:
    """To the wire.  Raises ValueError for an unknown scope."""
    return [number(permission_pb2.Scope, scope.replace(".", "_"), "scope") for scope in scopes]


def roles_to_wire(roles: Sequence[str]) -> list[Any]:
    """To the wire.  Raises ValueError for an unknown role."""
    return [number(access_pb2.Role, role, "role") for role in roles]
