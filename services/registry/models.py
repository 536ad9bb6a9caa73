"""Models: named lines of versions inside a tenant, and the names that they may bear.

Invariant: a model's name never means something else in another place: what the
platform itself calls ``base`` or ``auto`` is refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from types import MappingProxyType
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.nearest import nearest
from services.registry import changes
from services.registry.callers import Caller
from services.registry.changes import By, Change, ChangeKind, note_model
from services.registry.replay import Replay
from services.registry.store import ModelRow
from services.registry.store_aliases import GateRow

_RESERVED = frozenset({"base", "auto"})
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
_MAX_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Retention:
    """Which versions are kept; 0 sets no bound."""

    keep_last: int = 0
    keep_days: int = 0


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is shown."""

    tenant: str
    model: str
    description: str
    labels: Mapping[str, str]
    created_at: float
    etag: str
    card: str = ""
    task: str = ""
    retention: Retention = Retention()
    deleted_at: float | None = None
    purge_at: float | None = None
    examples: tuple[str, ...] = ()
    fallback: str = ""


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What to change; None leaves a field as it is.  An empty etag overwrites."""

    description: str | None = None
    labels: Mapping[str, str] | None = None
    etag: str = ""
    card: str | None = None
    task: str | None = None
    retention: Retention | None = None
    examples: tuple[str, ...] | None = None
    fallback: str | None = None

    def apply(self, row: ModelRow) -> None:
        """Change a row."""
        for name in ("description", "card", "task", "fallback"):
            if (value := getattr(self, name)) is not None:
                setattr(row, name, value)
        if self.labels is not None:
            row.labels = json.dumps(dict(self.labels), sort_keys=True)
        if self.retention is not None:
            row.keep_last, row.keep_days = self.retention.keep_last, self.retention.keep_days
        if self.examples is not None:
            row.examples = json.dumps(self.examples, ensure_ascii=False)


def shown(row: ModelRow) -> Model:
    """The domain's view of a row."""
    return Model(
        tenant=row.tenant,
        model=row.model,
        description=row.description,
        labels=MappingProxyType(json.loads(row.labels)),
        created_at=row.created_at,
        etag=_etag(row),
        card=row.card,
        task=row.task,
        retention=Retention(row.keep_last, row.keep_days),
        deleted_at=row.deleted_at,
        purge_at=row.purge_at,
        examples=tuple(json.loads(row.examples)),
        fallback=row.fallback,
    )


def _etag(row: ModelRow) -> str:
    # With the time of creation: a model that was deleted and made again is another one.
    return f"{row.revision}-{int(row.created_at * 1e6):x}"


def require_name(model: str) -> None:
    """Raise FIELD_INVALID unless a model may be called so."""
    _refuse_reserved(model)
    if not _NAME.match(model):
        problem = "must be 1 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends"
        raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)


def _refuse_reserved(model: str) -> None:
    if model in _RESERVED:
        problem = f"{model} is a name of the platform's own; no model is kept under it"
        raise Failure(Reason.FIELD_INVALID, field="model", problem=problem)


def require_model(session: Session, tenant: str, model: str, *, deleted: bool = False) -> ModelRow:
    """The tenant's model.

    Raises MODEL_NOT_FOUND with the nearest of the tenant's own names, FIELD_INVALID for a reserved one.
    """
    _refuse_reserved(model)
    row = session.get(ModelRow, (tenant, model))
    if row is None or (row.deleted_at is not None and not deleted):
        raise not_found(model, names(session, tenant))
    return row


def not_found(name: str, candidates: list[str]) -> Failure:
    """The failure for a name that means nothing, with the nearest that does."""
    return Failure(Reason.MODEL_NOT_FOUND, name=name, nearest=nearest(name, candidates))


def names(session: Session, tenant: str) -> list[str]:
    """The names of a tenant's models."""
    live = (ModelRow.tenant == tenant, ModelRow.deleted_at.is_(None))
    return list(session.scalars(select(ModelRow.model).where(*live).order_by(ModelRow.model).limit(_MAX_NAMES)))


def ensure_model(session: Session, tenant: str, model: str, at: float, by: By) -> ModelRow:
    """The tenant's model, created when it is new.  Raises FIELD_INVALID for a reserved name.

    A deleted one is there again; its deleted versions stay deleted, each can be restored.
    """
    row = session.get(ModelRow, (tenant, model), with_for_update=True)
    if row is None:
        return _add(session, tenant, model, at)
    if row.deleted_at is not None:
        revive(session, row, at, by)
    return row


