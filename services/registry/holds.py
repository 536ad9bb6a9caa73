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

# Of the aliases of a version so many are named.
_MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Use:
    """What needs a version, and what ends that."""

    what: str
    remedy: str


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
        use = _aliases_of(session, row) or _child_of(session, row, deleted=wish.purge)
        tied = "" if use else full_models.tied_to(session, row, deleted=wish.purge)
        use = use or (Use(tied, without_first("NAME@VERSION", purge=wish.purge)) if tied else None)
        if use is not None:
            raise Failure(Reason.VERSION_IN_USE, name=name, user=use.what, remedy=use.remedy)
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


def _aliases_of(session: Session, row: VersionRow) -> Use | None:
    """The aliases that serve it or are to, else those whose canary it is."""
    serves_or_will = or_(AliasRow.target == row.version, AliasRow.serving == row.version)
    query = select(AliasRow).where(AliasRow.tenant == row.tenant, serves_or_will)
    aliases = session.scalars(query.order_by(AliasRow.model, AliasRow.alias).limit(_MOST_NAMED + 1)).all()
    if aliases:
        serving = [
            (_named(it), "which serves it" if it.serving == row.version else "which is to serve it") for it in aliases
        ]
        which, first = "it" if len(aliases) == 1 else "each", _named(aliases[0])
        remedy = f"Move {which} to another version (`trivium models alias {first} VERSION`, SetAlias), or {_without(which, first)}"
        return Use(_listed(serving), remedy)
    of_version = (CanaryRow.tenant == row.tenant, CanaryRow.version == row.version)
    trying = select(CanaryRow).where(*of_version).order_by(CanaryRow.model, CanaryRow.alias)
    canaries = session.scalars(trying.limit(_MOST_NAMED + 1)).all()
    if not canaries:
        return None
    ending = f"`trivium models canary {_named(canaries[0])} {row.number} 0`, SetCanary with 0 percent"
    return Use(_listed([(_named(it), "whose canary it is") for it in canaries]), f"End that first ({ending})")


def aliases_in(session: Session, tenant: str, model: str) -> Use | None:
    """A model's aliases."""
    query = select(AliasRow).where(AliasRow.tenant == tenant, AliasRow.model == model).order_by(AliasRow.alias)
    aliases = session.scalars(query.limit(_MOST_NAMED + 1)).all()
    if not aliases:
        return None
    remedy = _without("it" if len(aliases) == 1 else "each", _named(aliases[0]))
    return Use(_listed([(_named(it), "") for it in aliases]), remedy[0].upper() + remedy[1:])


def _named(row: AliasRow | CanaryRow) -> str:
    return f"{row.model}@{row.alias}"


def _listed(aliases: Sequence[tuple[str, str]]) -> str:
    """Names of aliases, each with what it has to do with the version."""
    told = ", ".join(f"{name}, {how}" if how else name for name, how in aliases[:_MOST_NAMED])
    if len(aliases) == 1:
        return f"the alias {told}"
    return f"the aliases {told}" + (", and more" if len(aliases) > _MOST_NAMED else "")


def _without(which: str, alias: str) -> str:
    return f"delete {which} (`trivium models rm {alias} --alias`, DeleteAlias)"


def without_first(name: str, *, purge: bool) -> str:
    """What ends the need of a version for good, or for as long as it can be restored."""
    return f"Delete what needs it first (`trivium models rm {name}{' --purge' if purge else ''}`, DeleteVersion)"


def _child_of(session: Session, row: VersionRow, *, deleted: bool) -> Use | None:
    """A version that was made from it; with ``deleted`` one that could still be restored counts too."""
    child = child_of_any(session, row.tenant, [row.version], true() if deleted else VersionRow.deleted_at.is_(None))
    if child is None:
        return None
    name, state = f"{child.model}@{child.number}", "" if child.deleted_at is None else " (deleted, but not purged)"
    return Use(f"its child {name}{state}", without_first(name, purge=deleted))
