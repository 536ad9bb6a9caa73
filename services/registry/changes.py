"""What was deleted, restored and purged, in order: who asked, when, and why.

Invariant: a row is written in the transaction of the change that it tells of, and is never changed; it outlives the
version and the model, and numbers of a model's name never repeat.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from services.registry.store import ChangeRow, ModelRow, VersionRow


class ChangeKind(StrEnum):
    """What happened."""

    VERSION_DELETED = "VERSION_DELETED"
    VERSION_RESTORED = "VERSION_RESTORED"
    VERSION_PURGED = "VERSION_PURGED"
    MODEL_DELETED = "MODEL_DELETED"
    MODEL_RESTORED = "MODEL_RESTORED"
    MODEL_PURGED = "MODEL_PURGED"


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something, and why; ``principal`` is empty for the sweep, ``detail`` is our own word."""

    principal: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """One row; ``version`` is empty and ``version_number`` 0 where the model itself is meant."""

    number: int
    kind: ChangeKind
    version: str
    version_number: int
    by: By
    created_at: float


def note_model(session: Session, row: ModelRow, kind: ChangeKind, by: By, at: float) -> None:
    """Add what happened to a model to the open transaction."""
    _add(session, (row.tenant, row.model), kind, by, at, [("", 0)])


def note_versions(session: Session, rows: Sequence[VersionRow], kind: ChangeKind, by: By, at: float) -> None:
    """Add what happened to versions of one model to the open transaction."""
    if rows:
        key = (rows[0].tenant, rows[0].model)
        _add(session, key, kind, by, at, [(row.version, row.number) for row in rows])


def _add(
    session: Session, key: tuple[str, str], kind: ChangeKind, by: By, at: float, versions: Sequence[tuple[str, int]]
) -> None:
    tenant, model = key
    of_model = (ChangeRow.tenant == tenant, ChangeRow.model == model)
    last = session.scalar(select(func.max(ChangeRow.number)).where(*of_model)) or 0
    session.add_all(
        ChangeRow(
            tenant=tenant,
            model=model,
            number=number,
            kind=kind.value,
            version=version,
            version_number=version_number,
            principal=by.principal,
            created_at=at,
            reason=by.reason,
            detail=by.detail,
        )
        for number, (version, version_number) in enumerate(versions, start=last + 1)
    )
    session.flush()


def page(session: Session, tenant: str, model: str, before: int | None, limit: int) -> list[Change]:
    """What happened to a model's name, newest first, below a number."""
    query = select(ChangeRow).where(ChangeRow.tenant == tenant, ChangeRow.model == model)
    if before is not None:
        query = query.where(ChangeRow.number < before)
    return [
        Change(
            number=row.number,
            kind=ChangeKind(row.kind),
            version=row.version,
            version_number=row.version_number,
            by=By(row.principal, row.reason, row.detail),
            created_at=row.created_at,
        )
        for row in session.scalars(query.order_by(ChangeRow.number.desc()).limit(limit))
    ]