def revive(session: Session, row: ModelRow, at: float, by: By) -> None:
    """Bring back a deleted model in the open transaction."""
    row.deleted_at = row.purge_at = None
    row.revision += 1
    note_model(session, row, ChangeKind.MODEL_RESTORED, by, at)


def _add(session: Session, tenant: str, model: str, at: float) -> ModelRow:
    require_name(model)
    row = ModelRow(
        tenant=tenant,
        model=model,
        description="",
        labels="{}",
        revision=1,
        last_number=0,
        created_at=at,
        card="",
        task="",
        keep_last=0,
        keep_days=0,
        examples="[]",
        fallback="",
    )
    session.add(row)
    session.flush()
    return row


class Models:
    """The verbs on models.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def create(self, caller: Caller, model: str, wish: ModelChange, replay: Replay) -> Model:
        """Create an empty model.  Raises MODEL_EXISTS, FIELD_INVALID for a reserved name.

        Under the name of a deleted one it begins anew with what is given here, the old one's gates are gone, and the
        numbers of versions go on.
        """

        def effect(session: Session) -> dict[str, Any]:
            row = session.get(ModelRow, (caller.tenant, model))
            if row is None:
                row = _add(session, caller.tenant, model, self._now())
            elif row.deleted_at is None:
                raise Failure(Reason.MODEL_EXISTS, name=model)
            else:
                by = By(caller.principal, detail="a model was made anew under its name, without the old one's gates")
                revive(session, row, self._now(), by)
                session.execute(delete(GateRow).where(GateRow.tenant == row.tenant, GateRow.model == row.model))
                row.created_at, row.keep_last, row.keep_days = self._now(), 0, 0
                row.examples, row.fallback = "[]", ""
            wish.apply(row)
            made = shown(row)
            plain = {field.name: getattr(made, field.name) for field in fields(made)}
            return {**plain, "labels": dict(made.labels), "retention": asdict(made.retention)}

        def transaction(session: Session) -> Model:
            first = replay.json(session, lambda: effect(session))
            known = {"tenant": caller.tenant, "model": model, **first}
            exact = {"retention": Retention(**first.get("retention", {})), "examples": tuple(first.get("examples", ()))}
            return Model(**{**known, **exact})

        return await self._database.write(transaction)

    async def get(self, caller: Caller, model: str) -> Model:
        """One model.  Raises MODEL_NOT_FOUND."""
        return await self._database.read(lambda session: shown(require_model(session, caller.tenant, model)))

    async def page(self, caller: Caller, after: str, limit: int, *, deleted: bool = False) -> list[Model]:
        """The tenant's models by id, after one; with ``deleted`` those that can be restored too."""

        def transaction(session: Session) -> list[Model]:
            query = select(ModelRow).where(ModelRow.tenant == caller.tenant, ModelRow.model > after)
            if not deleted:
                query = query.where(ModelRow.deleted_at.is_(None))
            return [shown(row) for row in session.scalars(query.order_by(ModelRow.model).limit(limit))]

        return await self._database.read(transaction)

    async def changes(self, caller: Caller, model: str, before: int | None, limit: int) -> list[Change]:
        """What was deleted, restored and purged, newest first.  Raises MODEL_NOT_FOUND when nothing ever was and is."""

        def transaction(session: Session) -> list[Change]:
            found = changes.page(session, caller.tenant, model, before, limit)
            if not found and before is None:
                require_model(session, caller.tenant, model, deleted=True)
            return found

        return await self._database.read(transaction)

    async def update(self, caller: Caller, model: str, change: ModelChange) -> Model:
        """Change what people say of a model, and what is kept.  Raises MODEL_NOT_FOUND, ETAG_MISMATCH, FIELD_INVALID."""

        def transaction(session: Session) -> Model:
            row = require_model(session, caller.tenant, model)
            if change.etag and change.etag != _etag(row):
                raise Failure(Reason.ETAG_MISMATCH, name=model, etag=_etag(row))
            _require_fallback(session, row, change.fallback or "")
            change.apply(row)
            row.revision += 1
            session.flush()
            return shown(row)

        return await self._database.write(transaction)


def _require_fallback(session: Session, row: ModelRow, fallback: str) -> None:
    """Raise unless a model may fall back to this name: a base, or another model of the tenant's."""
    name = fallback.partition("@")[0]
    if not name or name.partition(":")[0] == "base":
        return
    if name == row.model:
        raise Failure(Reason.FIELD_INVALID, field="fallback", problem="must be another model, or base")
    require_model(session, row.tenant, name)
