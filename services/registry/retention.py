"""Versions that a model's retention policy does not keep are deleted, softly, when the sweep comes.

Invariant: what is held, tagged, or served before under an alias stays, whatever the policy says;
with two bounds a version goes only when it exceeds both.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure
from services.registry.deletion import Deletion
from services.registry.holds import Holds, Wish
from services.registry.store import AliasRow, ModelRow, TagRow, VersionRow

_DAY_SECONDS = 24 * 3600.0


class RetentionSweep:
    """Applies the policies, one transaction a model."""

    def __init__(self, database: Database, now: Callable[[], float], holds: Holds, deletion: Deletion) -> None:
        self._database = database
        self._now = now
        self._holds = holds
        self._deletion = deletion

    async def run(self) -> int:
        """Delete softly what exceeds its model's policy; returns how many versions went."""
        gone = 0
        for tenant, model in await self._database.read(_limited):
            gone += await self._database.write(partial(self._apply, tenant=tenant, model=model))
        return gone

    def _apply(self, session: Session, *, tenant: str, model: str) -> int:
        row = session.get(ModelRow, (tenant, model))
        if row is None or row.deleted_at is not None:
            return 0
        gone = 0
        for version in self._exceeding(session, row):
            # Who holds it and why is for those who ask; here it simply stays.
            with suppress(Failure):
                self._holds.require_free(session, version, Wish())
                self._deletion.hide(session, version)
                gone += 1
        return gone

    def _exceeding(self, session: Session, row: ModelRow) -> list[VersionRow]:
        """Versions beyond every bound that is set, newest first, without those that somebody marked or may go back to.

        Newest first, so that a child is gone before its parent is looked at.
        """
        live = select(VersionRow).where(
            VersionRow.tenant == row.tenant, VersionRow.model == row.model, VersionRow.deleted_at.is_(None)
        )
        versions = session.scalars(live.order_by(VersionRow.number.desc()).offset(row.keep_last)).all()
        oldest = self._now() - row.keep_days * _DAY_SECONDS if row.keep_days else float("inf")
        kept = _kept(session, row)
        return [version for version in versions if version.created_at < oldest and version.version not in kept]


def _kept(session: Session, row: ModelRow) -> set[str]:
    of_tenant = TagRow.tenant == row.tenant
    former = select(AliasRow.previous).where(AliasRow.tenant == row.tenant, AliasRow.model == row.model)
    return {*session.scalars(select(TagRow.version).where(of_tenant)), *session.scalars(former)}


def _limited(session: Session) -> list[tuple[str, str]]:
    """Models with a policy, by tenant and id."""
    limited = or_(ModelRow.keep_last > 0, ModelRow.keep_days > 0)
    query = select(ModelRow.tenant, ModelRow.model).where(limited, ModelRow.deleted_at.is_(None))
    return [(tenant, model) for tenant, model in session.execute(query)]
