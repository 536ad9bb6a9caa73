"""Immutable versions: created once from checked files, named by digest, numbered for people.

Invariant: a version row, its file rows and its event appear together or not at all,
and a file row exists only for bytes that are durable and that the tenant uploaded.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.registry import events, full_models
from services.registry.callers import Caller
from services.registry.changes import By, ChangeKind, note_versions
from services.registry.events import EventKind
from services.registry.manifests import EncoderRole, Kind, Manifest, parse, version_id
from services.registry.measurements import append_known
from services.registry.models import ensure_model, require_model
from services.registry.replay import Replay
from services.registry.store import FileRow, ParentRow, UploadRow, VersionRow
from services.registry.version_view import Version, find_version, shown, shown_all

_NEW_VERSION = "a version was made under its name"


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
        for parent in manifest.lineage.parents:
            find_version(session, Caller(caller.tenant, caller.principal), "", parent)

    async def own_base(self, caller: Caller, base_digest: str) -> Version | None:
        """The tenant's own full model with this digest, if it has one."""

        def query(session: Session) -> Version | None:
            row = full_models.with_digest(session, caller.tenant, base_digest)
            return None if row is None else shown(session, row)

        return await self._database.read(query)

    async def replayed(self, caller: Caller, replay: Replay) -> Version | None:
        """The version that the same request made before, if it did.  Raises REQUEST_ID_REUSED, VERSION_NOT_FOUND."""

        def query(session: Session) -> Version | None:
            found = replay.seen(session)
            return None if found is None else _made(session, caller, found)

        return await self._database.read(query)

    async def answered(self, caller: Caller, version: Version, replay: Replay) -> Version:
        """Keep a version that is there as the answer of a request, and return it.

        Raises REQUEST_ID_REUSED, VERSION_NOT_FOUND.
        """

        def transaction(session: Session) -> Version:
            return _made(session, caller, replay.json(session, lambda: {"version": version.version}))

        return await self._database.write(transaction)

    async def made_from(self, caller: Caller, model: str, parent: str) -> list[Version]:
        """The versions of a model whose first parent is ``parent`` (a digest), newest first; none of no model."""

        def query(session: Session) -> list[Version]:
            of_model = (VersionRow.tenant == caller.tenant, VersionRow.model == model, VersionRow.deleted_at.is_(None))
            made = select(VersionRow).where(*of_model, VersionRow.parent == parent)
            return shown_all(session, session.scalars(made.order_by(VersionRow.number.desc())).all())

        return await self._database.read(query)

    async def create(
        self,
        caller: Caller,
        manifest: Manifest,
        replay: Replay,
        *,
        unservable_reason: str = "",
        own_base: str = "",
    ) -> Version:
        """Record a version whose files were checked.  The same manifest twice is the same version.

        Raises FIELD_INVALID for an encoder under the model of something else, and the other way about.
        ``own_base`` is the version of the tenant's that the adapter is tied to; VERSION_NOT_FOUND when it went
        meanwhile.
        """
        canonical = manifest.canonical()

        def effect(session: Session) -> dict[str, str]:
            if own_base:
                find_version(session, Caller(caller.tenant, caller.principal), "", own_base)
            return {"version": self._create(session, caller, manifest, canonical, unservable_reason)}

        def transaction(session: Session) -> Version:
            return _made(session, caller, replay.json(session, lambda: effect(session)))

        return await self._database.write(transaction)

    def _create(
        self, session: Session, caller: Caller, manifest: Manifest, canonical: str, unservable_reason: str
    ) -> str:
        version = version_id(canonical)
        known = session.get(VersionRow, (caller.tenant, version))
        if known is not None:
            if known.deleted_at is not None:
                revive_version(session, known, self._now(), By(caller.principal, detail="its content was given again"))
            return version
        # Again, now under the write lock: a sweep may have come between the check and here.
        self._require_uploaded(session, caller, manifest)
        _require_alike(session, caller, manifest)
        model = ensure_model(
            session, caller.tenant, manifest.model, self._now(), By(caller.principal, detail=_NEW_VERSION)
        )
        model.last_number += 1
        if unservable_reason:
            remedy = f"merge it: trivium models merge {manifest.model}@{model.last_number} --into NAME"
            unservable_reason = f"{unservable_reason}, which no engine loads; {remedy}"
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
            base_digest=manifest.base_digest,
            kind=manifest.kind.value,
            job=manifest.lineage.job,
            dataset_digest=manifest.lineage.dataset_digest,
            unservable_reason=unservable_reason,
        )
        session.add(row)
        session.flush()
        for position, parent in enumerate(manifest.lineage.parents):
            session.add(ParentRow(tenant=caller.tenant, version=version, position=position, parent=parent))
        append_known(session, version, manifest, caller.principal, at)
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
        record(session, [row], EventKind.VERSION_CREATED, self._now())
        return version

    async def get(self, caller: Caller, model: str, reference: str) -> Version:
        """One version.  Raises as :func:`find_version` does."""

        def query(session: Session) -> Version:
            return shown(session, find_version(session, caller, model, reference), whole=True)

        return await self._database.read(query)

    async def page(
        self, caller: Caller, model: str, before: int | None, limit: int, *, deleted: bool = False
    ) -> list[Version]:
        """Versions of a model, newest first, below a number; with ``deleted`` those that can be restored too.

        Raises MODEL_NOT_FOUND.
        """

        def transaction(session: Session) -> list[Version]:
            require_model(session, caller.tenant, model, deleted=deleted)
            query = select(VersionRow).where(VersionRow.tenant == caller.tenant, VersionRow.model == model)
            if not deleted:
                query = query.where(VersionRow.deleted_at.is_(None))
            if before is not None:
                query = query.where(VersionRow.number < before)
            rows = session.scalars(query.order_by(VersionRow.number.desc()).limit(limit)).all()
            return shown_all(session, rows)

        return await self._database.read(transaction)


