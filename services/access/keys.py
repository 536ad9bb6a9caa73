"""API keys: random, shown once, stored as keyed hashes.

Invariants: the text of a key exists only in the answer that creates it; a stolen
database without the hashing key verifies nothing; an unknown, a wrong, an expired
and a revoked key give the same answer after the same work.
"""

import hashlib
import hmac
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlalchemy import or_, select, tuple_
from sqlalchemy.orm import Session

from services.access import audit
from services.access.grants import require_within
from services.access.last_used import LastUsed
from services.access.projects import require_project
from services.access.store import KeyRow, TenantRow, UserRow, in_turn, require_tenant
from services.access.users import is_live
from services.chassis.context import RequestContext, Role, Scope
from services.chassis.credentials import KEY_PREFIX
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once

_ID_BYTES = 8
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret.  Times are Unix microseconds; None means never."""

    key: str
    tenant: str
    display_name: str
    roles: frozenset[Role]
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    project: str = ""
    scopes: frozenset[Scope] = frozenset()
    used_at: int | None = None
    replaces: str = ""
    user: str = ""


@dataclass(frozen=True, slots=True)
class NewKey:
    """What is wanted of a new key."""

    tenant: str
    display_name: str
    roles: frozenset[Role]
    expires_at: int | None = None
    project: str = ""
    scopes: frozenset[Scope] = frozenset()
    replaces: str = ""
    user: str = ""


def shown(row: KeyRow) -> Key:
    """The domain's view of a row."""
    return Key(
        key=row.key,
        tenant=row.tenant,
        display_name=row.display_name,
        roles=frozenset(Role(name) for name in row.roles.split(",")),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        project=row.project,
        scopes=frozenset(Scope(name) for name in row.scopes.split(",") if name),
        used_at=row.used_at,
        replaces=row.replaces,
        user=row.user,
    )


def require_grantable(asking: RequestContext, roles: frozenset[Role], scopes: frozenset[Scope]) -> None:
    """Raise KEY_ROLES_EXCEEDED or KEY_SCOPES_EXCEEDED when the caller would hand on more than it has."""
    require_within(asking, roles, Reason.KEY_ROLES_EXCEEDED, "roles")
    if asking.scopes and (not scopes or not scopes <= asking.scopes):
        wider = ", ".join(sorted(scopes - asking.scopes)) or "a key without any"
        raise Failure(Reason.KEY_SCOPES_EXCEEDED, field="scopes", scopes=wider)


def _require_holder(session: Session, wanted: NewKey) -> None:
    """Raise unless a key may be the user's: USER_NOT_FOUND, FIELD_INVALID for a project of others."""
    row = session.get(UserRow, wanted.user)
    if row is None or row.tenant != wanted.tenant or not is_live(row):
        raise Failure(Reason.USER_NOT_FOUND, name=wanted.user)
    if wanted.project and wanted.project not in row.projects.split(","):
        problem = f"the user {wanted.user} is no member of {wanted.project}"
        raise Failure(Reason.FIELD_INVALID, field="project", problem=problem)


