"""What happened to an alias, in order: who asked, when, from what, to what, and why.

Invariant: a row is written in the transaction of the change that it tells of, and is never
changed.  A refusal changes nothing, so it is written after the change was rolled back.
"""

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from services.registry.store_aliases import AliasRow, MoveRow


class MoveKind(StrEnum):
    """What happened."""

    SET = "SET"
    ROLLBACK = "ROLLBACK"
    CANARY = "CANARY"
    DELETE = "DELETE"
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Move:
    """One row; ``from_version`` is empty at first, ``to_version`` after a deletion.  ``percent`` is a canary's share."""

    number: int
    kind: MoveKind
    from_version: str
    to_version: str
    principal: str
    created_at: float
    reason: str = ""
    percent: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Spot:
    """Which alias."""

    tenant: str
    model: str
    alias: str

    @staticmethod
    def of(row: AliasRow) -> "Spot":
        """That of a row."""
        return Spot(row.tenant, row.model, row.alias)

    @property
    def name(self) -> str:
        """As people write it."""
        return f"{self.model}@{self.alias}"

    @property
    def rows(self) -> ColumnElement[bool]:
        """The condition on its moves."""
        return and_(MoveRow.tenant == self.tenant, MoveRow.model == self.model, MoveRow.alias == self.alias)


def note(session: Session, spot: Spot, move: Move) -> None:
    """Add a row to the open transaction; its number is taken here."""
    last = session.scalar(select(func.max(MoveRow.number)).where(spot.rows)) or 0
    session.add(
        MoveRow(
            tenant=spot.tenant,
            model=spot.model,
            alias=spot.alias,
            number=last + 1,
            from_version=move.from_version,
            to_version=move.to_version,
            principal=move.principal,
            created_at=move.created_at,
            kind=move.kind.value,
            reason=move.reason,
            percent=move.percent,
            detail=move.detail,
        )
    )
    session.flush()


def page(session: Session, spot: Spot, before: int | None, limit: int) -> list[Move]:
    """Rows, newest first, below a number."""
    query = select(MoveRow).where(spot.rows)
    if before is not None:
        query = query.where(MoveRow.number < before)
    return [
        Move(
            number=row.number,
            kind=MoveKind(row.kind),
            from_version=row.from_version,
            to_version=row.to_version,
            principal=row.principal,
            created_at=row.created_at,
            reason=row.reason,
            percent=row.percent,
            detail=row.detail,
        )
        for row in session.scalars(query.order_by(MoveRow.number.desc()).limit(limit))
    ]
