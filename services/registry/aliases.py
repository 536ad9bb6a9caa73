"""Names that move: the user sets a target, generators load it, then the serving version follows.

Invariants: the target changes by compare-and-swap on the etag; the serving version
changes only by :meth:`Aliases.report` or :meth:`Aliases.assign`, in one transaction
with its history row, its event and the gates that it passed; a failed target changes
nothing but the state.  A failure is final until somebody sets the target again, so that
nothing moves at an hour when nobody expects it.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry import canaries, moves
from services.registry.alias_view import Alias, AliasView, forget_refusals, require_alias, spoken_of
from services.registry.callers import Caller
from services.registry.events import EventKind
from services.registry.gate_keeping import refusal, require_passed
from services.registry.lives import hear
from services.registry.moves import Move, MoveKind, Spot
from services.registry.readiness import AliasState, Report
from services.registry.replay import Replay
from services.registry.store_aliases import AliasRow, ReadinessRow
from services.registry.version_view import find_version

NEW = "new"


@dataclass(frozen=True, slots=True)
class Wish:
    """The version that an alias is to serve, the etag that the caller saw, why it moves, and whether it goes back."""

    reference: str
    etag: str = ""
    why: str = ""
    rollback: bool = False


class Aliases:
    """The verbs on aliases.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, view: AliasView, shares: canaries.Canaries) -> None:
        self._database = database
        self._view = view
        self._canaries = shares

    async def assign(self, caller: Caller, model: str, alias: str, wish: Wish, replay: Replay) -> Alias:
        """Give an alias a target.

        Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND, ETAG_MISMATCH, GATE_NOT_PASSED, FIELD_INVALID for a rollback to
        what did not serve just before.
        """
        spot = Spot(caller.tenant, model, alias)

        def transaction(session: Session) -> Alias:
            return Alias.restore(replay.json(session, lambda: self._assign(session, caller, spot, wish).snapshot()))

        try:
            return await self._database.write(transaction)
        except Failure as failure:
            if failure.reason is Reason.GATE_NOT_PASSED:
                note = partial(self._note_refusal, caller=caller, spot=spot, wish=wish, failure=failure)
                # Who lost the answer asks again, and is refused again: that is one refusal.
                once = replay.aside("refused")
                await self._database.write(lambda session: once.json(session, lambda: note(session)))
            raise

    def _assign(self, session: Session, caller: Caller, spot: Spot, wish: Wish) -> Alias:
        target = find_version(session, caller, spot.model, wish.reference).version
        row = session.get(AliasRow, (spot.tenant, spot.model, spot.alias), with_for_update=True)
        held = "" if row is None else row.etag
        if wish.etag and wish.etag != (held or NEW):
            raise Failure(Reason.ETAG_MISMATCH, name=spot.name, etag=held or NEW)
        if wish.rollback:
            _require_former(spot, target, row)
        require_passed(session, spot, target, row, rollback=wish.rollback)
        if row is None:
            row = AliasRow(
                tenant=spot.tenant, model=spot.model, alias=spot.alias, serving="", etag="", previous="", why=""
            )
        row.target, row.principal, row.why, row.rollback = target, caller.principal, wish.why, wish.rollback
        # Back to what serves: nothing has to be loaded, nothing moves.
        state = AliasState.SERVING if target == row.serving else AliasState.PENDING
        row.state, row.reason, row.updated_at = state.value, "", self._view.now()
        session.add(row)
        forget_refusals(session, spot.tenant, target)
        self._view.record(session, row, EventKind.ALIAS_TARGETED)
        if state is AliasState.PENDING:
            self._settle(session, row)
        return self._view.shown(session, row)

    def _note_refusal(
        self, session: Session, *, caller: Caller, spot: Spot, wish: Wish, failure: Failure
    ) -> dict[str, Any]:
        """Keep what a gate refused; the change itself was rolled back, so this is a transaction of its own."""
        row = session.get(AliasRow, (spot.tenant, spot.model, spot.alias))
        move = Move(
            number=0,
            kind=MoveKind.REFUSED,
            from_version="" if row is None else row.serving,
            to_version=failure.variables["version"],
            principal=caller.principal,
            created_at=self._view.now(),
            reason=wish.why,
            detail=failure.variables["found"],
        )
        moves.note(session, spot, move)
        return {}

    def _settle(self, session: Session, row: AliasRow) -> bool:
        """Move a pending alias on if its target's readiness decides it.  True when it changed."""
        verdict = self._view.verdict(session, row.tenant, row.target)
        if verdict.state is AliasState.PENDING:
            return False
        lacking = ""
        if verdict.state is AliasState.SERVING:
            # What it was measured by may have changed while it was loaded.
            lacking = refusal(session, Spot.of(row), row.target, row.serving, rollback=row.rollback)
        if lacking:
            row.state, row.reason = AliasState.FAILED.value, lacking
            self._note(session, row, MoveKind.REFUSED, detail=lacking)
        else:
            row.state, row.reason = verdict.state.value, verdict.reason
        if row.state == AliasState.SERVING.value:
            self._move(session, row)
            self._view.record(session, row, EventKind.ALIAS_FLIPPED)
        else:
            self._view.record(session, row, EventKind.ALIAS_FAILED)
        return True

    def _move(self, session: Session, row: AliasRow) -> None:
        self._note(session, row, MoveKind.ROLLBACK if row.rollback else MoveKind.SET)
        row.previous, row.serving = row.serving, row.target
        # What serves needs no share of its own.
        canaries.end(session, row, row.serving)

    def _note(self, session: Session, row: AliasRow, kind: MoveKind, detail: str = "") -> None:
        move = Move(
            number=0,
            kind=kind,
            from_version=row.serving,
            to_version=row.target,
            principal=row.principal,
            created_at=self._view.now(),
            reason=row.why,
            detail=detail,
        )
        moves.note(session, Spot.of(row), move)

    async def report(self, report: Report) -> list[Alias]:
        """Take a generator's word; returns the aliases that it changed.  Idempotent.

        Raises VERSION_NOT_FOUND, GENERATOR_REPLACED.
        """

        def transaction(session: Session) -> list[Alias]:
            hear(session, report.life, self._view.now())
            pending = select(AliasRow).where(AliasRow.state == AliasState.PENDING.value)
            if report.version:
                self._keep(session, report)
                pending = pending.where(AliasRow.tenant == report.tenant, AliasRow.target == report.version)
            else:
                pending = pending.where(spoken_of(AliasRow.tenant, AliasRow.target))
            tried = self._canaries.settle(session, report.tenant, report.version)
            rows = session.scalars(pending.with_for_update()).all()
            changed = [*tried, *(row for row in rows if self._settle(session, row))]
            return [self._view.shown(session, row) for row in dict.fromkeys(changed)]

        return await self._database.write(transaction)

    def _keep(self, session: Session, report: Report) -> None:
        find_version(session, Caller(report.tenant, report.life.generator), "", report.version)
        session.merge(
            ReadinessRow(
                tenant=report.tenant,
                version=report.version,
                generator=report.life.generator,
                instance=report.life.instance,
                state=report.state.value,
                reason=report.reason,
                updated_at=self._view.now(),
            )
        )
        session.flush()

    async def get(self, caller: Caller, model: str, alias: str) -> Alias:
        """One alias.  Raises ALIAS_NOT_FOUND."""

        def query(session: Session) -> Alias:
            return self._view.shown(session, require_alias(session, caller, model, alias))

        return await self._database.read(query)

    async def page(self, caller: Caller, model: str, after: tuple[str, ...], limit: int) -> list[Alias]:
        """Aliases by tenant, model and id after a position; an empty model means all."""
        position = (AliasRow.tenant, AliasRow.model, AliasRow.alias)

        def transaction(session: Session) -> list[Alias]:
            query = select(AliasRow).where(caller.sees(AliasRow.tenant))
            if model:
                query = query.where(AliasRow.model == model)
            if after:
                query = query.where(tuple_(*position) > after)
            rows = session.scalars(query.order_by(*position).limit(limit))
            return [self._view.shown(session, row) for row in rows.all()]

        return await self._database.read(transaction)

    async def delete(self, caller: Caller, model: str, alias: str, etag: str, why: str = "") -> None:
        """Delete an alias with its canaries; its moves are kept.  Raises ALIAS_NOT_FOUND, ETAG_MISMATCH."""

        def transaction(session: Session) -> None:
            row = require_alias(session, caller, model, alias, etag)
            move = Move(
                number=0,
                kind=MoveKind.DELETE,
                from_version=row.serving,
                to_version="",
                principal=caller.principal,
                created_at=self._view.now(),
                reason=why,
            )
            moves.note(session, Spot.of(row), move)
            canaries.end(session, row)
            self._view.record(session, row, EventKind.ALIAS_DELETED)
            session.delete(row)

        await self._database.write(transaction)

    async def moves(self, caller: Caller, model: str, alias: str, before: int | None, limit: int) -> list[Move]:
        """What happened, newest first.  Raises ALIAS_NOT_FOUND when there never was such an alias."""

        def transaction(session: Session) -> list[Move]:
            found = moves.page(session, Spot(caller.tenant, model, alias), before, limit)
            if not found and before is None:
                require_alias(session, caller, model, alias)
            return found

        return await self._database.read(transaction)


def _require_former(spot: Spot, target: str, row: AliasRow | None) -> None:
    """Raise FIELD_INVALID unless a target is where a rollback leads: what served just before, or what serves now."""
    former = [] if row is None else [version for version in (row.previous, row.serving) if version]
    if target not in former:
        led = f"leads to {' or '.join(former)}" if former else "leads nowhere: it served nothing before"
        problem = f"a rollback of {spot.name} {led}; for another version set the alias without it, gates are asked then"
        raise Failure(Reason.FIELD_INVALID, field="rollback", problem=problem)
