"""What the gateway's ``auto`` may choose from: the tenant's described models, and the etag of them all.

Invariant: the etag changes whenever anything that the list holds does; it is told from keys
alone, so that asking whether a list is still true reads none of its texts.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, and_, or_, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.registry.callers import Caller
from services.registry.manifests import Kind
from services.registry.resolution import DEFAULT_ALIAS
from services.registry.store import ModelRow, VersionRow
from services.registry.store_aliases import AliasRow


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model by what it is for."""

    model: str
    description: str
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """Candidates by model, and the etag of the whole list; none when the asker has this etag."""

    candidates: tuple[Candidate, ...]
    etag: str
    unchanged: bool = False


class Candidates:
    """The verb that lists them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, caller: Caller, etag: str, after: str, limit: int) -> Listed:
        """At most ``limit`` after a model, read together with the etag; an empty ``etag`` asks for all."""

        def transaction(session: Session) -> Listed:
            now = _etag(session, caller)
            if etag == now:
                return Listed((), now, unchanged=True)
            rows = session.execute(
                _eligible(caller, ModelRow.model, ModelRow.description, ModelRow.examples)
                .where(ModelRow.model > after)
                .limit(limit)
            )
            return Listed(tuple(Candidate(row[0], row[1], tuple(json.loads(row[2]))) for row in rows), now)

        return await self._database.read(transaction)


def _etag(session: Session, caller: Caller) -> str:
    # A model that was deleted and made again has another time; which version serves is looked up by each request.
    rows = session.execute(_eligible(caller, ModelRow.model, ModelRow.revision, ModelRow.created_at))
    return hashlib.sha256(json.dumps([list(row) for row in rows]).encode()).hexdigest()


def _eligible(caller: Caller, *columns: Any) -> Select[Any]:
    serving = and_(
        AliasRow.tenant == ModelRow.tenant,
        AliasRow.model == ModelRow.model,
        AliasRow.alias == DEFAULT_ALIAS,
        AliasRow.serving != "",
    )
    version = and_(VersionRow.tenant == AliasRow.tenant, VersionRow.version == AliasRow.serving)
    return (
        select(*columns)
        .join(AliasRow, serving)
        .join(VersionRow, version)
        .where(
            ModelRow.tenant == caller.tenant,
            ModelRow.deleted_at.is_(None),
            VersionRow.kind != Kind.ENCODER.value,
            or_(ModelRow.description != "", ModelRow.examples != "[]"),
        )
        .order_by(ModelRow.model)
    )
