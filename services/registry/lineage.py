"""Where a version comes from and what was made from it, as far as both can be followed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.registry.callers import Caller
from services.registry.store import ParentRow, VersionRow
from services.registry.version_view import Version, find_version, shown_all

_MOST = 500
# Of the chain, each is shown whole.
_MOST_CHAIN = 100


@dataclass(frozen=True, slots=True)
class Node:
    """A version ``depth`` steps away, reached over ``via``: the parent or child on the way to it."""

    version: Version
    via: str
    depth: int


@dataclass(frozen=True, slots=True)
class Family:
    """The chain of first parents beginning with the version itself; ancestors and descendants, breadth first."""

    chain: tuple[Version, ...]
    ancestors: tuple[Node, ...]
    descendants: tuple[Node, ...]
    truncated: bool


@dataclass(frozen=True, slots=True)
class _Step:
    version: str
    via: str
    depth: int


class LineageReader:
    """The verb on lineage."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def around(self, caller: Caller, model: str, reference: str) -> Family:
        """A version's family, at most 500 each way.  Raises as ``find_version`` does."""
        return await self._database.read(lambda session: _family(session, caller, model, reference))


def _family(session: Session, caller: Caller, model: str, reference: str) -> Family:
    row = find_version(session, caller, model, reference)
    up, more_up = _walk(row.version, lambda versions: _parents(session, row.tenant, versions))
    down, more_down = _walk(row.version, lambda versions: _children(session, row.tenant, versions))
    ancestors = _nodes(session, row.tenant, up)
    by_version = {node.version.version: node.version for node in ancestors}
    chain = shown_all(session, [row])
    while len(chain) < _MOST_CHAIN:
        parent = by_version.pop(chain[-1].manifest.lineage.parent_version, None)
        if parent is None:
            break
        chain.append(parent)
    return Family(tuple(chain), ancestors, _nodes(session, row.tenant, down), more_up or more_down)


def _walk(start: str, neighbours: Callable[[list[str]], Iterable[tuple[str, str]]]) -> tuple[list[_Step], bool]:
    """Everything that is reached from ``start``, nearest first; True with it when there is more than is returned."""
    seen, layer, steps, depth = {start}, [start], list[_Step](), 0
    while layer:
        depth += 1
        following = []
        for via, version in neighbours(layer):
            if version in seen:
                continue
            if len(steps) == _MOST:
                return steps, True
            seen.add(version)
            following.append(version)
            steps.append(_Step(version, via, depth))
        layer = following
    return steps, False


def _parents(session: Session, tenant: str, versions: list[str]) -> list[tuple[str, str]]:
    query = select(ParentRow).where(ParentRow.tenant == tenant, ParentRow.version.in_(versions))
    rows = session.scalars(query.order_by(ParentRow.version, ParentRow.position))
    return [(row.version, row.parent) for row in rows]


def _children(session: Session, tenant: str, versions: list[str]) -> list[tuple[str, str]]:
    """Pairs of parent and child, oldest child first; what was deleted leads nowhere."""
    query = (
        select(ParentRow.parent, ParentRow.version)
        .join(VersionRow, (VersionRow.tenant == ParentRow.tenant) & (VersionRow.version == ParentRow.version))
        .where(ParentRow.tenant == tenant, ParentRow.parent.in_(versions), VersionRow.deleted_at.is_(None))
        .order_by(VersionRow.created_at, VersionRow.version)
        .limit(_MOST + 1)
    )
    return [(parent, child) for parent, child in session.execute(query)]


def _nodes(session: Session, tenant: str, steps: list[_Step]) -> tuple[Node, ...]:
    wanted = [step.version for step in steps]
    rows = session.scalars(select(VersionRow).where(VersionRow.tenant == tenant, VersionRow.version.in_(wanted))).all()
    found = {version.version: version for version in shown_all(session, rows)}
    return tuple(Node(found[step.version], step.via, step.depth) for step in steps if step.version in found)
