"""Canaries: versions that get a share of an alias's requests while another one serves the rest.

Invariants: a canary gets requests only once as many living generators are ready for it as a
target needs, and a failure is final until it is set again; it is always a version of the
alias's own model, never the one that serves; all shares of an alias are at most a hundred.
"""

import json
from dataclasses import dataclass

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry.alias_view import Alias, AliasView, canaries_of, forget_refusals, require_alias, spoken_of
from services.registry.callers import Caller
from services.registry.events import EventKind
from services.registry.moves import Move, MoveKind, Spot, note
from services.registry.readiness import AliasState
from services.registry.replay import Replay
from services.registry.shares import BUCKETS, bucket_of, resized
from services.registry.store_aliases import AliasRow, CanaryRow
from services.registry.version_view import find_version


@dataclass(frozen=True, slots=True)
class CanaryWish:
    """One version and the share that it is to get; 0 ends it."""

    reference: str
    percent: int
    etag: str = ""
    why: str = ""


class Canaries:
    """The verb on canaries, one transaction, and what other changes of an alias need to know of them."""

    def __init__(self, database: Database, view: AliasView) -> None:
        self._database = database
        self._view = view

    async def set(self, caller: Caller, model: str, alias: str, wish: CanaryWish, replay: Replay) -> Alias:
        """Give a version a share.

        Raises ALIAS_NOT_FOUND, ALIAS_NOT_SERVING, ETAG_MISMATCH, FIELD_INVALID, and as ``find_version`` does.
        """

        def transaction(session: Session) -> Alias:
            return Alias.restore(
                replay.json(session, lambda: self._set(session, caller, Spot(caller.tenant, model, alias), wish))
            )

        return await self._database.write(transaction)

    def _set(self, session: Session, caller: Caller, spot: Spot, wish: CanaryWish) -> dict[str, object]:
        row = require_alias(session, caller, spot.model, spot.alias, wish.etag)
        version = find_version(session, caller, spot.model, wish.reference).version
        found = session.get(CanaryRow, (spot.tenant, spot.model, spot.alias, version))
        changed = found is not None if wish.percent == 0 else self._share(session, row, version, found, wish.percent)
        if wish.percent == 0 and found is not None:
            session.delete(found)
            session.flush()
        if changed:
            note(
                session,
                spot,
                Move(
                    number=0,
                    kind=MoveKind.CANARY,
                    from_version=row.serving,
                    to_version=version,
                    principal=caller.principal,
                    created_at=self._view.now(),
                    reason=wish.why,
                    percent=wish.percent,
                ),
            )
            self._view.record(session, row, EventKind.ALIAS_CANARY_CHANGED, version)
        return self._view.shown(session, row).snapshot()

    def _share(self, session: Session, row: AliasRow, version: str, found: CanaryRow | None, percent: int) -> bool:
        """Give the share; False when everything is so already."""
        others = [
            bucket for item in session.scalars(canaries_of(row)) if item is not found for bucket in _buckets(item)
        ]
        self._require_room(row, version, percent, len(others))
        if found is None:
            found = CanaryRow(
                tenant=row.tenant, model=row.model, alias=row.alias, version=version, buckets="[]", state="", reason=""
            )
        own = _buckets(found)
        anew = found.state in ("", AliasState.FAILED.value)
        if not anew and len(own) == percent:
            return False
        found.buckets = json.dumps(resized(own, others, percent))
        if anew:
            found.state, found.reason = AliasState.PENDING.value, ""
            forget_refusals(session, row.tenant, version)
            self._judge(session, found)
        session.add(found)
        session.flush()
        return True

    def _require_room(self, row: AliasRow, version: str, percent: int, others: int) -> None:
        if not row.serving:
            why = "a canary needs a version beside which it is tried"
            raise Failure(Reason.ALIAS_NOT_SERVING, name=f"{row.model}@{row.alias}", why=why)
        if version == row.serving:
            problem = "this version serves already; a canary is another one"
            raise Failure(Reason.FIELD_INVALID, field="version", problem=problem)
        if percent + others > BUCKETS:
            problem = f"other canaries of {row.model}@{row.alias} have {others} percent; {BUCKETS - others} are left"
            raise Failure(Reason.FIELD_INVALID, field="percent", problem=problem)

    def _judge(self, session: Session, row: CanaryRow) -> bool:
        """Move a pending canary on if its readiness decides it.  True when it changed."""
        verdict = self._view.verdict(session, row.tenant, row.version)
        if verdict.state is AliasState.PENDING:
            return False
        row.state, row.reason = verdict.state.value, verdict.reason
        return True

    def settle(self, session: Session, tenant: str = "", version: str = "") -> list[AliasRow]:
        """Move on pending canaries that a report decides: those on ``version``, all without one.

        Returns the rows of the aliases that changed, each change recorded.
        """
        pending = select(CanaryRow).where(CanaryRow.state == AliasState.PENDING.value)
        if version:
            pending = pending.where(CanaryRow.tenant == tenant, CanaryRow.version == version)
        else:
            pending = pending.where(spoken_of(CanaryRow.tenant, CanaryRow.version))
        changed = []
        for row in session.scalars(pending.with_for_update()).all():
            if self._judge(session, row):
                alias = session.get_one(AliasRow, (row.tenant, row.model, row.alias))
                self._view.record(session, alias, EventKind.ALIAS_CANARY_CHANGED, row.version)
                changed.append(alias)
        return changed


def end(session: Session, row: AliasRow, version: str = "") -> None:
    """End an alias's canaries, or the one on ``version``, in the open transaction; the caller records the change."""
    gone = delete(CanaryRow).where(
        CanaryRow.tenant == row.tenant, CanaryRow.model == row.model, CanaryRow.alias == row.alias
    )
    session.execute(gone.where(CanaryRow.version == version) if version else gone)
    session.flush()


def chosen(session: Session, row: AliasRow, sticky_key: str) -> str:
    """The canary that a caller of the alias gets; empty when it gets what serves."""
    serving = canaries_of(row).where(CanaryRow.state == AliasState.SERVING.value)
    shares = session.scalars(serving).all()
    if not shares:
        return ""
    bucket = bucket_of(row.tenant, row.model, row.alias, sticky_key)
    return next((item.version for item in shares if bucket in _buckets(item)), "")


def _buckets(row: CanaryRow) -> list[int]:
    buckets: list[int] = json.loads(row.buckets)
    return buckets
