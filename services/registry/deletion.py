"""Versions and models go in two steps: hidden at once, gone for good after a grace.

Invariants: what is held is not deleted; what is hidden is found by nobody, keeps its files and
comes back whole; what was made from a version outlives it never, so every parent that a
manifest names is there or can be restored.  Every change says who asked for it and why.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from sqlalchemy import delete, select, true, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry import full_models
from services.registry.callers import Caller
from services.registry.changes import By, ChangeKind, note_model, note_versions
from services.registry.events import EventKind
from services.registry.holds import Holds, Wish, aliases_in, child_of_any, without_first
from services.registry.models import Model, require_model, revive
from services.registry.models import shown as shown_model
from services.registry.store import FileRow, MeasurementRow, ModelRow, ParentRow, TagRow, VersionRow
from services.registry.store_aliases import GateRow, ReadinessRow
from services.registry.version_view import Version, find_version, shown
from services.registry.versions import record, revive_version

# Of one statement: databases bound how many values one may name.
_AT_ONCE = 500
# Of one transaction of the sweep: everybody else's writes wait meanwhile.
_PURGE_AT_ONCE = 50
_GRACE_OVER = By(detail="its grace was over")

_Position = tuple[float, str, str]


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
            by = By(caller.principal, wish.why)
            self.hide(session, [row], by)
            if not wish.purge:
                return shown(session, row)
            self._drop(session, [row], by)
            return None

        return await self._database.write(transaction)

    def hide(self, session: Session, rows: Sequence[VersionRow], by: By, *, with_model: bool = False) -> None:
        """Delete versions of one model softly in the open transaction; one that is hidden already stays as it is."""
        going, at = [row for row in rows if row.deleted_at is None], self._now()
        for row in going:
            row.deleted_at, row.purge_at, row.with_model = at, at + self._grace_seconds, with_model
        for some in _batches(going):
            tenant, digests = some[0].tenant, [row.version for row in some]
            said = (ReadinessRow.tenant == tenant, ReadinessRow.version.in_(digests))
            session.execute(delete(ReadinessRow).where(*said))
        session.flush()
        record(session, going, EventKind.VERSION_DELETED, at)
        note_versions(session, going, ChangeKind.VERSION_DELETED, by, at)

    def _drop(self, session: Session, rows: Sequence[VersionRow], by: By) -> None:
        """Remove versions of one model and all that hangs on them in the open transaction; blobs go with a sweep."""
        note_versions(session, rows, ChangeKind.VERSION_PURGED, by, self._now())
        for some in _batches(rows):
            tenant, digests = some[0].tenant, [row.version for row in some]
            for table in (FileRow, TagRow, ParentRow, MeasurementRow, ReadinessRow, VersionRow):
                session.execute(delete(table).where(table.tenant == tenant, table.version.in_(digests)))

    def _drop_model(self, session: Session, row: ModelRow, by: By) -> None:
        """Remove a model that has no versions and no aliases, with its gates, in the open transaction."""
        note_model(session, row, ChangeKind.MODEL_PURGED, by, self._now())
        session.execute(delete(GateRow).where(GateRow.tenant == row.tenant, GateRow.model == row.model))
        session.delete(row)
        session.flush()

    async def restore_version(self, caller: Caller, model: str, reference: str, why: str = "") -> Version:
        """Bring a version back.  Raises PARENT_DELETED, and as ``find_version`` does."""

        def transaction(session: Session) -> Version:
            own = Caller(caller.tenant, caller.principal)
            row = find_version(session, own, model, reference, deleted=True)
            if row.deleted_at is not None:
                revive_version(session, row, self._now(), By(caller.principal, why))
            return shown(session, row, whole=True)

        return await self._database.write(transaction)

    async def delete_model(self, caller: Caller, model: str, wish: Wish) -> Model | None:
        """Hide a model with its versions, or purge it (None).

        Raises MODEL_IN_USE while an alias or another model needs one, VERSION_HELD, MODEL_NOT_FOUND.
        """

        def transaction(session: Session) -> Model | None:
            row = require_model(session, caller.tenant, model, deleted=wish.purge)
            of_model = (VersionRow.tenant == caller.tenant, VersionRow.model == model)
            versions = session.scalars(select(VersionRow).where(*of_model).order_by(VersionRow.number.desc())).all()
            self._require_free_model(session, row, versions, wish)
            by = By(caller.principal, wish.why, "with its model")
            self.hide(session, versions, by, with_model=True)
            if wish.purge:
                self._drop(session, versions, by)
                self._drop_model(session, row, By(caller.principal, wish.why))
                return None
            row.deleted_at = self._now()
            row.purge_at = row.deleted_at + self._grace_seconds
            row.revision += 1
            session.flush()
            note_model(session, row, ChangeKind.MODEL_DELETED, By(caller.principal, wish.why), row.deleted_at)
            return shown_model(row)

        return await self._database.write(transaction)

    def _require_free_model(self, session: Session, row: ModelRow, versions: Sequence[VersionRow], wish: Wish) -> None:
        use = aliases_in(session, row.tenant, row.model)
        if use is not None:
            raise Failure(Reason.MODEL_IN_USE, name=row.model, user=use.what, remedy=use.remedy)
        own = select(VersionRow.version).where(VersionRow.tenant == row.tenant, VersionRow.model == row.model)
        foreign = VersionRow.model != row.model
        if not wish.purge:
            foreign &= VersionRow.deleted_at.is_(None)
        child = child_of_any(session, row.tenant, own, foreign)
        if child is not None:
            state = "" if child.deleted_at is None else " (deleted, but not purged)"
            name = f"{child.model}@{child.number}"
            remedy = without_first(name, purge=wish.purge)
            raise Failure(Reason.MODEL_IN_USE, name=row.model, user=f"{name}, made from it{state}", remedy=remedy)
        for version in versions:
            tied = full_models.tied_to(session, version, own, deleted=wish.purge)
            if tied:
                remedy = without_first("NAME@VERSION", purge=wish.purge)
                raise Failure(Reason.MODEL_IN_USE, name=row.model, user=tied, remedy=remedy)
        holders = [] if wish.force else self._holds.ready_on(session, row.tenant, own)
        if holders:
            raise Failure(Reason.VERSION_HELD, name=row.model, holders=", ".join(holders[:5]))

    async def restore_model(self, caller: Caller, model: str, why: str = "") -> Model:
        """Bring a model back with the versions that went with it.  Raises MODEL_NOT_FOUND."""

        def transaction(session: Session) -> Model:
            row = require_model(session, caller.tenant, model, deleted=True)
            if row.deleted_at is not None:
                revive(session, row, self._now(), By(caller.principal, why))
            went = select(VersionRow).where(
                VersionRow.tenant == caller.tenant, VersionRow.model == model, VersionRow.with_model
            )
            by = By(caller.principal, why, "with its model")
            # Parents are older than what was made from them, so each is back before it is needed.
            for version in session.scalars(went.order_by(VersionRow.number)).all():
                revive_version(session, version, self._now(), by)
            session.flush()
            return shown_model(row)

        return await self._database.write(transaction)

    async def purge_due(self) -> int:
        """Remove for good what was deleted longer ago than the grace; returns how many versions and models went."""
        gone, after = 0, None
        while True:
            some, after = await self._database.write(partial(self._purge_some, after=after))
            gone += some
            if after is None:
                return gone + await self._database.write(self._purge_models)

    def _purge_some(self, session: Session, *, after: _Position | None) -> tuple[int, _Position | None]:
        """Purge some of what is due, and where to go on; None at the end.  Children before what they were made from."""
        position = (VersionRow.created_at, VersionRow.tenant, VersionRow.version)
        due = select(VersionRow).where(VersionRow.purge_at <= self._now())
        if after is not None:
            due = due.where(tuple_(*position) < after)
        rows = session.scalars(due.order_by(*(key.desc() for key in position)).limit(_PURGE_AT_ONCE)).all()
        last = rows[-1] if len(rows) == _PURGE_AT_ONCE else None
        following = None if last is None else (last.created_at, last.tenant, last.version)
        gone = 0
        for row in rows:
            # A child that can still be restored keeps what it was made from.
            child = child_of_any(session, row.tenant, [row.version], true())
            if child is None and not full_models.tied_to(session, row, deleted=True):
                self._drop(session, [row], _GRACE_OVER)
                gone += 1
        return gone, following

    def _purge_models(self, session: Session) -> int:
        some = select(VersionRow.version).where(
            VersionRow.tenant == ModelRow.tenant, VersionRow.model == ModelRow.model
        )
        due = select(ModelRow).where(ModelRow.purge_at <= self._now(), ~some.exists())
        models = session.scalars(due).all()
        for model in models:
            self._drop_model(session, model, _GRACE_OVER)
        return len(models)


def _batches(rows: Sequence[VersionRow]) -> Iterator[list[VersionRow]]:
    left = iter(rows)
    while some := list(islice(left, _AT_ONCE)):
        yield some
