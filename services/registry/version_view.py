"""A version as it is shown, and the one reading of what people call one by: number, digest, unique prefix of a digest."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Select, or_, select
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.registry import full_models
from services.registry.callers import Caller
from services.registry.manifests import Kind, Manifest, parse
from services.registry.measurements import Recorded, evaluations
from services.registry.models import require_model
from services.registry.store import TagRow, VersionRow

_WHOLE = re.compile(r"^(sha256:)?[0-9a-f]{64}$")
_PREFIX = re.compile(r"^(sha256:)?[0-9a-f]{8,64}$")


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is shown: its manifest, the manifest's digest and text, the human number, and what was said since.

    ``evaluations`` are newest first.  They, and ``base_version``, the tenant's full model that an adapter is tied to
    (empty for a base of the deployment's), are only filled where one version is shown whole.
    """

    version: str
    number: int
    manifest: Manifest
    canonical: str
    created_at: float
    tags: tuple[str, ...] = ()
    evaluations: tuple[Recorded, ...] = ()
    deleted_at: float | None = None
    purge_at: float | None = None
    unservable_reason: str = ""
    base_version: str = ""

    @property
    def tenant(self) -> str:
        """Tenant that owns it."""
        return self.manifest.tenant

    @property
    def model(self) -> str:
        """Model that it is a version of."""
        return self.manifest.model


def shown(session: Session, row: VersionRow, *, whole: bool = False) -> Version:
    """The domain's view of a row; ``whole`` adds the evaluations and the base's version."""
    (version,) = shown_all(session, [row])
    if not whole:
        return version
    base = full_models.with_digest(session, row.tenant, row.base_digest) if row.kind == Kind.LORA.value else None
    measured = tuple(evaluations(session, row.tenant, row.version))
    return replace(version, evaluations=measured, base_version=base.version if base is not None else "")


def shown_all(session: Session, rows: Sequence[VersionRow]) -> list[Version]:
    """The domain's view of rows, in their order."""
    tags: dict[tuple[str, str], list[str]] = {}
    wanted = TagRow.version.in_([row.version for row in rows])
    for tag in session.scalars(select(TagRow).where(wanted).order_by(TagRow.tag)):
        tags.setdefault((tag.tenant, tag.version), []).append(tag.tag)
    return [
        Version(
            version=row.version,
            number=row.number,
            manifest=parse(row.manifest),
            canonical=row.manifest,
            created_at=row.created_at,
            tags=tuple(tags.get((row.tenant, row.version), ())),
            deleted_at=row.deleted_at,
            purge_at=row.purge_at,
            unservable_reason=row.unservable_reason,
        )
        for row in rows
    ]


def find_version(session: Session, caller: Caller, model: str, reference: str, *, deleted: bool = False) -> VersionRow:
    """The version that a number, a digest or a unique digest prefix names; with ``deleted`` a deleted one too.

    An empty ``model`` demands a whole digest.  Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND,
    VERSION_AMBIGUOUS; another tenant's version is not found.
    """
    if model:
        require_model(session, caller.tenant, model, deleted=deleted)
    if not model and not _WHOLE.match(reference):
        raise Failure(Reason.FIELD_INVALID, field="version", problem="without a model, a whole digest is needed")
    query = _named(caller, model, reference)
    live = query if deleted else query.where(VersionRow.deleted_at.is_(None))
    rows = session.scalars(live.limit(2)).all()
    if not rows:
        fate = "" if deleted else _fate(session.scalars(query.limit(2)).all())
        raise Failure(Reason.VERSION_NOT_FOUND, name=f"{model}@{reference}" if model else reference, fate=fate)
    if len(rows) > 1:
        raise Failure(Reason.VERSION_AMBIGUOUS, name=f"{model}@{reference}")
    return rows[0]


def _fate(hidden: Sequence[VersionRow]) -> str:
    """What became of the one version that was named, and what brings it back; empty where no single one was."""
    row = hidden[0] if len(hidden) == 1 else None
    if row is None or row.purge_at is None:
        return ""
    until = datetime.fromtimestamp(row.purge_at, UTC)
    how = f"RestoreVersion (trivium models restore {row.model}@{row.number}) brings it back"
    return f": it is deleted, and {how} until {until:%Y-%m-%d %H:%M} UTC"


def _named(caller: Caller, model: str, reference: str) -> Select[VersionRow]:
    query = select(VersionRow)
    if model:
        query = query.where(VersionRow.tenant == caller.tenant, VersionRow.model == model)
    else:
        query = query.where(caller.sees(VersionRow.tenant))
    if reference.isdecimal() and len(reference) < 64:
        # A number comes first; only digits that are no number of the model may be a prefix.
        number = VersionRow.number == int(reference) if len(reference) < 16 else VersionRow.number == -1
        numbered = query.where(number)
        return numbered if len(reference) < 8 else query.where(or_(number, _begins(reference)))
    if not _PREFIX.match(reference):
        return query.where(VersionRow.number == -1)
    return query.where(_begins(reference))


def _begins(reference: str) -> ColumnElement[bool]:
    digest = f"sha256:{reference.removeprefix('sha256:')}"
    return VersionRow.version == digest if _WHOLE.match(digest) else VersionRow.version.startswith(digest)
