"""Immutable versions: created once from checked files, named by digest, numbered for people.

Invariant: a version row, its file rows and its event appear together or not at all,
and a file row exists only for bytes that are durable and that the tenant uploaded.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, delete, or_, select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry import events
from services.registry.callers import Caller
from services.registry.events import EventKind
from services.registry.manifests import Manifest, parse, version_id
from services.registry.models import ensure_model, require_model
from services.registry.replay import Replay
from services.registry.store import AliasRow, FileRow, ReadinessRow, UploadRow, VersionRow

_WHOLE = re.compile(r"^(sha256:)?[0-9a-f]{64}$")
_PREFIX = re.compile(r"^(sha256:)?[0-9a-f]{8,64}$")
_MAX_CHAIN = 100


@dataclass(frozen=True, slots=True)
class Version:
    """A version as it is shown: its manifest, the manifest's digest and text, and the human number."""

    version: str
    number: int
    manifest: Manifest
    canonical: str
    created_at: float

    @property
    def tenant(self) -> str:
        """Tenant that owns it."""
        return self.manifest.tenant

    @property
    def model(self) -> str:
        """Model that it is a version of."""
        return self.manifest.model


def shown(row: VersionRow) -> Version:
    """The domain's view of a row."""
    return Version(row.version, row.number, parse(row.manifest), row.manifest, row.created_at)


def find_version(session: Session, caller: Caller, model: str, reference: str) -> VersionRow:
    """The version that a number, a digest or a unique digest prefix names.

    An empty ``model`` demands a whole digest.  Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND,
    VERSION_AMBIGUOUS; another tenant's version is not found.
    """
    if model:
        require_model(session, caller.tenant, model)
    if not model and not _WHOLE.match(reference):
        raise Failure(Reason.FIELD_INVALID, field="version", problem="without a model, a whole digest is needed")
    rows = session.scalars(_named(caller, model, reference).limit(2)).all()
    if not rows:
        raise Failure(Reason.VERSION_NOT_FOUND, name=f"{model}@{reference}" if model else reference)
    if len(rows) > 1:
        raise Failure(Reason.VERSION_AMBIGUOUS, name=f"{model}@{reference}")
    return rows[0]


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


