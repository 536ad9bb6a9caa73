"""What a tenant used in a span of time, line by line or in sums: what bills are written from.

Invariant: an export sees one moment.  It ends at the record that was the newest when it
began, so nothing is in it twice or half.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.access.store import UsageRow, require_tenant
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason

_LINES_A_PAGE = 500
_DAY_MICROSECONDS = 86_400 * 1_000_000


class Group(Enum):
    """By what usage is summed."""

    KEY = "key"
    MODEL = "model"
    PROJECT = "project"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start`` to before ``end``, Unix microseconds; None is no bound."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One request, or a group's sums; what the sum is not by is empty.  ``created_at`` is Unix microseconds."""

    request_id: str = ""
    key: str = ""
    model: str = ""
    project: str = ""
    day: str = ""
    method: str = ""
    requests: int = 1
    prompt_tokens: int = 0
    completion_tokens: int = 0
    micros: int = 0
    created_at: int | None = None


class UsageExport:
    """Reads usage for bills."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def lines(self, tenant: str, span: Span, groups: tuple[Group, ...]) -> AsyncIterator[list[UsageLine]]:
        """Lines in parts.  Raises TENANT_NOT_FOUND, FIELD_INVALID."""
        if span.start is not None and span.end is not None and span.end < span.start:
            raise Failure(Reason.FIELD_INVALID, field="end_time", problem="must not be before start_time")
        newest = await self._database.read(lambda session: _newest(session, tenant))
        if groups:
            sums = await self._database.read(lambda session: _sums(session, tenant, span, groups, newest))
            for start in range(0, len(sums), _LINES_A_PAGE):
                yield sums[start : start + _LINES_A_PAGE]
            return
        last = 0
        while True:
            rows = await self._database.read(partial(_page, tenant=tenant, span=span, after=last, newest=newest))
            if not rows:
                return
            last = rows[-1].sequence
            yield [_line(row) for row in rows]


def _newest(session: Session, tenant: str) -> int:
    require_tenant(session, tenant)
    return session.scalar(select(func.max(UsageRow.sequence)).where(UsageRow.tenant == tenant)) or 0


def _within(tenant: str, span: Span, newest: int) -> list[Any]:
    bounds: list[Any] = [UsageRow.tenant == tenant, UsageRow.sequence <= newest]
    if span.start is not None:
        bounds.append(UsageRow.created_at >= span.start)
    if span.end is not None:
        bounds.append(UsageRow.created_at < span.end)
    return bounds


def _page(session: Session, tenant: str, span: Span, after: int, newest: int) -> list[UsageRow]:
    query = select(UsageRow).where(*_within(tenant, span, newest), UsageRow.sequence > after)
    return list(session.scalars(query.order_by(UsageRow.sequence).limit(_LINES_A_PAGE)))


def _line(row: UsageRow) -> UsageLine:
    return UsageLine(
        request_id=row.request_id,
        key=row.principal,
        model=row.model,
        project=row.project,
        day=_day(row.created_at // _DAY_MICROSECONDS),
        method=row.method,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        micros=row.micros,
        created_at=row.created_at,
    )


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).date().isoformat()


_COLUMNS: dict[Group, Any] = {
    Group.KEY: UsageRow.principal,
    Group.MODEL: UsageRow.model,
    Group.PROJECT: UsageRow.project,
    # Whole days since 1970: the remainder is taken off because the division of two databases differs.
    Group.DAY: (UsageRow.created_at - UsageRow.created_at % _DAY_MICROSECONDS) / _DAY_MICROSECONDS,
}


def _sums(session: Session, tenant: str, span: Span, groups: tuple[Group, ...], newest: int) -> list[UsageLine]:
    columns = [_COLUMNS[group] for group in groups]
    sums = (
        func.count(),
        func.sum(UsageRow.prompt_tokens),
        func.sum(UsageRow.completion_tokens),
        func.sum(UsageRow.micros),
    )
    query = select(*columns, *sums).where(*_within(tenant, span, newest)).group_by(*columns).order_by(*columns)
    return [_sum(groups, row) for row in session.execute(query)]


def _sum(groups: tuple[Group, ...], row: Any) -> UsageLine:
    requests, prompt, completion, micros = (int(value) for value in row[len(groups) :])
    of = {
        group: _day(int(value)) if group is Group.DAY else str(value) for group, value in zip(groups, row, strict=False)
    }
    return UsageLine(
        key=of.get(Group.KEY, ""),
        model=of.get(Group.MODEL, ""),
        project=of.get(Group.PROJECT, ""),
        day=of.get(Group.DAY, ""),
        requests=requests,
        prompt_tokens=prompt,
        completion_tokens=completion,
        micros=micros,
    )
