"""Projects: labels inside a tenant, under which keys and what they use are grouped."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from services.access import audit
from services.access.store import KeyRow, ProjectRow, UserRow, in_turn
from services.chassis.context import RequestContext
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once


@dataclass(frozen=True, slots=True)
class Project:
    """A project.  ``created_at`` is Unix time in microseconds."""

    project: str
    display_name: str
    created_at: int


def require_project(session: Session, tenant: str, project: str) -> ProjectRow:
    """The project's row.  Raises PROJECT_NOT_FOUND."""
    row = session.get(ProjectRow, (tenant, project))
    if row is None:
        raise Failure(Reason.PROJECT_NOT_FOUND, name=project)
    return row


class Projects:
    """The verbs on projects of the caller's tenant."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def create(self, asking: RequestContext, project: str, display_name: str, key: IdempotencyKey) -> Project:
        """Create a project.  Raises PROJECT_EXISTS."""

        def effect(session: Session) -> str:
            in_turn(session, asking.tenant_id)
            if session.get(ProjectRow, (asking.tenant_id, project)) is not None:
                raise Failure(Reason.PROJECT_EXISTS, name=project)
            at = self._now()
            row = ProjectRow(
                tenant=asking.tenant_id, project=project, display_name=display_name or project, created_at=at
            )
            session.add(row)
            session.flush()
            _note(session, asking, project, "project.created", at)
            return json.dumps(asdict(_shown(row)))

        return await self._database.write(
            lambda session: Project(**json.loads(once(session, key, lambda: effect(session))))
        )

    async def page(self, tenant: str, after: str, limit: int) -> list[Project]:
        """Projects by id, after one."""

        def transaction(session: Session) -> list[Project]:
            query = select(ProjectRow).where(ProjectRow.tenant == tenant, ProjectRow.project > after)
            return [_shown(row) for row in session.scalars(query.order_by(ProjectRow.project).limit(limit))]

        return await self._database.read(transaction)

    async def delete(self, asking: RequestContext, project: str) -> None:
        """Delete a project.  Raises PROJECT_NOT_FOUND, PROJECT_IN_USE while a key of it works."""

        def transaction(session: Session) -> None:
            in_turn(session, asking.tenant_id)
            row = require_project(session, asking.tenant_id, project)
            now = self._now()
            works = select(func.count()).where(
                KeyRow.tenant == asking.tenant_id,
                KeyRow.project == project,
                KeyRow.revoked_at.is_(None),
                or_(KeyRow.expires_at.is_(None), KeyRow.expires_at > now),
            )
            keys = session.scalar(works)
            if keys:
                raise Failure(Reason.PROJECT_IN_USE, name=project, keys=keys)
            session.delete(row)
            _leave(session, asking.tenant_id, project)
            _note(session, asking, project, "project.deleted", now)

        await self._database.write(transaction)


def _leave(session: Session, tenant: str, project: str) -> None:
    """End the memberships of a project, which another of its name would else have from its first moment."""
    maybe = select(UserRow).where(UserRow.tenant == tenant, UserRow.projects.contains(project, autoescape=True))
    for user in session.scalars(maybe):
        user.projects = ",".join(name for name in user.projects.split(",") if name != project)


def _shown(row: ProjectRow) -> Project:
    return Project(row.project, row.display_name, row.created_at)


def _note(session: Session, asking: RequestContext, project: str, action: str, at: int) -> None:
    resource = f"tenants/{asking.tenant_id}/projects/{project}"
    audit.note(session, tenant=asking.tenant_id, principal=asking.principal_id, action=action, resource=resource, at=at)
