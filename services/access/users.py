"""Users: people of a tenant, who sign in with tokens of an issuer, hold keys, or both.

Invariants: an issuer's person has one id in a tenant, always the same and never another's; nobody who was
disabled comes back by signing in; of a deleted user nothing is left but an id that is refused.
"""

import hashlib
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from services.access import audit
from services.access.grants import beyond, require_within
from services.access.projects import require_project
from services.access.store import KeyRow, TenantRow, UserRow, in_turn, require_tenant
from services.access.tokens import Person
from services.chassis.context import RequestContext, Role
from services.chassis.credentials import USER_PREFIX
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once

_ID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class User:
    """A person of a tenant.  ``created_at`` is Unix time in microseconds.

    Without ``roles`` those that the token gives count, ``issuer_roles`` by the last one.  ``projects`` are in order:
    what a user asks with a token counts for the first.
    """

    user: str
    tenant: str
    issuer: str
    subject: str
    display_name: str
    roles: frozenset[Role]
    projects: tuple[str, ...]
    created_at: int
    disabled: bool = False
    issuer_roles: frozenset[Role] = frozenset()


@dataclass(frozen=True, slots=True)
class NewUser:
    """What is wanted of a new user.  Without issuer and subject it holds keys alone."""

    tenant: str
    issuer: str = ""
    subject: str = ""
    display_name: str = ""
    roles: frozenset[Role] = frozenset()
    projects: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What of a user becomes another; None stays."""

    display_name: str | None = None
    roles: frozenset[Role] | None = None
    projects: tuple[str, ...] | None = None
    disabled: bool | None = None


def shown(row: UserRow) -> User:
    """The domain's view of a row."""
    return User(
        user=row.user,
        tenant=row.tenant,
        issuer=row.issuer,
        subject=row.subject,
        display_name=row.display_name,
        roles=_roles(row.roles),
        projects=tuple(name for name in row.projects.split(",") if name),
        created_at=row.created_at,
        disabled=row.disabled_at is not None,
        issuer_roles=_roles(row.issuer_roles),
    )


def _roles(names: str) -> frozenset[Role]:
    return frozenset(Role(name) for name in names.split(",") if name)


def _named(roles: frozenset[Role]) -> str:
    return ",".join(sorted(roles))


def id_of(tenant: str, issuer: str, subject: str) -> str:
    """The id of an issuer's person in a tenant; without an issuer one that nobody had."""
    if not issuer:
        return f"{USER_PREFIX}{secrets.token_hex(_ID_DIGITS // 2)}"
    # Neither a tenant nor a URL holds a line break, so no two of three texts join to the same one.
    digest = hashlib.sha256(f"{tenant}\n{issuer}\n{subject}".encode()).hexdigest()
    return f"{USER_PREFIX}{digest[:_ID_DIGITS]}"


def _may_be_made(person: Person) -> bool:
    # Whom nothing gives a role is not kept either.
    return person.may_be_new and bool(person.roles)


def is_live(row: UserRow | None) -> bool:
    """Whether a user may act, as far as the user alone is concerned."""
    return row is not None and row.disabled_at is None and row.deleted_at is None


def require_grantable(asking: RequestContext, roles: frozenset[Role]) -> None:
    """Raise USER_ROLES_EXCEEDED when the caller would give a user more than it has."""
    more = ", ".join(sorted(beyond(asking, roles)))
    # No scopes narrow a user.
    if more or asking.scopes:
        raise Failure(Reason.USER_ROLES_EXCEEDED, field="roles", roles=more or "a user whom no scopes narrow")