class Keys:
    """The verbs on keys."""

    def __init__(self, database: Database, hashing_key: bytes, now: Callable[[], int]) -> None:
        self._database = database
        self._hashing_key = hashing_key
        self._now = now
        self.used = LastUsed(database, now)

    def _hash(self, text: str) -> bytes:
        return hmac.new(self._hashing_key, text.encode(), hashlib.sha256).digest()

    async def create(self, asking: RequestContext, wanted: NewKey, key: IdempotencyKey) -> tuple[Key, str]:
        """Create a key; its text comes back once, empty in a replay.

        Raises KEY_ROLES_EXCEEDED, KEY_SCOPES_EXCEEDED, TENANT_NOT_FOUND, TENANT_DISABLED, PROJECT_NOT_FOUND,
        USER_NOT_FOUND, and FIELD_INVALID for a project that the user is no member of.
        """
        require_grantable(asking, wanted.roles, wanted.scopes)

        def effect(session: Session) -> tuple[Key, str]:
            # A project that is deleted meanwhile would be one whose key works.
            in_turn(session, wanted.tenant)
            if require_tenant(session, wanted.tenant).disabled_at is not None:
                raise Failure(Reason.TENANT_DISABLED, name=wanted.tenant)
            if wanted.project:
                require_project(session, wanted.tenant, wanted.project)
            if wanted.user:
                _require_holder(session, wanted)
            return self.add(session, wanted, asking.principal_id)

        return await self._database.write(lambda session: self._once(session, key, effect))

    def _once(
        self, session: Session, key: IdempotencyKey, effect: Callable[[Session], tuple[Key, str]]
    ) -> tuple[Key, str]:
        """The key that ``effect`` makes, with its text; in a replay the key alone."""
        made: list[str] = []

        def keep() -> str:
            created, text = effect(session)
            made.append(text)
            return json.dumps({"key": created.key})

        identifier = json.loads(once(session, key, keep))["key"]
        row = session.get(KeyRow, identifier)
        if row is None:
            raise Failure(Reason.KEY_NOT_FOUND, name=identifier)
        return shown(row), made[0] if made else ""

    async def rotate(
        self, asking: RequestContext, identifier: str, overlap_seconds: int, key: IdempotencyKey
    ) -> tuple[Key, str, Key]:
        """A key in another's place, its text (once), and the other, which works for the overlap still.

        Raises KEY_NOT_FOUND, also for a key that no longer works, KEY_ROLES_EXCEEDED, KEY_SCOPES_EXCEEDED.
        """

        def effect(session: Session) -> tuple[Key, str]:
            row = self._theirs_to_change(session, asking, identifier)
            if not self.lives_now(session, row):
                raise Failure(Reason.KEY_NOT_FOUND, name=identifier)
            old = shown(row)
            require_grantable(asking, old.roles, old.scopes)
            until = self._now() + overlap_seconds * 1_000_000
            wanted = NewKey(
                tenant=old.tenant,
                display_name=old.display_name,
                roles=old.roles,
                expires_at=old.expires_at,
                project=old.project,
                scopes=old.scopes,
                replaces=old.key,
                user=old.user,
            )
            row.expires_at = until if old.expires_at is None else min(until, old.expires_at)
            self._note(session, row, asking.principal_id, "key.rotated", self._now())
            return self.add(session, wanted, asking.principal_id)

        def transaction(session: Session) -> tuple[Key, str, Key]:
            made, text = self._once(session, key, effect)
            return made, text, shown(self._theirs(session, asking, made.replaces))

        return await self._database.write(transaction)

    def _theirs(self, session: Session, asking: RequestContext, identifier: str) -> KeyRow:
        """The row of a key that the caller manages.  Raises KEY_NOT_FOUND, for another tenant's key too."""
        row = session.get(KeyRow, identifier)
        if row is None or (row.tenant != asking.tenant_id and not asking.has(Role.ADMIN)):
            raise Failure(Reason.KEY_NOT_FOUND, name=identifier)
        return row

    def _theirs_to_change(self, session: Session, asking: RequestContext, identifier: str) -> KeyRow:
        """:meth:`_theirs`, as it is once nobody else changes the tenant."""
        row = self._theirs(session, asking, identifier)
        in_turn(session, row.tenant)
        session.refresh(row)
        return row

    def add(self, session: Session, wanted: NewKey, principal: str) -> tuple[Key, str]:
        """Add a key to the open transaction and return it with its text."""
        identifier = secrets.token_hex(_ID_BYTES)
        text = f"{KEY_PREFIX}{identifier}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        at = self._now()
        row = KeyRow(
            key=identifier,
            tenant=wanted.tenant,
            display_name=wanted.display_name,
            roles=",".join(sorted(wanted.roles)),
            hash=self._hash(text),
            created_at=at,
            expires_at=wanted.expires_at,
            revoked_at=None,
            project=wanted.project,
            scopes=",".join(sorted(wanted.scopes)),
            replaces=wanted.replaces,
            user=wanted.user,
        )
        session.add(row)
        session.flush()
        self._note(session, row, principal, "key.created", at)
        return shown(row), text

    def _note(self, session: Session, row: KeyRow, principal: str, action: str, at: int) -> None:
        resource = f"tenants/{row.tenant}/keys/{row.key}"
        audit.note(session, tenant=row.tenant, principal=principal, action=action, resource=resource, at=at)

    async def check(self, text: str) -> Key:
        """The key with this text.  Raises CREDENTIAL_INVALID, whatever is wrong with it."""
        key = await self._database.read(lambda session: self.check_now(session, text))
        self.used.note(key.key)
        return key

    async def project_of(self, identifier: str, tenant: str) -> str:
        """The project of a tenant's key; empty where the id is no key of it."""

        def query(session: Session) -> str:
            row = session.get(KeyRow, identifier)
            return row.project if row is not None and row.tenant == tenant else ""

        return await self._database.read(query)

    def check_now(self, session: Session, text: str) -> Key:
        """:meth:`check` inside a transaction."""
        identifier = text.removeprefix(KEY_PREFIX).partition("_")[0]
        row = session.get(KeyRow, identifier)
        # An unknown id costs the same comparison as a wrong secret.
        stored = row.hash if row is not None else bytes(hashlib.sha256().digest_size)
        matches = hmac.compare_digest(self._hash(text), stored)
        if row is None or not matches or not self.lives_now(session, row):
            raise Failure(Reason.CREDENTIAL_INVALID)
        return shown(row)

    async def lives(self, identifier: str) -> bool:
        """Whether a key with this id exists and still works."""

        def query(session: Session) -> bool:
            row = session.get(KeyRow, identifier)
            return row is not None and self.lives_now(session, row)

        return await self._database.read(query)

    def lives_now(self, session: Session, row: KeyRow) -> bool:
        """:meth:`lives` of a row, inside a transaction."""
        tenant = session.get(TenantRow, row.tenant)
        expired = row.expires_at is not None and row.expires_at <= self._now()
        held = not row.user or is_live(session.get(UserRow, row.user))
        return row.revoked_at is None and not expired and held and tenant is not None and tenant.disabled_at is None

    async def page(self, tenant: str, before: tuple[int, str] | None, limit: int) -> list[Key]:
        """A tenant's keys, newest first.  Raises TENANT_NOT_FOUND."""

        def transaction(session: Session) -> list[Key]:
            require_tenant(session, tenant)
            query = select(KeyRow).where(KeyRow.tenant == tenant)
            if before is not None:
                query = query.where(tuple_(KeyRow.created_at, KeyRow.key) < before)
            rows = session.scalars(query.order_by(KeyRow.created_at.desc(), KeyRow.key.desc()).limit(limit))
            keys = [shown(row) for row in rows]
            return [replace(key, used_at=self.used.of(key.key, key.used_at)) for key in keys]

        return await self._database.read(transaction)

    async def revoke(self, asking: RequestContext, identifier: str) -> Key:
        """Revoke a key; repeating it changes nothing.  Raises KEY_NOT_FOUND, as for another tenant's, KEY_ROLES_EXCEEDED."""

        def transaction(session: Session) -> Key:
            row = self._theirs_to_change(session, asking, identifier)
            require_within(asking, shown(row).roles, Reason.KEY_ROLES_EXCEEDED, "key")
            if row.revoked_at is None:
                row.revoked_at = self._now()
                self._note(session, row, asking.principal_id, "key.revoked", row.revoked_at)
            return shown(row)

        return await self._database.write(transaction)

    async def revoked_since(self, since: int) -> list[str]:
        """Ids of the keys that stopped working after a moment: revoked, over, or their user or tenant disabled."""
        # An assertion may be from before its key's end was set, as a rotation sets it.
        over = KeyRow.expires_at.between(since, self._now())
        dead = or_(KeyRow.revoked_at >= since, over, TenantRow.disabled_at >= since, UserRow.disabled_at >= since)
        keys = select(KeyRow.key).join(TenantRow, TenantRow.tenant == KeyRow.tenant)
        query = keys.outerjoin(UserRow, UserRow.user == KeyRow.user).where(dead).order_by(KeyRow.key)
        return await self._database.read(lambda session: list(session.scalars(query)))
