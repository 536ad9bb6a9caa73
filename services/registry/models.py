"""Models: named lines of versions inside a tenant, and the names that they may bear.

Invariant: a model's name never means something else in another place: what the
platform itself calls ``base`` or ``auto`` is refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.nearest import nearest
from services.registry.callers import Caller
from services.registry.replay import Replay
from services.registry.store import ModelRow

_RESERVED = frozenset({"base", "auto"})
_NAME = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$")
_MAX_NAMES = 10_000


@dataclass(frozen=True, slots=True)
class Model:
    """A model as it is shown."""

    tenant: str
    model: str
    description: str
    labels: Mapping[str, str]
    created_at: float
    etag: str


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What to change; None leaves a field as it is.  An empty etag overwrites."""

    description: str | None
    labels: Mapping[str, str] | None
    etag: str


def shown(row: ModelRow) -> Model:
    """The domain's view of a row."""
    labels = MappingProxyType(json.loads(row.labels))
    return Model(row.tenant, row.model, row.description, labels, row.created_at, _etag(row))


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


def require_model(session: Session, tenant: str, model: str) -> ModelRow:
    """The tenant's model.

    Raises MODEL_NOT_FOUND with the nearest of the tenant's own names, FIELD_INVALID for a reserved one.
    """
    _refuse_reserved(model)
    row = session.get(ModelRow, (tenant, model))
    if row is None:
        raise not_found(model, names(session, tenant))
    return row


def not_found(name: str, candidates: list[str]) -> Failure:
    """The failure for a name that means nothing, with the nearest that does."""
    return Failure(Reason.MODEL_NOT_FOUND, name=name, nearest=nearest(name, candidates))


def names(session: Session, tenant: str) -> list[str]:
    """The names of a tenant's models."""
    query = select(ModelRow.model).where(ModelRow.tenant == tenant).order_by(ModelRow.model).limit(_MAX_NAMES)
    return list(session.scalars(query))


def ensure_model(session: Session, tenant: str, model: str, at: float) -> ModelRow:
    """The tenant's model, created when it is new.  Raises FIELD_INVALID for a reserved name."""
    row = session.get(ModelRow, (tenant, model), with_for_update=True)
    return row if row is not None else _add(session, tenant, model, "", {}, at)


def _add(session: Session, tenant: str, model: str, description: str, labels: Mapping[str, str], at: float) -> ModelRow:
    require_name(model)
    row = ModelRow(
        tenant=tenant,
        model=model,
        description=description,
        labels=json.dumps(dict(labels), sort_keys=True),
        revision=1,
        last_number=0,
        created_at=at,
    )
    session.add(row)
    session.flush()
    return row


class Models:
    """The verbs on models.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def create(
        self, caller: Caller, model: str, description: str, labels: Mapping[str, str], replay: Replay
    ) -> Model:
        """Create an empty model.  Raises MODEL_EXISTS, FIELD_INVALID for a reserved name."""

        def effect(session: Session) -> dict[str, object]:
            if session.get(ModelRow, (caller.tenant, model)) is not None:
                raise Failure(Reason.MODEL_EXISTS, name=model)
            row = shown(_add(session, caller.tenant, model, description, labels, self._now()))
            return {
                "description": row.description,
                "labels": dict(row.labels),
                "created_at": row.created_at,
                "etag": row.etag,
            }

        def transaction(session: Session) -> Model:
            first = replay.json(session, lambda: effect(session))
            return Model(tenant=caller.tenant, model=model, **first)

        return await self._database.write(transaction)

    async def get(self, caller: Caller, model: str) -> Model:
        """One model.  Raises MODEL_NOT_FOUND."""
        return await self._database.read(lambda session: shown(require_model(session, caller.tenant, model)))

    async def page(self, caller: Caller, after: str, limit: int) -> list[Model]:
        """The tenant's models by id, after one."""

        def transaction(session: Session) -> list[Model]:
            query = select(ModelRow).where(ModelRow.tenant == caller.tenant, ModelRow.model > after)
            return [shown(row) for row in session.scalars(query.order_by(ModelRow.model).limit(limit))]

        return await self._database.read(transaction)

    async def update(self, caller: Caller, model: str, change: ModelChange) -> Model:
        """Change description and labels.  Raises MODEL_NOT_FOUND, ETAG_MISMATCH."""

        def transaction(session: Session) -> Model:
            row = require_model(session, caller.tenant, model)
            if change.etag and change.etag != _etag(row):
                raise Failure(Reason.ETAG_MISMATCH, name=model, etag=_etag(row))
            if change.description is not None:
                row.description = change.description
            if change.labels is not None:
                row.labels = json.dumps(dict(change.labels), sort_keys=True)
            row.revision += 1
            session.flush()
            return shown(row)

        return await self._database.write(transaction)
