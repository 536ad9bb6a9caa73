"""An alias as it is shown, and the one way to record that it changed.

Invariant: whatever changes an alias gives it a new etag and writes an event that carries the
alias whole, in the same transaction.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.registry import events
from services.registry.callers import Caller
from services.registry.events import EventKind
from services.registry.lives import living
from services.registry.manifests import Kind
from services.registry.readiness import AliasState, Readiness, ReadinessState, Verdict, judge
from services.registry.store import VersionRow
from services.registry.store_aliases import AliasRow, CanaryRow, ReadinessRow


@dataclass(frozen=True, slots=True)
class Canary:
    """A version that gets ``percent`` of an alias's requests once its state is SERVING."""

    version: str
    number: int
    percent: int
    state: AliasState
    reason: str
    readiness: tuple[Readiness, ...] = ()


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias as it is shown; ``serving`` is empty until a first target was ready, ``previous`` until a second was.

    ``kind`` is what its target's weights are.
    """

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
    canaries: tuple[Canary, ...] = ()
    previous: str = ""
    kind: Kind | None = None

    def snapshot(self) -> dict[str, Any]:
        """The alias as plain JSON, for an event or a stored response."""
        return asdict(self)

    @staticmethod
    def restore(snapshot: dict[str, Any]) -> "Alias":
        """Read back what :meth:`snapshot` wrote, in this release or before there were canaries, or kinds."""
        canaries = tuple(
            Canary(**{**shown, "state": AliasState(shown["state"]), "readiness": _restored(shown["readiness"])})
            for shown in snapshot.get("canaries", ())
        )
        state = AliasState(snapshot["state"])
        readiness = _restored(snapshot["readiness"])
        kind = Kind(snapshot["kind"]) if snapshot.get("kind") else None
        return Alias(**{**snapshot, "state": state, "readiness": readiness, "canaries": canaries, "kind": kind})


def _restored(words: list[dict[str, Any]]) -> tuple[Readiness, ...]:
    return tuple(Readiness(**{**word, "state": ReadinessState(word["state"])}) for word in words)


@dataclass(frozen=True, slots=True)
class FlipPolicy:
    """How many living generators must be ready, and how long silence may last before one counts as gone."""

    min_ready: int
    generator_ttl_seconds: float


class AliasView:
    """Reads aliases out of their rows and records their changes, inside transactions of its users."""

    def __init__(self, now: Callable[[], float], policy: FlipPolicy) -> None:
        self.now = now
        self._policy = policy

    def verdict(self, session: Session, tenant: str, version: str) -> Verdict:
        """What the living generators make of a version.

        An encoder is none of theirs: it was checked whole when it came, and the embedder fetches what an alias names.
        """
        if _kind(session, tenant, version) is Kind.ENCODER:
            return Verdict(AliasState.SERVING, "")
        alive_since = self.now() - self._policy.generator_ttl_seconds
        return judge(_words(session, tenant, version), living(session, alive_since), self._policy.min_ready)

    def shown(self, session: Session, row: AliasRow) -> Alias:
        """The alias of a row.  Why it waits is true at the moment of asking, so it is not stored."""
        canaries = session.scalars(canaries_of(row)).all()
        alias = Alias(
            tenant=row.tenant,
            model=row.model,
            alias=row.alias,
            target=row.target,
            serving=row.serving,
            state=AliasState(row.state),
            reason=row.reason,
            etag=row.etag,
            updated_at=row.updated_at,
            readiness=_words(session, row.tenant, row.target),
            canaries=tuple(sorted((self._canary(session, item) for item in canaries), key=lambda item: item.number)),
            previous=_former(session, row),
            kind=_kind(session, row.tenant, row.target),
        )
        if alias.state is not AliasState.PENDING:
            return alias
        return replace(alias, reason=self.verdict(session, row.tenant, row.target).reason)

    def _canary(self, session: Session, row: CanaryRow) -> Canary:
        version = session.get_one(VersionRow, (row.tenant, row.version))
        state, reason = AliasState(row.state), row.reason
        if state is AliasState.PENDING:
            reason = self.verdict(session, row.tenant, row.version).reason
        percent = len(json.loads(row.buckets))
        words = _words(session, row.tenant, row.version)
        return Canary(row.version, version.number, percent, state, reason, words)

    def record(self, session: Session, row: AliasRow, kind: EventKind, version: str = "") -> None:
        """Write the event of a change, on the target or on ``version``; its number in the tenant is the new etag."""
        numbers = events.reserve(session, row.tenant)
        row.etag, row.updated_at = f"{numbers[1]}", self.now()
        session.flush()
        events.append(
            session,
            numbers,
            kind,
            tenant=row.tenant,
            model=row.model,
            version=version or row.target,
            at=row.updated_at,
            alias=self.shown(session, row).snapshot(),
        )


def _kind(session: Session, tenant: str, version: str) -> Kind:
    """What a version's weights are; what an alias names is held, so it is there."""
    return Kind(session.get_one(VersionRow, (tenant, version)).kind)


def _former(session: Session, row: AliasRow) -> str:
    """What served before, while it can serve again: what was deleted counts once more when it is restored."""
    live = (VersionRow.tenant == row.tenant, VersionRow.version == row.previous, VersionRow.deleted_at.is_(None))
    return (session.scalar(select(VersionRow.version).where(*live)) or "") if row.previous else ""


def canaries_of(row: AliasRow) -> Any:
    """The query for an alias's canaries."""
    key = (CanaryRow.tenant == row.tenant, CanaryRow.model == row.model, CanaryRow.alias == row.alias)
    return select(CanaryRow).where(*key).order_by(CanaryRow.version)


def require_alias(session: Session, caller: Caller, model: str, alias: str, etag: str = "") -> AliasRow:
    """The caller's alias, to be changed.  Raises ALIAS_NOT_FOUND, ETAG_MISMATCH for an etag that is not true."""
    row = session.get(AliasRow, (caller.tenant, model, alias))
    if row is None:
        raise Failure(Reason.ALIAS_NOT_FOUND, name=f"{model}@{alias}")
    if etag and etag != row.etag:
        raise Failure(Reason.ETAG_MISMATCH, name=f"{model}@{alias}", etag=row.etag)
    return row


def spoken_of(tenant: Any, version: Any) -> ColumnElement[bool]:
    """The condition that a generator said something of the version in these columns: without a word nothing is decided."""
    return exists().where(ReadinessRow.tenant == tenant, ReadinessRow.version == version)


def forget_refusals(session: Session, tenant: str, version: str) -> None:
    """A version that failed before is tried afresh: an old refusal must not decide."""
    session.execute(
        delete(ReadinessRow).where(
            ReadinessRow.tenant == tenant,
            ReadinessRow.version == version,
            ReadinessRow.state == ReadinessState.FAILED.value,
        )
    )


def _words(session: Session, tenant: str, version: str) -> tuple[Readiness, ...]:
    query = (
        select(ReadinessRow)
        .where(ReadinessRow.tenant == tenant, ReadinessRow.version == version)
        .order_by(ReadinessRow.generator)
    )
    return tuple(
        Readiness(word.generator, word.version, ReadinessState(word.state), word.reason, word.updated_at, word.instance)
        for word in session.scalars(query)
    )