class Versions:
    """The verbs on versions.  Each is one transaction, committed before it returns."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now

    async def require_uploaded(self, caller: Caller, manifest: Manifest) -> None:
        """Raise unless the tenant holds every file and the parent.

        BLOB_MISSING, SIZE_MISMATCH, VERSION_NOT_FOUND.
        """
        await self._database.read(lambda session: self._require_uploaded(session, caller, manifest))

    def _require_uploaded(self, session: Session, caller: Caller, manifest: Manifest) -> None:
        for file in manifest.files:
            size_bytes = held_bytes(session, caller.tenant, file.sha256)
            if size_bytes is None:
                raise Failure(Reason.BLOB_MISSING, name=file.filename, sha256=file.sha256)
            if size_bytes != file.size_bytes:
                raise Failure(Reason.SIZE_MISMATCH, field="version.files", actual=size_bytes, announced=file.size_bytes)
        if manifest.lineage.parent_version:
            own = Caller(caller.tenant, caller.principal)
            find_version(session, own, "", manifest.lineage.parent_version)

    async def create(self, caller: Caller, manifest: Manifest, replay: Replay) -> Version:
        """Record a version whose files were checked.  The same manifest twice is the same version."""
        canonical = manifest.canonical()
        version = version_id(canonical)

        def transaction(session: Session) -> Version:
            found = replay.json(
                session, lambda: {"version": self._create(session, caller, manifest, canonical, version)}
            )
            row = session.get(VersionRow, (caller.tenant, str(found["version"])))
            if row is None:
                raise Failure(Reason.VERSION_NOT_FOUND, name=str(found["version"]))
            return shown(row)

        return await self._database.write(transaction)

    def _create(self, session: Session, caller: Caller, manifest: Manifest, canonical: str, version: str) -> str:
        if session.get(VersionRow, (caller.tenant, version)) is not None:
            return version
        # Again, now under the write lock: a sweep may have come between the check and here.
        self._require_uploaded(session, caller, manifest)
        model = ensure_model(session, caller.tenant, manifest.model, self._now())
        model.last_number += 1
        at = self._now()
        row = VersionRow(
            tenant=caller.tenant,
            version=version,
            model=manifest.model,
            number=model.last_number,
            parent=manifest.lineage.parent_version,
            manifest=canonical,
            principal=caller.principal,
            created_at=at,
        )
        session.add(row)
        session.flush()
        for file in manifest.files:
            session.add(
                FileRow(
                    tenant=caller.tenant,
                    version=version,
                    filename=file.filename,
                    sha256=file.sha256,
                    size_bytes=file.size_bytes,
                )
            )
        self._record(session, row, EventKind.VERSION_CREATED)
        return version

    def _record(self, session: Session, row: VersionRow, kind: EventKind) -> None:
        numbers = events.reserve(session, row.tenant)
        events.append(session, numbers, kind, tenant=row.tenant, model=row.model, version=row.version, at=self._now())

    async def get(self, caller: Caller, model: str, reference: str) -> Version:
        """One version.  Raises as :func:`find_version` does."""
        return await self._database.read(lambda session: shown(find_version(session, caller, model, reference)))

    async def page(self, caller: Caller, model: str, before: int | None, limit: int) -> list[Version]:
        """Versions of a model, newest first, below a number.  Raises MODEL_NOT_FOUND."""

        def transaction(session: Session) -> list[Version]:
            require_model(session, caller.tenant, model)
            query = select(VersionRow).where(VersionRow.tenant == caller.tenant, VersionRow.model == model)
            if before is not None:
                query = query.where(VersionRow.number < before)
            rows = session.scalars(query.order_by(VersionRow.number.desc()).limit(limit))
            return [shown(row) for row in rows]

        return await self._database.read(transaction)

    async def delete(self, caller: Caller, model: str, reference: str) -> None:
        """Delete a version that nothing names.  Raises VERSION_IN_USE, and as :func:`find_version` does."""

        def transaction(session: Session) -> None:
            row = find_version(session, caller, model, reference)
            self._require_unused(session, row)
            self._drop(session, row)

        await self._database.write(transaction)

    def _require_unused(self, session: Session, row: VersionRow) -> None:
        alias = session.scalar(
            select(AliasRow).where(
                AliasRow.tenant == row.tenant,
                or_(AliasRow.target == row.version, AliasRow.serving == row.version),
            )
        )
        if alias is not None:
            raise Failure(Reason.VERSION_IN_USE, name=row.version, user=f"the alias {alias.model}@{alias.alias}")
        child = session.scalar(
            select(VersionRow).where(VersionRow.tenant == row.tenant, VersionRow.parent == row.version)
        )
        if child is not None:
            raise Failure(Reason.VERSION_IN_USE, name=row.version, user=f"its child {child.model}@{child.number}")

    def _drop(self, session: Session, row: VersionRow) -> None:
        """Remove a version and its references in the open transaction; blobs go with the next sweep."""
        for file in session.scalars(
            select(FileRow).where(FileRow.tenant == row.tenant, FileRow.version == row.version)
        ):
            session.delete(file)
        session.execute(
            delete(ReadinessRow).where(ReadinessRow.tenant == row.tenant, ReadinessRow.version == row.version)
        )
        session.flush()
        session.delete(row)
        self._record(session, row, EventKind.VERSION_DELETED)

    async def delete_model(self, caller: Caller, model: str) -> None:
        """Delete a model with its versions.  Raises MODEL_IN_USE while an alias or another model needs one."""

        def transaction(session: Session) -> None:
            row = require_model(session, caller.tenant, model)
            alias = session.scalar(
                select(AliasRow).where(AliasRow.tenant == caller.tenant, AliasRow.model == model).limit(1)
            )
            if alias is not None:
                raise Failure(Reason.MODEL_IN_USE, name=model, user=f"the alias {alias.alias}")
            own = select(VersionRow).where(VersionRow.tenant == caller.tenant, VersionRow.model == model)
            versions = session.scalars(own.order_by(VersionRow.number)).all()
            child = session.scalar(
                select(VersionRow)
                .where(VersionRow.tenant == caller.tenant, VersionRow.model != model)
                .where(VersionRow.parent.in_([version.version for version in versions]))
                .limit(1)
            )
            if child is not None:
                raise Failure(Reason.MODEL_IN_USE, name=model, user=f"{child.model}@{child.number}, trained from it")
            for version in versions:
                self._drop(session, version)
            session.flush()
            session.delete(row)

        await self._database.write(transaction)

    async def lineage(self, caller: Caller, model: str, reference: str) -> list[Version]:
        """The version, its parent, and so on to the base; at most 100."""

        def transaction(session: Session) -> list[Version]:
            row: VersionRow | None = find_version(session, caller, model, reference)
            chain: list[Version] = []
            while row is not None and len(chain) < _MAX_CHAIN:
                chain.append(shown(row))
                row = session.get(VersionRow, (row.tenant, row.parent)) if row.parent else None
            return chain

        return await self._database.read(transaction)


def held_bytes(session: Session, tenant: str, sha256: str) -> int | None:
    """Length of a blob that the tenant uploaded or that its versions reference; None for any other."""
    upload = session.get(UploadRow, (tenant, sha256))
    if upload is not None:
        return upload.size_bytes
    return session.scalar(select(FileRow.size_bytes).where(FileRow.tenant == tenant, FileRow.sha256 == sha256))
