"""Names that move: the user sets a target, generators load it, then the serving version follows.

Invariants: the target changes by compare-and-swap on the etag; the serving version
changes only by :meth:`Aliases.report` or :meth:`Aliases.assign`, in one transaction
with its history row and its event; a failed target changes nothing but the state.
A failure is final until somebody sets the target again, so that nothing moves at
an hour when nobody expects it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry import events
from services.registry.callers import Caller
from services.registry.events import EventKind
from services.registry.lives import hear, living
from services.registry.readiness import AliasState, Readiness, ReadinessState, Report, Verdict, judge
from services.registry.replay import Replay
from services.registry.store import AliasRow, MoveRow, ReadinessRow
from services.registry.versions import find_version

NEW = "new"


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias as it is shown; ``serving`` is empty until a first target was ready."""

    tenant: str
    model: str
    alias: str
    target: str
    serving: str
    state: AliasState
    reason: str
    etag: str
    updated_at: float
    readiness: tuple[Readiness, ...] = ()

    def snapshot(self) -> dict[str, Any]:
        """The alias as plain JSON, for an event or a stored response."""
        return asdict(self)

    @staticmethod
    def restore(snapshot: dict[str, Any]) -> "Alias":
        """Read back what :meth:`snapshot` wrote."""
        words = tuple(Readiness(**{**word, "state": ReadinessState(word["state"])}) for word in snapshot["readiness"])
        return Alias(**{**snapshot, "state": AliasState(snapshot["state"]), "readiness": words})


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias's serving version; ``from_version`` is empty at first."""

    number: int
    from_version: str
    to_version: str
    principal: str
    created_at: float


@dataclass(frozen=True, slots=True)
class FlipPolicy:
    """How many living generators must be ready, and how long silence may last before one counts as gone."""

    min_ready: int
    generator_ttl_seconds: float


