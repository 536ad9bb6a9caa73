"""Versions and models go in two steps: hidden at once, gone for good after a grace.

Invariants: what is held is not deleted; what is hidden is found by nobody, keeps its files and
comes back whole; what was made from a version outlives it never, so every parent that a
manifest names is there or can be restored.
"""

from collections.abc import Callable

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry import full_models
from services.registry.callers import Caller
from services.registry.events import EventKind
from services.registry.holds import Holds, Wish, child_of_any
from services.registry.models import Model, require_model, revive
from services.registry.models import shown as shown_model
from services.registry.store import (
    AliasRow,
    FileRow,
    GateRow,
    MeasurementRow,
    ModelRow,
    ParentRow,
    ReadinessRow,
    TagRow,
    VersionRow,
)
from services.registry.versions import Version, find_version, record, revive_version, shown


class Deletion:
    """The verbs that delete and restore.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, now: Callable[[], float], holds: Holds, grace_seconds: float) -> None:
        self._database = database
        self._now = now
        self._holds = holds
        self._grace_seconds = grace_seconds

    async def delete_version(self, caller: Caller, model: str, reference: str, wish: Wish) -> Version | None:
        """Hide a version, or purge it (None).  Raises VERSION_IN_USE, VERSION_HELD, and as ``find_version`` does."""

        def transaction(session: Session) -> Version | None:
            row = find_version(session, caller, model, reference, deleted=wish.purge)
            self._holds.require_free(session, row, wish)
            self.hide(session, row)
            if not wish.purge:
                return shown(session, row)
            drop(session, row)
            return None

        return await self._database.write(transaction)

    def hide(self, session: Session, row: VersionRow, *, with_model: bool = False) -> None:
        """Delete softly in the open transaction; a version that is hidden already stays as it is."""
        if row.deleted_at is not None:
            return
        row.deleted_at = self._now()
        row.purge_at = row.deleted_at + self._grace_seconds
        row.with_model = with_model
        of_version = (AliasRow.tenant == row.tenant, AliasRow.previous == row.version)
        session.execute(update(AliasRow).where(*of_version).values(previous=""))
        session.execute(
            delete(ReadinessRow).where(ReadinessRow.tenant == row.tenant, ReadinessRow.version == row.version)
        )
        session.flush()
        record(session, row, EventKind.VERSION_DELETED, self._now())

    async def restore_version(self, caller: Caller, model: str, reference: str) -> Version:
        """Bring a version back.  Raises PARENT_DELETED, and as ``find_version`` does."""

        def transaction(session: Session) -> Version:
            own = Caller(caller.tenant, caller.principal)
            row = find_version(session, own, model, reference, deleted=True)
            if row.deleted_at is not None:
                revive_version(session, row, self._now())
            return shown(session, row, whole=True)

        return await self._database.write(transaction)

    async def delete_model(self, caller: Caller, model: str, wish: Wish) -> Model | None:
        """Hide a model with its versions, or purge it (None).

        Raises MODEL_IN_USE while an alias or another model needs one, VERSION_HELD, MODEL_NOT_FOUND.
        """

        def transaction(session: Session) -> Model | None:
            row = require_model(session, caller.tenant, model, deleted=wish.purge)
            of_model = (VersionRow.tenant == caller.tenant, VersionRow.model == model)
            versions = list(session.scalars(select(VersionRow).where(*of_model).order_by(VersionRow.number.desc())))
            self._require_free_model(session, row, versions, wish)
            for version in versions:
                self.hide(session, version, with_model=True)
            if wish.purge:
                for version in versions:
                    drop(session, version)
                drop_model(session, row)
                return None
            row.deleted_at = self._now()
            row.purge_at = row.deleted_at + self._grace_seconds
            row.revision += 1
            session.flush()
            return shown_model(row)

        return await self._database.write(transaction)

    def _require_free_model(self, session: Session, row: ModelRow, versions: list[VersionRow], wish: Wish) -> None:
        of_model = (AliasRow.tenant == row.tenant, AliasRow.model == row.model)
        alias = session.scalars(select(AliasRow).where(*of_model).limit(1)).first()
        if alias is not None:
            raise Failure(Reason.MODEL_IN_USE, name=row.model, user=f"the alias {alias.alias}")
        digests = [version.version for version in versions]
        foreign = VersionRow.model != row.model
        if not wish.purge:
            foreign &= VersionRow.deleted_at.is_(None)
        child = child_of_any(session, row.tenant, digests, foreign)
        if child is not None:
            state = "" if child.deleted_at is None else " (deleted, but not purged)"
            user = f"{child.model}@{child.number}, made from it{state}"
            raise Failure(Reason.MODEL_IN_USE, name=row.model, user=user)
        for version in versions:
            tied = full_models.tied_to(session, version, digests, deleted=wish.purge)
            if tied:
                raise Failure(Reason.MODEL_IN_USE, name=row.model, user=tied)
        holders = [] if wish.force else self._holds.ready_on(session, row.tenant, digests)
        if holders:
            raise Failure(Reason.VERSION_HELD, name=row.model, holders=", ".join(holders[:5]))

    async def restore_model(self, caller: Caller, model: str) -> Model:
        """Bring a model back with the versions that went with it.  Raises MODEL_NOT_FOUND."""

        def transaction(session: Session) -> Model:
            row = require_model(session, caller.tenant, model, deleted=True)
            if row.deleted_at is not None:
                revive(row)
            went = select(VersionRow).where(
                VersionRow.tenant == caller.tenant, VersionRow.model == model, VersionRow.with_model
            )
            # Parents are older than what was made from them, so each is back before it is needed.
            for version in session.scalars(went.order_by(VersionRow.number)).all():
                revive_version(session, version, self._now())
            session.flush()
            return shown_model(row)

        return await self._database.write(transaction)

    async def purge_due(self) -> int:
        """Remove for good what was deleted longer ago than the grace; returns how many versions and models went."""
        return await self._database.write(self._purge_due)

    def _purge_due(self, session: Session) -> int:
        now, gone = self._now(), 0
        due = select(VersionRow).where(VersionRow.purge_at <= now).order_by(VersionRow.created_at.desc())
        for row in session.scalars(due).all():
            # A child that can still be restored keeps what it was made from.
            anything = or_(VersionRow.deleted_at.is_(None), VersionRow.deleted_at.is_not(None))
            child = child_of_any(session, row.tenant, [row.version], anything)
            if child is None and not full_models.tied_to(session, row, deleted=True):
                drop(session, row)
                gone += 1
        for model in session.scalars(select(ModelRow).where(ModelRow.purge_at <= now)).all():
            of_model = (VersionRow.tenant == model.tenant, VersionRow.model == model.model)
            if session.scalars(select(VersionRow.version).where(*of_model).limit(1)).first() is None:
                drop_model(session, model)
                gone += 1
        return gone


def drop(session: Session, row: VersionRow) -> None:
    """Remove a version and all that hangs on it in the open transaction; blobs go with the next sweep."""
    for table in (FileRow, TagRow, ParentRow, MeasurementRow, ReadinessRow):
        session.execute(delete(table).where(table.tenant == row.tenant, table.version == row.version))
    session.delete(row)
    session.flush()


def drop_model(session: Session, row: ModelRow) -> None:
    """Remove a model that has no versions and no aliases, with its gates, in the open transaction."""
    session.execute(delete(GateRow).where(GateRow.tenant == row.tenant, GateRow.model == row.model))
    session.delete(row)
    session.flush()
