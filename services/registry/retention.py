"""Versions that a model's retention policy does not keep are deleted, softly, when the sweep comes.

Invariant: what is held, tagged, or served before under an alias stays, whatever the policy says;
with two bounds a version goes only when it exceeds both.
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial

from sqlalchemy import Select, or_, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure
from services.registry.changes import By
from services.registry.deletion import Deletion
from services.registry.holds import Holds, Wish
from services.registry.store import ModelRow, TagRow, VersionRow
from services.registry.store_aliases import AliasRow

_DAY_SECONDS = 24 * 3600.0
# Of one transaction: everybody else's writes wait meanwhile.
_AT_ONCE = 50
_BY_POLICY = By(detail="its model's retention policy does not keep it")


class RetentionSweep:
    """Applies the policies, some versions a transaction."""

    def __init__(self, database: Database, now: Callable[[], float], holds: Holds, deletion: Deletion) -> None:
        self._database = database
        self._now = now
        self._holds = holds
        self._deletion = deletion

    async def run(self) -> int:
        """Delete softly what exceeds its model's policy; returns how many versions went."""
        gone = 0
        for tenant, model in await self._database.read(_limited):
            below: int | None = None
            while True:
                apply = partial(self._apply, tenant=tenant, model=model, below=below)
                some, below = await self._database.write(apply)
                gone += some
                if below is None:
                    break
        return gone

    def _apply(self, session: Session, *, tenant: str, model: str, below: int | None) -> tuple[int, int | None]:
        """Look at some, the newest first, and say below which number to go on; None at the end.

        Newest first, so that a child is gone before its parent is looked at.
        """
        row = session.get(ModelRow, (tenant, model))
        if row is None or row.deleted_at is not None:
            return 0, None
        exceeding = self._exceeding(row)
        if below is not None:
            exceeding = exceeding.where(VersionRow.number < below)
        versions = session.scalars(exceeding.order_by(VersionRow.number.desc()).limit(_AT_ONCE)).all()
        following = versions[-1].number if len(versions) == _AT_ONCE else None
        gone = 0
        for version in versions:
            # Who holds it and why is for those who ask; here it simply stays.
            with suppress(Failure):
                self._holds.require_free(session, version, Wish())
                self._deletion.hide(session, [version], _BY_POLICY)
                gone += 1
        return gone, following

    def _exceeding(self, row: ModelRow) -> Select[VersionRow]:
        """Versions beyond every bound that is set, without those that somebody marked or may go back to."""
        of_model = (VersionRow.tenant == row.tenant, VersionRow.model == row.model)
        live = (*of_model, VersionRow.deleted_at.is_(None))
        tags = select(TagRow.tag).where(TagRow.tenant == VersionRow.tenant, TagRow.version == VersionRow.version)
        former = select(AliasRow.previous).where(AliasRow.tenant == row.tenant, AliasRow.model == row.model)
        query = select(VersionRow).where(*live, ~tags.exists(), VersionRow.version.not_in(former))
        if row.keep_last:
            numbers = select(VersionRow.number).where(*live).order_by(VersionRow.number.desc())
            # Nothing is below the last that is kept while there are fewer.
            query = query.where(VersionRow.number < numbers.offset(row.keep_last - 1).limit(1).scalar_subquery())
        if row.keep_days:
            query = query.where(VersionRow.created_at < self._now() - row.keep_days * _DAY_SECONDS)
        return query


def _limited(session: Session) -> list[tuple[str, str]]:
    """Models with a policy, by tenant and id."""
    limited = or_(ModelRow.keep_last > 0, ModelRow.keep_days > 0)
    query = select(ModelRow.tenant, ModelRow.model).where(limited, ModelRow.deleted_at.is_(None))
    return [(tenant, model) for tenant, model in session.execute(query)]