class Aliases:
    """The verbs on aliases.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, now: Callable[[], float], policy: FlipPolicy) -> None:
        self._database = database
        self._now = now
        self._policy = policy

    async def assign(self, caller: Caller, model: str, alias: str, reference: str, etag: str, replay: Replay) -> Alias:
        """Give an alias a target.  Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND, ETAG_MISMATCH."""

        def transaction(session: Session) -> Alias:
            snapshot = replay.json(
                session, lambda: self._assign(session, caller, model, alias, reference, etag).snapshot()
            )
            return Alias.restore(snapshot)

        return await self._database.write(transaction)

    def _assign(self, session: Session, caller: Caller, model: str, alias: str, reference: str, etag: str) -> Alias:
        target = find_version(session, caller, model, reference).version
        row = session.get(AliasRow, (caller.tenant, model, alias), with_for_update=True)
        held = "" if row is None else row.etag
        if etag and etag != (held or NEW):
            raise Failure(Reason.ETAG_MISMATCH, name=f"{model}@{alias}", etag=held or NEW)
        if row is None:
            row = AliasRow(tenant=caller.tenant, model=model, alias=alias, serving="", etag="")
        row.target, row.principal = target, caller.principal
        # Back to what serves: nothing has to be loaded, nothing moves.
        state = AliasState.SERVING if target == row.serving else AliasState.PENDING
        row.state, row.reason, row.updated_at = state.value, "", self._now()
        session.add(row)
        # A target that failed before is tried afresh: an old refusal must not decide.
        session.execute(
            delete(ReadinessRow).where(
                ReadinessRow.tenant == caller.tenant,
                ReadinessRow.version == target,
                ReadinessRow.state == ReadinessState.FAILED.value,
            )
        )
        self._record(session, row, EventKind.ALIAS_TARGETED)
        if state is AliasState.PENDING:
            self._settle(session, row)
        return self._shown(session, row)

    def _settle(self, session: Session, row: AliasRow) -> bool:
        """Move a pending alias on if its target's readiness decides it.  True when it changed."""
        verdict = self._verdict(session, row)
        if verdict.state is AliasState.PENDING:
            return False
        row.state, row.reason = verdict.state.value, verdict.reason
        if verdict.state is AliasState.SERVING:
            self._move(session, row)
            self._record(session, row, EventKind.ALIAS_FLIPPED)
        else:
            self._record(session, row, EventKind.ALIAS_FAILED)
        return True

    def _move(self, session: Session, row: AliasRow) -> None:
        key = (MoveRow.tenant == row.tenant, MoveRow.model == row.model, MoveRow.alias == row.alias)
        last = session.scalar(select(func.max(MoveRow.number)).where(*key)) or 0
        session.add(
            MoveRow(
                tenant=row.tenant,
                model=row.model,
                alias=row.alias,
                number=last + 1,
                from_version=row.serving,
                to_version=row.target,
                principal=row.principal,
                created_at=self._now(),
            )
        )
        row.serving = row.target

    def _record(self, session: Session, row: AliasRow, kind: EventKind) -> None:
        """Write the event of a change; its number in the tenant is the new etag."""
        numbers = events.reserve(session, row.tenant)
        row.etag, row.updated_at = f"{numbers[1]}", self._now()
        session.flush()
        events.append(
            session,
            numbers,
            kind,
            tenant=row.tenant,
            model=row.model,
            version=row.target,
            at=row.updated_at,
            alias=self._shown(session, row).snapshot(),
        )

    async def report(self, report: Report) -> list[Alias]:
        """Take a generator's word; returns the aliases that it moved or failed.  Idempotent.

        Raises VERSION_NOT_FOUND, GENERATOR_REPLACED.
        """

        def transaction(session: Session) -> list[Alias]:
            hear(session, report.life, self._now())
            if not report.version:
                pending = select(AliasRow).where(AliasRow.state == AliasState.PENDING.value)
            else:
                self._note(session, report)
                pending = select(AliasRow).where(
                    AliasRow.tenant == report.tenant,
                    AliasRow.target == report.version,
                    AliasRow.state == AliasState.PENDING.value,
                )
            rows = session.scalars(pending.with_for_update()).all()
            return [self._shown(session, row) for row in rows if self._settle(session, row)]

        return await self._database.write(transaction)

    def _note(self, session: Session, report: Report) -> None:
        anyone = Caller(report.tenant, report.life.generator)
        find_version(session, anyone, "", report.version)
        session.merge(
            ReadinessRow(
                tenant=report.tenant,
                version=report.version,
                generator=report.life.generator,
                instance=report.life.instance,
                state=report.state.value,
                reason=report.reason,
                updated_at=self._now(),
            )
        )
        session.flush()

    async def get(self, caller: Caller, model: str, alias: str) -> Alias:
        """One alias.  Raises ALIAS_NOT_FOUND."""
        return await self._database.read(lambda session: self._shown(session, self._row(session, caller, model, alias)))

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
            return [self._shown(session, row) for row in rows.all()]

        return await self._database.read(transaction)

    async def delete(self, caller: Caller, model: str, alias: str, etag: str) -> None:
        """Delete an alias; its moves are kept.  Raises ALIAS_NOT_FOUND, ETAG_MISMATCH."""

        def transaction(session: Session) -> None:
            row = self._row(session, caller, model, alias)
            if etag and etag != row.etag:
                raise Failure(Reason.ETAG_MISMATCH, name=f"{model}@{alias}", etag=row.etag)
            self._record(session, row, EventKind.ALIAS_DELETED)
            session.delete(row)

        await self._database.write(transaction)

    async def moves(self, caller: Caller, model: str, alias: str, before: int | None, limit: int) -> list[Move]:
        """Moves, newest first.  Raises ALIAS_NOT_FOUND when there never was such an alias."""

        def transaction(session: Session) -> list[Move]:
            query = select(MoveRow).where(
                MoveRow.tenant == caller.tenant, MoveRow.model == model, MoveRow.alias == alias
            )
            if before is not None:
                query = query.where(MoveRow.number < before)
            rows = session.scalars(query.order_by(MoveRow.number.desc()).limit(limit)).all()
            if not rows and before is None:
                self._row(session, caller, model, alias)
            return [Move(r.number, r.from_version, r.to_version, r.principal, r.created_at) for r in rows]

        return await self._database.read(transaction)

    def _row(self, session: Session, caller: Caller, model: str, alias: str) -> AliasRow:
        row = session.get(AliasRow, (caller.tenant, model, alias))
        if row is None:
            raise Failure(Reason.ALIAS_NOT_FOUND, name=f"{model}@{alias}")
        return row

    def _verdict(self, session: Session, row: AliasRow) -> Verdict:
        alive_since = self._now() - self._policy.generator_ttl_seconds
        return judge(_words(session, row), living(session, alive_since), self._policy.min_ready)

    def _shown(self, session: Session, row: AliasRow) -> Alias:
        shown = Alias(
            tenant=row.tenant,
            model=row.model,
            alias=row.alias,
            target=row.target,
            serving=row.serving,
            state=AliasState(row.state),
            reason=row.reason,
            etag=row.etag,
            updated_at=row.updated_at,
            readiness=_words(session, row),
        )
        if shown.state is not AliasState.PENDING:
            return shown
        # Why it waits is true at the moment of asking, so it is not stored.
        return replace(shown, reason=self._verdict(session, row).reason)


def _words(session: Session, row: AliasRow) -> tuple[Readiness, ...]:
    query = (
        select(ReadinessRow)
        .where(ReadinessRow.tenant == row.tenant, ReadinessRow.version == row.target)
        .order_by(ReadinessRow.generator)
    )
    return tuple(
        Readiness(word.generator, word.version, ReadinessState(word.state), word.reason, word.updated_at, word.instance)
        for word in session.scalars(query)
    )
