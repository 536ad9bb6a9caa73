"""What a model name means now: the one reading of ``base``, NAME, NAME@ALIAS and NAME@VERSION.

Invariant: the answer names a digest, and whoever uses it for the rest of a request
cannot be moved to other weights by an alias that flips meanwhile.
"""

import asyncio
import json
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry import base_names
from services.registry.bases import Bases
from services.registry.callers import Caller
from services.registry.canaries import chosen
from services.registry.manifests import Kind
from services.registry.models import names, not_found
from services.registry.store import ModelRow, VersionRow
from services.registry.store_aliases import AliasRow
from services.registry.version_view import find_version

BASE = "base"
AUTO = "auto"
DEFAULT_ALIAS = "prod"
_MOST_FORMAT = 64


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name resolves to.  For a base everything but ``base`` is empty (and so is that for the default)."""

    base: str = ""
    model: str = ""
    version: str = ""
    number: int = 0
    kind: Kind | None = None
    alias: str = ""
    base_digest: str = ""
    canary: bool = False
    fallback: str = ""
    # Shape of the prompts with sources that it was trained on; empty when its lineage says nothing.
    prompt_format: str = ""

    @property
    def is_base(self) -> bool:
        """Whether the base itself is meant."""
        return not self.version

    @property
    def resolved_name(self) -> str:
        """The name in full."""
        if self.version:
            return f"{self.model}@{self.version}"
        return f"{BASE}:{self.base}" if self.base else BASE


class Resolver:
    """Answers what names mean, inside the caller's tenant."""

    def __init__(self, database: Database, bases: Bases) -> None:
        self._database = database
        self._bases = bases

    async def resolve(self, caller: Caller, name: str, sticky_key: str = "") -> Resolution:
        """What ``name`` means; of an alias with canaries the same for the same key, drawn without one.

        ``base:NAME`` of a full model of the tenant's is answered with its version.
        Raises MODEL_NOT_FOUND with the nearest names, ALIAS_NOT_SERVING, FIELD_INVALID.
        """
        if name == BASE:
            return Resolution()
        if name.startswith(f"{BASE}:") and len(name) > len(BASE) + 1:
            return await self._base(caller, name.removeprefix(f"{BASE}:"))
        if name == AUTO:
            raise Failure(
                Reason.FIELD_INVALID, field="name", problem="auto is chosen by the gateway from the question itself"
            )
        return await self._database.read(lambda session: _resolve(session, caller, name, sticky_key))

    async def _base(self, caller: Caller, name: str) -> Resolution:
        known = await asyncio.to_thread(self._bases.known)

        def query(session: Session) -> Resolution:
            row = base_names.named(session, caller, name, known, certain=self._bases.certain)
            return Resolution(base=name) if row is None else _found(row, "")

        return await self._database.read(query)


def _resolve(session: Session, caller: Caller, name: str, sticky_key: str) -> Resolution:
    model, at, reference = name.partition("@")
    known = session.get(ModelRow, (caller.tenant, model))
    if known is None or known.deleted_at is not None:
        raise not_found(name, [BASE, *names(session, caller.tenant)])
    alias = session.get(AliasRow, (caller.tenant, model, reference if at else DEFAULT_ALIAS))
    if alias is not None:
        if not alias.serving:
            why = alias.reason or "its target has not been loaded by a generator yet"
            raise Failure(Reason.ALIAS_NOT_SERVING, name=f"{model}@{alias.alias}", why=why, fallback=known.fallback)
        canary = chosen(session, alias, sticky_key)
        row = session.get_one(VersionRow, (caller.tenant, canary or alias.serving))
        return _found(row, alias.alias, canary=bool(canary), fallback=known.fallback)
    if not at:
        why = f"the model has no alias {DEFAULT_ALIAS}; set one, or name a version as {model}@NUMBER"
        raise Failure(Reason.ALIAS_NOT_SERVING, name=model, why=why, fallback=known.fallback)
    return _found(_version(session, caller, model, reference), "", fallback=known.fallback)


def _version(session: Session, caller: Caller, model: str, reference: str) -> VersionRow:
    try:
        return find_version(session, Caller(caller.tenant, caller.principal), model, reference)
    except Failure as failure:
        if failure.reason is not Reason.VERSION_NOT_FOUND:
            raise
        aliases = select(AliasRow.alias).where(AliasRow.tenant == caller.tenant, AliasRow.model == model)
        near = [f"{model}@{alias}" for alias in session.scalars(aliases.order_by(AliasRow.alias).limit(100))]
        raise not_found(f"{model}@{reference}", near or [model]) from None


def _found(row: VersionRow, alias: str, *, canary: bool = False, fallback: str = "") -> Resolution:
    return Resolution(
        model=row.model,
        version=row.version,
        number=row.number,
        kind=Kind(row.kind),
        alias=alias,
        base_digest=row.base_digest,
        canary=canary,
        fallback=fallback,
        prompt_format=_prompt_format(row.manifest),
    )


def _prompt_format(manifest: str) -> str:
    config = (json.loads(manifest).get("lineage") or {}).get("config") or {}
    stated = config.get("prompt_format", "")
    return stated if isinstance(stated, str) and len(stated) <= _MOST_FORMAT else ""