def _require_alike(session: Session, caller: Caller, manifest: Manifest) -> None:
    """Raise FIELD_INVALID unless a version makes what its model's others make: an alias moves to any of them.

    The newest speaks for all, those that can be restored among them: each was held to the one before it.
    """
    of_model = (VersionRow.tenant == caller.tenant, VersionRow.model == manifest.model)
    newest = session.scalars(select(VersionRow).where(*of_model).order_by(VersionRow.number.desc()).limit(1)).first()
    if newest is None:
        return
    other = parse(newest.manifest)
    if other.role is not manifest.role:
        problem = (
            f"{manifest.model}@{newest.number} is {_called(other)}, and this is {_called(manifest)}; "
            "give it a model of its own"
        )
        raise Failure(Reason.FIELD_INVALID, field="version.model", problem=problem)


def _called(manifest: Manifest) -> str:
    if manifest.role is not None:
        return "a reranker" if manifest.role is EncoderRole.RERANKER else "an embedder"
    return "an adapter" if manifest.kind is Kind.LORA else "a full model"


def _made(session: Session, caller: Caller, answer: Mapping[str, Any]) -> Version:
    """The version that a request made, as it is now.  Raises VERSION_NOT_FOUND."""
    row = session.get(VersionRow, (caller.tenant, str(answer["version"])))
    if row is None:
        raise Failure(Reason.VERSION_NOT_FOUND, name=str(answer["version"]), fate="")
    return shown(session, row, whole=True)


def record(session: Session, rows: Sequence[VersionRow], kind: EventKind, at: float) -> None:
    """Write the events of a change of versions of one tenant into the open transaction, in their order."""
    if not rows:
        return
    whole, own = events.reserve(session, rows[0].tenant, len(rows))
    for place, row in enumerate(rows):
        numbers = (whole + place, own + place)
        events.append(session, numbers, kind, tenant=row.tenant, model=row.model, version=row.version, at=at)


def revive_version(session: Session, row: VersionRow, at: float, by: By) -> None:
    """Bring back a deleted version, and its model, in the open transaction.

    Raises PARENT_DELETED: what it was made from comes first.
    """
    parents = select(VersionRow).join(
        ParentRow, (ParentRow.tenant == VersionRow.tenant) & (ParentRow.parent == VersionRow.version)
    )
    of_it = (ParentRow.tenant == row.tenant, ParentRow.version == row.version, VersionRow.deleted_at.is_not(None))
    parent = session.scalars(parents.where(*of_it).limit(1)).first() or full_models.deleted_base(session, row)
    if parent is not None:
        raise Failure(Reason.PARENT_DELETED, name=f"{row.model}@{row.number}", parent=f"{parent.model}@{parent.number}")
    ensure_model(session, row.tenant, row.model, at, by)
    row.deleted_at = row.purge_at = None
    row.with_model = False
    session.flush()
    record(session, [row], EventKind.VERSION_RESTORED, at)
    note_versions(session, [row], ChangeKind.VERSION_RESTORED, by, at)


def held_bytes(session: Session, tenant: str, sha256: str) -> int | None:
    """Length of a blob that the tenant uploaded or that its versions reference; None for any other."""
    upload = session.get(UploadRow, (tenant, sha256))
    if upload is not None:
        return upload.size_bytes
    return session.scalar(select(FileRow.size_bytes).where(FileRow.tenant == tenant, FileRow.sha256 == sha256))
