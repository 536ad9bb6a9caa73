"""The first start: a tenant, an admin's key and the services' key, each in a file of its owner's.

Invariant: a key's row is durable before its file, so a file never holds a key that
does not work; after a kill in between, the next start makes another key.
"""

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.access.keys import Keys, NewKey
from services.access.secret_files import write_secret
from services.access.store import KeyRow, TenantRow, in_turn
from services.access.tenants import Tenants
from services.chassis.context import Role
from services.chassis.credentials import KEY_PREFIX
from services.chassis.database import Database

_PRINCIPAL = "services/access"
ADMIN_ROLES = frozenset({Role.ADMIN, Role.OWNER})
SERVICE_ROLES = frozenset({Role.SERVICE})


class FirstStart:
    """Makes what nobody can make through the API because nobody has a key yet.  Blocks."""

    def __init__(self, database: Database, tenants: Tenants, keys: Keys, *, tenant: str, folder: Path) -> None:
        self._database = database
        self._tenants = tenants
        self._keys = keys
        self._tenant = tenant
        self._folder = folder

    def ensure(self) -> list[str]:
        """Create what is missing; the names of the key files that were written."""
        self._database.write_now(self._ensure_tenant)
        made = [self._ensure_key("admin.key", ADMIN_ROLES), self._ensure_key("service.key", SERVICE_ROLES)]
        return [name for name in made if name]

    def _ensure_key(self, name: str, roles: frozenset[Role]) -> str:
        """Make one key file if it is needed; its name, or nothing."""
        path = self._folder / name
        if self._database.read_now(lambda session: self._stands(session, path, roles)):
            return ""
        wanted = NewKey(self._tenant, name.removesuffix(".key"), roles)
        _, text = self._database.write_now(lambda session: self._keys.add(session, wanted, _PRINCIPAL))
        write_secret(path, f"{text}\n".encode())
        return name

    def _ensure_tenant(self, session: Session) -> None:
        in_turn(session, self._tenant)
        if session.get(TenantRow, self._tenant) is None:
            self._tenants.add(session, self._tenant, "", _PRINCIPAL)

    def _stands(self, session: Session, path: Path, roles: Iterable[Role]) -> bool:
        """Whether nothing has to be made.

        The services' key must work.  The admin's file may be gone, revoked or rotated, as a
        careful owner leaves it, as long as some admin key works.
        """
        wanted = ",".join(sorted(roles))
        try:
            identifier = path.read_text().strip().removeprefix(KEY_PREFIX).partition("_")[0]
        except FileNotFoundError:
            identifier = ""
        row = session.get(KeyRow, identifier)
        if row is not None and row.roles == wanted and self._keys.lives_now(session, row):
            return True
        if Role.ADMIN not in roles:
            return False
        admins = select(KeyRow).where(KeyRow.roles.contains(Role.ADMIN.value), KeyRow.revoked_at.is_(None))
        return any(self._keys.lives_now(session, admin) for admin in session.scalars(admins))
