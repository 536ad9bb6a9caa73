"""Who still needs a version: aliases, what was made from it, and generators that hold it ready."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, or_, select, true
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.registry import full_models
from services.registry.lives import living
from services.registry.readiness import Life, ReadinessState
from services.registry.store import ParentRow, VersionRow
from services.registry.store_aliases import AliasRow, CanaryRow, ReadinessRow


@dataclass(frozen=True, slots=True)
class Wish:
    """How somebody deletes: ``purge`` for good at once, ``force`` past generators that hold it ready; and why."""

    purge: bool = False
    force: bool = False
    why: str = ""


class Holds:
    """Refuses deletions of what is still needed.  Reads in transactions of its users."""

    def __init__(self, now: Callable[[], float], generator_ttl_seconds: float) -> None:
        self._now = now
        self._generator_ttl_seconds = generator_ttl_seconds

    def require_free(self, session: Session, row: VersionRow, wish: Wish) -> None:
        """Raise VERSION_IN_USE or VERSION_HELD, naming who holds the version and what helps."""
        name = f"{row.model}@{row.number}"
        user = _alias_of(session, row) or _child_of(session, row, deleted=wish.purge)
        user = user or full_models.tied_to(session, row, deleted=wish.purge)
        if user:
            raise Failure(Reason.VERSION_IN_USE, name=name, user=user)
        if wish.force:
            return
        holders = self.ready_on(session, row.tenant, [row.version])
        if holders:
            raise Failure(Reason.VERSION_HELD, name=name, holders=", ".join(holders[:5]))

    def ready_on(self, session: Session, tenant: str, versions: Sequence[str] | Select[str]) -> list[str]:
        """Names of the living generators whose present life says READY of one of the versions."""
        words = session.scalars(
            select(ReadinessRow).where(
                ReadinessRow.tenant == tenant,
                ReadinessRow.version.in_(versions),
                ReadinessRow.state == ReadinessState.READY.value,
            )
        ).all()
        if not words:
            return []
        alive = living(session, self._now() - self._generator_ttl_seconds)
        return sorted({word.generator for word in words if Life(word.generator, word.instance) in alive})


def child_of_any(
    session: Session, tenant: str, versions: Sequence[str] | Select[str], condition: ColumnElement[bool]
) -> VersionRow | None:
    """A version that was made from one of ``versions`` and that meets a condition."""
    children = select(VersionRow).join(
        ParentRow, (ParentRow.tenant == VersionRow.tenant) & (ParentRow.version == VersionRow.version)
    )
    return session.scalars(
        children.where(VersionRow.tenant == tenant, ParentRow.parent.in_(versions), condition).limit(1)
    ).first()


def _alias_of(session: Session, row: VersionRow) -> str:
    serves_or_will = or_(AliasRow.target == row.version, AliasRow.serving == row.version)
    alias = session.scalars(select(AliasRow).where(AliasRow.tenant == row.tenant, serves_or_will).limit(1)).first()
    if alias is not None:
        verb = "serves it" if alias.serving == row.version else "is to serve it"
        return f"the alias {alias.model}@{alias.alias}, which {verb}"
    of_version = (CanaryRow.tenant == row.tenant, CanaryRow.version == row.version)
    canary = session.scalars(select(CanaryRow).where(*of_version).limit(1)).first()
    return "" if canary is None else f"the alias {canary.model}@{canary.alias}, whose canary it is"


def _child_of(session: Session, row: VersionRow, *, deleted: bool) -> str:
    """A version that was made from it; with ``deleted`` one that could still be restored counts too."""
    child = child_of_any(session, row.tenant, [row.version], true() if deleted else VersionRow.deleted_at.is_(None))
    if child is None:
        return ""
    state = "" if child.deleted_at is None else " (deleted, but not purged)"
    return f"its child {child.model}@{child.number}{state}"