class Users:
    """The verbs on users."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def sign_in(self, person: Person) -> User:
        """The user that a verified token names, made now where the issuer may.  Raises CREDENTIAL_INVALID."""
        user = id_of(person.tenant, person.issuer, person.subject)
        found = await self._database.read(lambda session: self._find(session, user, person))
        is_news = _may_be_made(person) if found is None else found.issuer_roles != person.roles
        if is_news:
            found = await self._database.write(lambda session: self._met(session, user, person))
        if found is None:
            raise Failure(Reason.CREDENTIAL_INVALID)
        return found

    def _find(self, session: Session, user: str, person: Person) -> User | None:
        """A user who may sign in; None for nobody yet.  Raises CREDENTIAL_INVALID for one who may not."""
        tenant = session.get(TenantRow, person.tenant)
        if tenant is None or tenant.disabled_at is not None:
            raise Failure(Reason.CREDENTIAL_INVALID)
        row = session.get(UserRow, user)
        if row is None or row.deleted_at is not None:
            return None
        if row.disabled_at is not None:
            raise Failure(Reason.CREDENTIAL_INVALID)
        return shown(row)

    def _met(self, session: Session, user: str, person: Person) -> User | None:
        """The user, made if it may be, with what the issuer gives now; None for nobody."""
        in_turn(session, person.tenant)
        # Two first sign-ins at once are one.
        before = self._find(session, user, person)
        if before is not None:
            row = session.get_one(UserRow, user)
        elif _may_be_made(person):
            wanted = NewUser(person.tenant, person.issuer, person.subject, person.display_name)
            row = self._add(session, wanted, user, user)
        else:
            return None
        row.issuer_roles = _named(person.roles)
        if before is not None and shown(row) != before:
            # By the user, as whoever is made by a sign-in is: nobody here gave or took a role.
            self._note(session, row, user, "user.updated")
        return shown(row)

    async def create(self, asking: RequestContext, wanted: NewUser, key: IdempotencyKey) -> User:
        """Create a user.

        Raises USER_EXISTS, USER_ROLES_EXCEEDED, PROJECT_NOT_FOUND, TENANT_NOT_FOUND, TENANT_DISABLED.
        """
        require_grantable(asking, wanted.roles)

        def effect(session: Session) -> str:
            in_turn(session, wanted.tenant)
            if require_tenant(session, wanted.tenant).disabled_at is not None:
                raise Failure(Reason.TENANT_DISABLED, name=wanted.tenant)
            user = id_of(wanted.tenant, wanted.issuer, wanted.subject)
            row = session.get(UserRow, user)
            if row is not None and row.deleted_at is None:
                raise Failure(Reason.USER_EXISTS, name=user)
            return json.dumps({"user": self._add(session, wanted, user, asking.principal_id).user})

        def transaction(session: Session) -> User:
            user = json.loads(once(session, key, lambda: effect(session)))["user"]
            return shown(self._theirs(session, asking, user))

        return await self._database.write(transaction)

    def _add(self, session: Session, wanted: NewUser, user: str, principal: str) -> UserRow:
        row = session.get(UserRow, user) or UserRow(user=user, tenant=wanted.tenant)
        row.issuer, row.subject, row.display_name = wanted.issuer, wanted.subject, wanted.display_name
        row.roles, row.projects = _named(wanted.roles), self._members(session, row, wanted.projects)
        row.issuer_roles = ""
        row.created_at, row.disabled_at, row.deleted_at = self._now(), None, None
        session.add(row)
        session.flush()
        self._note(session, row, principal, "user.created")
        return row

    def _members(self, session: Session, row: UserRow, projects: tuple[str, ...]) -> str:
        for project in projects:
            require_project(session, row.tenant, project)
        return ",".join(projects)

    def _theirs(self, session: Session, asking: RequestContext, user: str) -> UserRow:
        """The row of a user whom the caller manages.  Raises USER_NOT_FOUND, for another tenant's too."""
        row = session.get(UserRow, user)
        foreign = row is not None and row.tenant != asking.tenant_id and not asking.has(Role.ADMIN)
        if row is None or foreign or row.deleted_at is not None:
            raise Failure(Reason.USER_NOT_FOUND, name=user)
        return row

    def _theirs_to_change(self, session: Session, asking: RequestContext, user: str) -> UserRow:
        """:meth:`_theirs`, as it is once nobody else changes the tenant.

        Raises USER_ROLES_EXCEEDED too, for a user who may do more than the caller, or whose keys may: they end together.
        """
        row = self._theirs(session, asking, user)
        in_turn(session, row.tenant)
        session.refresh(row)
        row = self._theirs(session, asking, user)
        works = or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > self._now())
        keys = session.scalars(select(KeyRow.roles).where(KeyRow.user == user, KeyRow.revoked_at.is_(None), works))
        held = ",".join((row.roles or row.issuer_roles, *keys))
        require_within(asking, _roles(held), Reason.USER_ROLES_EXCEEDED, "user")
        return row

    async def get(self, asking: RequestContext, user: str) -> User:
        """One user.  Raises USER_NOT_FOUND, for another tenant's too."""
        return await self._database.read(lambda session: shown(self._theirs(session, asking, user)))

    async def page(self, tenant: str, after: str, limit: int) -> list[User]:
        """A tenant's users by id, after one.  Raises TENANT_NOT_FOUND."""

        def query(session: Session) -> list[User]:
            require_tenant(session, tenant)
            wanted = select(UserRow).where(UserRow.tenant == tenant, UserRow.user > after, UserRow.deleted_at.is_(None))
            return [shown(row) for row in session.scalars(wanted.order_by(UserRow.user).limit(limit))]

        return await self._database.read(query)

    async def update(self, asking: RequestContext, user: str, change: Change) -> User:
        """Change a user.  Raises USER_NOT_FOUND, USER_ROLES_EXCEEDED, PROJECT_NOT_FOUND."""
        if change.roles is not None:
            require_grantable(asking, change.roles)

        def transaction(session: Session) -> User:
            row = self._theirs_to_change(session, asking, user)
            before = shown(row)
            if change.display_name is not None:
                row.display_name = change.display_name
            if change.roles is not None:
                row.roles = _named(change.roles)
                # Who has none any longer has those of the issuer.
                require_within(asking, _roles(row.roles or row.issuer_roles), Reason.USER_ROLES_EXCEEDED, "roles")
            if change.projects is not None:
                row.projects = self._members(session, row, change.projects)
            if shown(row) != before:
                self._note(session, row, asking.principal_id, "user.updated")
            if change.disabled is not None and change.disabled != before.disabled:
                row.disabled_at = self._now() if change.disabled else None
                action = "user.disabled" if change.disabled else "user.enabled"
                self._note(session, row, asking.principal_id, action)
            return shown(row)

        return await self._database.write(transaction)

    async def delete(self, asking: RequestContext, user: str) -> None:
        """Delete a user and revoke the user's keys.  Raises USER_NOT_FOUND, USER_ROLES_EXCEEDED."""

        def transaction(session: Session) -> None:
            row = self._theirs_to_change(session, asking, user)
            row.deleted_at = self._now()
            row.issuer = row.subject = row.display_name = row.roles = row.issuer_roles = row.projects = ""
            for key in session.scalars(
                select(KeyRow).where(KeyRow.user == user, KeyRow.revoked_at.is_(None)).order_by(KeyRow.key)
            ):
                key.revoked_at = row.deleted_at
                self._note(session, row, asking.principal_id, "key.revoked", f"keys/{key.key}")
            self._note(session, row, asking.principal_id, "user.deleted")

        await self._database.write(transaction)

    def _note(self, session: Session, row: UserRow, principal: str, action: str, what: str = "") -> None:
        resource = f"tenants/{row.tenant}/{what or f'users/{row.user}'}"
        audit.note(session, tenant=row.tenant, principal=principal, action=action, resource=resource, at=self._now())

    async def project_of(self, user: str, tenant: str) -> str:
        """The project that a user's own requests count for; empty where the id is no user of the tenant."""

        def query(session: Session) -> str:
            row = session.get(UserRow, user)
            return row.projects.partition(",")[0] if row is not None and row.tenant == tenant else ""

        return await self._database.read(query)

    async def lives(self, user: str) -> bool:
        """Whether a user with this id exists and may act."""

        def query(session: Session) -> bool:
            row = session.get(UserRow, user)
            tenant = None if row is None else session.get(TenantRow, row.tenant)
            return is_live(row) and tenant is not None and tenant.disabled_at is None

        return await self._database.read(query)

    async def revoked_since(self, since: int) -> list[str]:
        """Ids of the users who were stopped after a moment: disabled, deleted, or their tenant disabled."""
        dead = or_(UserRow.disabled_at >= since, UserRow.deleted_at >= since, TenantRow.disabled_at >= since)
        query = (
            select(UserRow.user).join(TenantRow, TenantRow.tenant == UserRow.tenant).where(dead).order_by(UserRow.user)
        )
        return await self._database.read(lambda session: list(session.scalars(query)))
