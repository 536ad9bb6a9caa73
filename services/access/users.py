"""Users: people of a tenant, who sign in with tokens of an issuer.

Invariants: an issuer's person has one id in a tenant, always the same and never another's; nobody who was
disabled comes back by signing in.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from services.access import audit
from services.access.store import TenantRow, UserRow, in_turn
from services.access.tokens import Person
from services.chassis.context import Role
from services.chassis.credentials import USER_PREFIX
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason

_ID_DIGITS = 32


@dataclass(frozen=True, slots=True)
class User:
    """A person of a tenant.  ``created_at`` is Unix time in microseconds.

    Without ``roles`` those that the token gives count.  ``projects`` are in order: what a user asks with a token
    counts for the first.
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


def shown(row: UserRow) -> User:
    """The domain's view of a row."""
    return User(
        user=row.user,
        tenant=row.tenant,
        issuer=row.issuer,
        subject=row.subject,
        display_name=row.display_name,
        roles=frozenset(Role(name) for name in row.roles.split(",") if name),
        projects=tuple(name for name in row.projects.split(",") if name),
        created_at=row.created_at,
        disabled=row.disabled_at is not None,
    )


def id_of(tenant: str, issuer: str, subject: str) -> str:
    """The id of an issuer's person in a tenant."""
    # Neither a tenant nor a URL holds a line break, so no two of three texts join to the same one.
    digest = hashlib.sha256(f"{tenant}\n{issuer}\n{subject}".encode()).hexdigest()
    return f"{USER_PREFIX}{digest[:_ID_DIGITS]}"


class Users:
    """The verbs on users."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def sign_in(self, person: Person) -> User:
        """The user that a verified token names, made now where the issuer may.  Raises CREDENTIAL_INVALID."""
        user = id_of(person.tenant, person.issuer, person.subject)
        found = await self._database.read(lambda session: self._find(session, user, person))
        # Whom nothing gives a role is not kept either.
        if found is None and person.may_be_new and person.roles:
            found = await self._database.write(lambda session: self._first(session, user, person))
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

    def _first(self, session: Session, user: str, person: Person) -> User:
        in_turn(session, person.tenant)
        # Two first sign-ins at once are one.
        found = self._find(session, user, person)
        if found is not None:
            return found
        row = session.get(UserRow, user) or UserRow(
            user=user, tenant=person.tenant, issuer=person.issuer, subject=person.subject
        )
        row.display_name, row.roles, row.projects = person.display_name, "", ""
        row.created_at, row.disabled_at, row.deleted_at = self._now(), None, None
        session.add(row)
        session.flush()
        self._note(session, row, user, "user.created")
        return shown(row)

    def _note(self, session: Session, row: UserRow, principal: str, action: str) -> None:
        resource = f"tenants/{row.tenant}/users/{row.user}"
        audit.note(session, tenant=row.tenant, principal=principal, action=action, resource=resource, at=self._now())

    async def lives(self, user: str) -> bool:
        """Whether a user with this id exists and may act."""

        def query(session: Session) -> bool:
            row = session.get(UserRow, user)
            if row is None or row.disabled_at is not None or row.deleted_at is not None:
                return False
            tenant = session.get(TenantRow, row.tenant)
            return tenant is not None and tenant.disabled_at is None

        return await self._database.read(query)

    async def revoked_since(self, since: int) -> list[str]:
        """Ids of the users who were stopped after a moment: disabled, deleted, or their tenant disabled."""
        dead = or_(UserRow.disabled_at >= since, UserRow.deleted_at >= since, TenantRow.disabled_at >= since)
        query = (
            select(UserRow.user).join(TenantRow, TenantRow.tenant == UserRow.tenant).where(dead).order_by(UserRow.user)
        )
        return await self._database.read(lambda session: list(session.scalars(query)))
