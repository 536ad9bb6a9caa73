"""Files: what a tenant keeps under a name and for a purpose.

Invariants: a file's row is written in the transaction that saw its bytes, and its bytes go only when
no row names them (:mod:`services.files.garbage`).  What has expired is gone for every caller from that
moment on, whenever the sweep comes.
"""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from services.chassis.blobs import Blobs
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, once, seen
from services.files.store import FileRow, held, hold

KIND = "files"
_BATCH_FILE_SECONDS = 30 * 24 * 3600.0


class Purpose(StrEnum):
    """What a file is for."""

    FINE_TUNE = "fine-tune"
    BATCH = "batch"
    ASSISTANTS = "assistants"
    USER_DATA = "user_data"
    EVALS = "evals"
    BATCH_OUTPUT = "batch_output"
    FINE_TUNE_RESULTS = "fine-tune-results"


@dataclass(frozen=True, slots=True)
class File:
    """One file.  Times are Unix seconds; ``expires_at`` None stays; ``attached`` may be in vector stores."""

    file: str
    filename: str
    purpose: Purpose
    media_type: str
    sha256: str
    size_bytes: int
    created_at: float
    expires_at: float | None
    attached: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """What a new file is to be.  ``expires_after_seconds`` None takes the purpose's own."""

    filename: str
    purpose: Purpose
    media_type: str = ""
    expires_after_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that lie in the blob store."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Most files of a tenant, and most bytes of all of them."""

    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Selection:
    """Which files a list shows; ``purpose`` None is all, ``after`` empty begins."""

    purpose: Purpose | None
    after: str
    ascending: bool


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a file, in order; ``size_bytes`` is the length of the whole."""

    offset_bytes: int
    content: bytes
    size_bytes: int


class Files:
    """The verbs of files, each for one tenant."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        limits: Limits,
        now: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._limits = limits
        self._now = now
        self._new_id = new_id

    async def enter(self, tenant: str, wish: Wish, content: Content, key: IdempotencyKey) -> File:
        """Make a file of bytes that are in the blob store; a repeat returns the first one's.

        Raises FILES_EXHAUSTED, REQUEST_ID_REUSED, and UPLOAD_IN_PROGRESS where a sweep has just taken the bytes.
        """
        made = await self._database.write(
            lambda session: once(session, key, lambda: self.add(session, tenant, wish, content).file)
        )
        return await self.get(tenant, made)

    def add(self, session: Session, tenant: str, wish: Wish, content: Content, *, limited: bool = True) -> File:
        """:meth:`enter` within a transaction that also does something else; not ``limited``, whatever the tenant keeps."""
        if not self._blobs.holds_now(content.sha256):
            raise Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0)
        if limited:
            self._require_room(session, tenant, content)
        hold(session, tenant, KIND, 1, content.size_bytes)
        now = self._now()
        row = FileRow(
            tenant=tenant,
            file=f"file-{self._new_id().replace('-', '')}",
            filename=wish.filename,
            purpose=wish.purpose,
            media_type=wish.media_type,
            sha256=content.sha256,
            size_bytes=content.size_bytes,
            created_at=now,
            expires_at=_expiry(wish, now),
            attached=False,
        )
        session.add(row)
        session.flush()
        return _shown(row)

    async def require_room(self, tenant: str, content: Content, key: IdempotencyKey) -> None:
        """Look whether :meth:`enter` would have room, before the bytes are taken in; a repeat needs none.

        Raises FILES_EXHAUSTED, REQUEST_ID_REUSED.
        """

        def query(session: Session) -> None:
            if seen(session, key) is None:
                self._require_room(session, tenant, content)

        await self._database.read(query)

    def _require_room(self, session: Session, tenant: str, content: Content) -> None:
        entries, held_bytes = held(session, tenant, KIND)
        if entries >= self._limits.files or held_bytes + content.size_bytes > self._limits.size_bytes:
            raise Failure(
                Reason.FILES_EXHAUSTED,
                files=entries,
                held_bytes=held_bytes,
                size_bytes=content.size_bytes,
                limit=self._limits.files,
                limit_bytes=self._limits.size_bytes,
            )

    async def get(self, tenant: str, file: str) -> File:
        """One file.  Raises FILE_NOT_FOUND."""
        return await self._database.read(lambda session: self.find(session, tenant, file))

    def find(self, session: Session, tenant: str, file: str) -> File:
        """:meth:`get` within a transaction."""
        return _shown(self._row(session, tenant, file))

    async def page(self, tenant: str, wanted: Selection, limit: int) -> list[File]:
        """A tenant's files by the time of their creation, behind one of them."""

        def query(session: Session) -> list[File]:
            rows = select(FileRow).where(FileRow.tenant == tenant, self._lives())
            if wanted.purpose is not None:
                rows = rows.where(FileRow.purpose == wanted.purpose)
            if wanted.after:
                behind = FileRow.file > wanted.after if wanted.ascending else FileRow.file < wanted.after
                rows = rows.where(behind)
            order: Any = FileRow.file.asc() if wanted.ascending else FileRow.file.desc()
            return [_shown(row) for row in session.scalars(rows.order_by(order).limit(limit))]

        return await self._database.read(query)

    async def attach(self, tenant: str, file: str) -> File:
        """Note that it goes into a vector store: who deletes it looks there first.  Raises FILE_NOT_FOUND."""
        found = await self.get(tenant, file)
        if found.attached:
            return found

        def change(session: Session) -> File:
            row = self._row(session, tenant, file)
            row.attached = True
            return _shown(row)

        return await self._database.write(change)

    async def delete(self, tenant: str, file: str) -> bool:
        """Remove a file; its bytes go with the next sweep if nothing else names them.  Raises FILE_NOT_FOUND.

        Whether it may be in vector stores: what was noted of it until it went.
        """

        def change(session: Session) -> bool:
            row = self._row(session, tenant, file)
            attached = row.attached
            drop(session, row)
            return attached

        return await self._database.write(change)

    async def read(self, tenant: str, file: str, offset_bytes: int) -> AsyncGenerator[Piece]:
        """The bytes from an offset; one empty piece at the very end.  Raises FILE_NOT_FOUND, OFFSET_BEYOND_END."""
        found = await self.get(tenant, file)
        if offset_bytes > found.size_bytes:
            raise Failure(Reason.OFFSET_BEYOND_END, offset=offset_bytes, size_bytes=found.size_bytes)
        position = offset_bytes
        async for content in self._blobs.read(found.sha256, offset_bytes):
            yield Piece(position, content, found.size_bytes)
            position += len(content)
        if position == offset_bytes:
            yield Piece(position, b"", found.size_bytes)

    def _row(self, session: Session, tenant: str, file: str) -> FileRow:
        row = session.get(FileRow, (tenant, file))
        if row is None or (row.expires_at is not None and row.expires_at <= self._now()):
            raise Failure(Reason.FILE_NOT_FOUND, name=file)
        return row

    def _lives(self) -> ColumnElement[bool]:
        return or_(FileRow.expires_at.is_(None), FileRow.expires_at > self._now())


def drop(session: Session, row: FileRow) -> None:
    """Remove a file's row, and take it from what its tenant keeps."""
    hold(session, row.tenant, KIND, -1, -row.size_bytes)
    session.delete(row)


def repeatable(key: IdempotencyKey, content: Content) -> IdempotencyKey:
    """The key of an upload: its header's, and what came."""
    digest = f"{content.sha256} {content.size_bytes}".encode()
    return IdempotencyKey(key.tenant, key.method, key.request_id, key.fingerprint + digest)


def _expiry(wish: Wish, now: float) -> float | None:
    if wish.expires_after_seconds is not None:
        return now + wish.expires_after_seconds
    return now + _BATCH_FILE_SECONDS if wish.purpose is Purpose.BATCH else None


def _shown(row: FileRow) -> File:
    return File(
        row.file,
        row.filename,
        Purpose(row.purpose),
        row.media_type,
        row.sha256,
        row.size_bytes,
        row.created_at,
        row.expires_at,
        row.attached,
    )
