"""Finding versions over all models of a tenant, by what they are and how they measured.

Invariant: only live versions of live models of the caller's tenant are found; of several
measurements of a metric the newest decides.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Subquery, and_, exists, func, or_, select, tuple_
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry.callers import Caller
from services.registry.manifests import Kind
from services.registry.store import MeasurementRow, ModelRow, TagRow, VersionRow
from services.registry.version_view import Version, shown_all


class Order(StrEnum):
    """In which order versions are found."""

    NEWEST = "NEWEST"
    HIGHEST = "HIGHEST"
    LOWEST = "LOWEST"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is searched for; what is empty or None sets no condition."""

    text: str = ""
    base_digest: str = ""
    task: str = ""
    tag: str = ""
    kind: Kind | None = None
    metric: str = ""
    least: float | None = None
    most: float | None = None
    dataset_digest: str = ""
    job: str = ""
    order: Order = Order.NEWEST


@dataclass(frozen=True, slots=True)
class Found:
    """A version, and the value of the metric that was asked for."""

    version: Version
    value: float | None

    def position(self, order: Order) -> tuple[float, str]:
        """Where a list of this order goes on after it."""
        key = self.version.created_at if order is Order.NEWEST or self.value is None else self.value
        return key, self.version.version


class Search:
    """The verb that finds versions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, caller: Caller, wanted: Wanted, after: tuple[float, str] | None, limit: int) -> list[Found]:
        """At most ``limit`` after a position.  Raises FIELD_INVALID when something is asked of no metric."""
        needs_metric = wanted.order is not Order.NEWEST or wanted.least is not None or wanted.most is not None
        if needs_metric and not wanted.metric:
            problem = "is needed for bounds and for an order by its values"
            raise Failure(Reason.FIELD_INVALID, field="metric", problem=problem)
        return await self._database.read(lambda session: _page(session, caller, wanted, after, limit))


def _page(session: Session, caller: Caller, wanted: Wanted, after: tuple[float, str] | None, limit: int) -> list[Found]:
    newest = _newest_values(caller, wanted) if wanted.metric else None
    value: Any = VersionRow.created_at if newest is None else newest.c.value
    query = select(VersionRow, value).join(
        ModelRow, and_(ModelRow.tenant == VersionRow.tenant, ModelRow.model == VersionRow.model)
    )
    if newest is not None:
        query = query.join(newest, newest.c.version == VersionRow.version)
    key: Any = VersionRow.created_at if wanted.order is Order.NEWEST else value
    position = tuple_(key, VersionRow.version)
    rising = wanted.order is Order.LOWEST
    query = query.where(*_conditions(caller, wanted, value))
    if after is not None:
        query = query.where(position > after if rising else position < after)
    ordered = [column.asc() if rising else column.desc() for column in (key, VersionRow.version)]
    rows = session.execute(query.order_by(*ordered).limit(limit)).all()
    versions = shown_all(session, [row for row, _ in rows])
    return [
        Found(version, None if newest is None else measured)
        for version, (_, measured) in zip(versions, rows, strict=True)
    ]


def _newest_values(caller: Caller, wanted: Wanted) -> Subquery:
    """Version and value of the newest measurement of the metric, for every version that has one."""
    asked = [MeasurementRow.tenant == caller.tenant, MeasurementRow.metric == wanted.metric]
    if wanted.dataset_digest:
        asked.append(MeasurementRow.dataset_digest == wanted.dataset_digest)
    last = (
        select(MeasurementRow.version, func.max(MeasurementRow.number).label("number"))
        .where(*asked)
        .group_by(MeasurementRow.version)
        .subquery()
    )
    return (
        select(MeasurementRow.version, MeasurementRow.value)
        .join(last, and_(MeasurementRow.version == last.c.version, MeasurementRow.number == last.c.number))
        .where(MeasurementRow.tenant == caller.tenant)
        .subquery()
    )


def _conditions(caller: Caller, wanted: Wanted, value: Any) -> list[ColumnElement[bool]]:
    conditions = [
        VersionRow.tenant == caller.tenant,
        VersionRow.deleted_at.is_(None),
        ModelRow.deleted_at.is_(None),
    ]
    equal = {VersionRow.base_digest: wanted.base_digest, ModelRow.task: wanted.task, VersionRow.job: wanted.job}
    conditions += [column == asked for column, asked in equal.items() if asked]
    if wanted.kind is not None:
        conditions.append(VersionRow.kind == wanted.kind.value)
    if wanted.dataset_digest and not wanted.metric:
        conditions.append(VersionRow.dataset_digest == wanted.dataset_digest)
    if wanted.least is not None:
        conditions.append(value >= wanted.least)
    if wanted.most is not None:
        conditions.append(value <= wanted.most)
    if wanted.tag:
        conditions.append(_tagged(TagRow.tag == wanted.tag))
    if wanted.text:
        conditions.append(_mentions(wanted.text))
    return conditions


def _tagged(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(TagRow.tenant == VersionRow.tenant, TagRow.version == VersionRow.version, condition)


def _mentions(text: str) -> ColumnElement[bool]:
    """Part of something that people wrote; the wildcards of LIKE mean themselves."""
    columns = (ModelRow.model, ModelRow.description, ModelRow.card, ModelRow.task)
    return or_(
        *(column.icontains(text, autoescape=True) for column in columns),
        _tagged(TagRow.tag.icontains(text, autoescape=True)),
    )
