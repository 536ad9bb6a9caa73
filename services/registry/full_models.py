"""A tenant's full models as bases: found by name or digest, and kept while an adapter is tied to one.

Invariant: an adapter on a full model of its tenant's always finds that model: no deletion takes the last
version with the digest that the adapter names.
"""

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import Session

from services.chassis.model_cache import digest_of
from services.registry.manifests import File, Kind
from services.registry.store import VersionRow

_MAX_NAMED = 5
_LIVE = VersionRow.deleted_at.is_(None)


def folder_digest(files: Sequence[File]) -> str:
    """The digest of a full model, by which adapters name it as their base, or of an encoder, by which its vectors do.

    It is that of the folder, wherever that lies.
    """
    return digest_of({file.filename: file.sha256 for file in files})


def with_digest(session: Session, tenant: str, base_digest: str) -> VersionRow | None:
    """The tenant's oldest full model with this digest."""
    query = select(VersionRow).where(*_of_base(tenant, base_digest, Kind.FULL), _LIVE)
    return session.scalars(query.order_by(VersionRow.created_at, VersionRow.version).limit(1)).first()


def newest(session: Session, tenant: str, model: str) -> VersionRow | None:
    """The newest full version of a model."""
    of_model = (VersionRow.tenant == tenant, VersionRow.model == model, VersionRow.kind == Kind.FULL.value, _LIVE)
    return session.scalars(select(VersionRow).where(*of_model).order_by(VersionRow.number.desc()).limit(1)).first()


def tied_to(session: Session, row: VersionRow, going: Select[str] | None = None, *, deleted: bool) -> str:
    """The adapters that need a full model, for people; empty when none does.

    ``going`` finds versions that do not stay; with ``deleted`` adapters that could be restored count too.  Another
    version of the same files carries them as well.
    """
    if row.kind != Kind.FULL.value:
        return ""
    stays = VersionRow.version != row.version
    if going is not None:
        stays &= VersionRow.version.not_in(going)
    other = select(VersionRow.version).where(*_of_base(row.tenant, row.base_digest, Kind.FULL), _LIVE)
    if session.scalars(other.where(stays).limit(1)).first() is not None:
        return ""
    tied = select(VersionRow).where(*_of_base(row.tenant, row.base_digest, Kind.LORA))
    if not deleted:
        tied = tied.where(_LIVE)
    tied = tied.where(stays).order_by(VersionRow.model, VersionRow.number)
    adapters = session.scalars(tied.limit(_MAX_NAMED + 1)).all()
    if not adapters:
        return ""
    more = " and more" if len(adapters) > _MAX_NAMED else ""
    return f"the adapters on it, {', '.join(_name(adapter) for adapter in adapters[:_MAX_NAMED])}{more}"


def deleted_base(session: Session, row: VersionRow) -> VersionRow | None:
    """The deleted full model that an adapter was made for, when no other version carries it."""
    if row.kind != Kind.LORA.value or with_digest(session, row.tenant, row.base_digest) is not None:
        return None
    query = select(VersionRow).where(*_of_base(row.tenant, row.base_digest, Kind.FULL))
    return session.scalars(query.limit(1)).first()


def _name(row: VersionRow) -> str:
    return f"{row.model}@{row.number}" + ("" if row.deleted_at is None else " (deleted, but not purged)")


def _of_base(tenant: str, base_digest: str, kind: Kind) -> tuple[ColumnElement[bool], ...]:
    return (VersionRow.tenant == tenant, VersionRow.base_digest == base_digest, VersionRow.kind == kind.value)
