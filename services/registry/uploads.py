"""Uploads: bytes come in chunks, survive an interruption, and count only when length and digest match.

Invariants: an acknowledged upload is a durable blob and a durable row; an upload
learns nothing of what other tenants hold, for its bytes are received in full and
staged apart by tenant even when the same blob exists already; what a tenant has staged stays
within its limit, whatever it begins and leaves.  A row is written only
in a transaction that has seen its blob (:mod:`services.registry.garbage`), and whoever is
told that an upload is complete has its whole time from then on, so none that was just
acknowledged is swept.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from services.chassis.blobs import Blobs
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.files import require_space
from services.chassis.streams import Chunk, committed_bytes, partial_path, receive
from services.registry.callers import Caller
from services.registry.inspection.tensors import disguise
from services.registry.manifests import File
from services.registry.store import FileRow, UploadRow
from services.registry.versions import held_bytes

_SUFFIXES = (".safetensors", ".json")
# Text that belongs to a tokenizer.
_TEXTS = frozenset({"chat_template.jinja", "merges.txt", "vocab.txt"})


@dataclass(frozen=True, slots=True)
class Announcement:
    """What an upload's header says is coming."""

    filename: str
    size_bytes: int
    sha256: str
    resume_offset_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an upload has come."""

    sha256: str
    committed_bytes: int
    complete: bool


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Most bytes of one file, and of all files of a tenant that have begun and are not kept yet."""

    max_blob_bytes: int
    max_staged_bytes: int


@dataclass(slots=True, eq=False)
class _Turn:
    """One call's right to grow a file; up to the bytes that it announced, once there is room for them."""

    size_bytes: int = 0


def require_accepted(filename: str, field: str) -> None:
    """Raise WEIGHTS_REFUSED unless a file of this name may be in a version."""
    if not filename.endswith(_SUFFIXES) and filename not in _TEXTS:
        problem = (
            f"{filename[:128]} is neither .safetensors nor .json nor a tokenizer's text, and nothing else is accepted"
        )
        raise Failure(Reason.WEIGHTS_REFUSED, field=field, problem=problem)


class Uploads:
    """Receives blobs into a staging folder and gives them to the store."""

    def __init__(
        self, database: Database, blobs: Blobs, staging: Path, limits: UploadLimits, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._staging = staging
        self._limits = limits
        self._now = now
        # Whose turn each file is.
        self._under_way: dict[Path, _Turn] = {}
        self._being_kept: set[Path] = set()

    async def progress(self, caller: Caller, sha256: str) -> Progress:
        """How far this tenant's upload has come; 0 for one that it never began.  A complete one is kept anew."""
        if await self._database.read(lambda session: held_bytes(session, caller.tenant, sha256)) is not None:
            size_bytes = await self._database.write(lambda session: self._renew(session, caller, sha256))
            # None: the sweep came between the two.
            if size_bytes is not None:
                return Progress(sha256, size_bytes, complete=True)
        committed = await asyncio.to_thread(committed_bytes, self._target(caller, sha256))
        return Progress(sha256, committed, complete=False)

    async def receive(self, caller: Caller, announced: Announcement, chunks: AsyncIterable[Chunk]) -> Progress:
        """Take the chunks of one file and keep it.

        Raises WEIGHTS_REFUSED, BLOB_TOO_LARGE, UPLOAD_IN_PROGRESS, STAGED_BYTES_EXHAUSTED, DISK_FULL, and what
        ``chassis.streams.receive`` raises.  After DISK_FULL nothing half-written remains.
        """
        self._admit(announced)
        known = await self.progress(caller, announced.sha256)
        if known.complete:
            return known
        target = self._target(caller, announced.sha256)
        with self._alone(target) as turn:
            try:
                staged = await asyncio.to_thread(_staged_bytes, target.parent)
                self._require_room(target, announced, staged)
                turn.size_bytes = announced.size_bytes
                missing_bytes = announced.size_bytes - committed_bytes(target)
                await asyncio.to_thread(require_space, self._staging, missing_bytes, "the blobs")
                received = await receive(
                    _watched(announced, chunks),
                    target,
                    announced.size_bytes,
                    announced.sha256,
                    announced.resume_offset_bytes,
                )
                await self._kept(caller, announced, received.path)
            except Failure as failure:
                if failure.reason in (Reason.DISK_FULL, Reason.WEIGHTS_REFUSED):
                    partial_path(target).unlink(missing_ok=True)
                raise
        return Progress(announced.sha256, announced.size_bytes, complete=True)

    async def take(self, caller: Caller, file: File, staged: Path) -> None:
        """Keep a file that was made or fetched here: synced, its digest known; it is gone from ``staged`` afterwards.

        Raises BLOB_TOO_LARGE, DISK_FULL.
        """
        self.require_size(file.filename, file.size_bytes)
        announced = Announcement(file.filename, file.size_bytes, file.sha256, 0)
        await self._kept(caller, announced, staged)

    def _admit(self, announced: Announcement) -> None:
        require_accepted(announced.filename, "header.filename")
        self.require_size(announced.filename, announced.size_bytes)

    def require_size(self, filename: str, size_bytes: int) -> None:
        """Raise BLOB_TOO_LARGE for a file over the deployment's limit."""
        if size_bytes > self._limits.max_blob_bytes:
            limit_bytes = self._limits.max_blob_bytes
            raise Failure(Reason.BLOB_TOO_LARGE, name=filename, size_bytes=size_bytes, limit_bytes=limit_bytes)

    @contextlib.contextmanager
    def _alone(self, target: Path) -> Iterator[_Turn]:
        """Two calls must not grow the same file."""
        if target in self._under_way:
            raise Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0)
        turn = self._under_way[target] = _Turn()
        try:
            yield turn
        finally:
            # Once the file is kept the turn has ended, and it may be another's before this call hears of it.
            if target not in self._being_kept and self._under_way.get(target) is turn:
                del self._under_way[target]

    def _require_room(self, target: Path, announced: Announcement, staged: Mapping[Path, int]) -> None:
        """Raise STAGED_BYTES_EXHAUSTED for what has no place beside the tenant's other files, ``staged`` by target."""
        # Nothing is awaited until the turn has it: two that begin at once do not both find the same room.
        others = {other: size_bytes for other, size_bytes in staged.items() if other != target}
        for other, turn in self._under_way.items():
            if other != target and other.parent == target.parent:
                # More of it may lie here than its present call announced.
                others[other] = max(turn.size_bytes, staged.get(other, 0))
        staged_bytes, limit_bytes = sum(others.values()), self._limits.max_staged_bytes
        if staged_bytes + announced.size_bytes > limit_bytes:
            raise Failure(
                Reason.STAGED_BYTES_EXHAUSTED,
                staged_bytes=staged_bytes,
                name=announced.filename,
                size_bytes=announced.size_bytes,
                limit_bytes=limit_bytes,
            )

    async def _kept(self, caller: Caller, announced: Announcement, staged: Path) -> None:
        """Keep a file to the end, also when the caller goes away; until then no other call may grow it."""
        keeping = asyncio.ensure_future(self._keep(caller, announced, staged))
        self._being_kept.add(staged)
        keeping.add_done_callback(lambda _: self._let_go(staged))
        await asyncio.shield(keeping)

    def _let_go(self, staged: Path) -> None:
        self._being_kept.discard(staged)
        self._under_way.pop(staged, None)

    async def _keep(self, caller: Caller, announced: Announcement, staged: Path) -> None:
        await self._blobs.adopt(staged, announced.sha256)
        await self._database.write(lambda session: self._enter(session, caller, announced))

    def _enter(self, session: Session, caller: Caller, announced: Announcement) -> None:
        # A sweep that had found an old blob of these bytes unreachable may have come after ours was put in its place.
        if not self._blobs.holds_now(announced.sha256):
            raise Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0)
        session.merge(
            UploadRow(
                tenant=caller.tenant,
                sha256=announced.sha256,
                filename=announced.filename,
                size_bytes=announced.size_bytes,
                completed_at=self._now(),
            )
        )

    def _renew(self, session: Session, caller: Caller, sha256: str) -> int | None:
        """Let the time of what the tenant holds begin again; returns its length, None when it holds nothing."""
        upload = session.get(UploadRow, (caller.tenant, sha256), with_for_update=True)
        if upload is None:
            of_version = select(FileRow).where(FileRow.tenant == caller.tenant, FileRow.sha256 == sha256)
            file = session.scalars(of_version.limit(1)).first()
            if file is None:
                return None
            # The version may be deleted before the caller has named the file in another.
            upload = UploadRow(tenant=caller.tenant, sha256=sha256, filename=file.filename, size_bytes=file.size_bytes)
            session.add(upload)
        upload.completed_at = self._now()
        return upload.size_bytes

    def _target(self, caller: Caller, sha256: str) -> Path:
        """Where this tenant's upload grows.  A tenant's id is hashed: it is no path."""
        tenant = hashlib.sha256(caller.tenant.encode()).hexdigest()[:32]
        return self._staging / tenant / sha256

    async def clear_staging(self, older_than_seconds: float) -> None:
        """Remove what a kill or a caller that never came back left, but never what an upload under way grows."""
        oldest = time.time() - older_than_seconds
        for path in await asyncio.to_thread(_untouched_since, self._staging, oldest):
            # Here, on the loop: no upload can begin between the look and the deed.
            if not any(target == path or partial_path(target) == path for target in self._under_way):
                path.unlink(missing_ok=True)
        for folder in await asyncio.to_thread(lambda: [item for item in self._staging.glob("*") if item.is_dir()]):
            if not any(target.parent == folder for target in self._under_way):
                with contextlib.suppress(OSError):  # it is not empty
                    folder.rmdir()


def _staged_bytes(folder: Path) -> dict[Path, int]:
    """What lies in a tenant's folder, by the target that it belongs to."""
    found: dict[Path, int] = {}
    for path in folder.glob("*"):
        target = path.with_suffix("")
        with contextlib.suppress(FileNotFoundError):
            found[target] = found.get(target, 0) + path.stat().st_size
    return found


def _untouched_since(staging: Path, oldest: float) -> list[Path]:
    found = []
    for path in staging.glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                found.append(path)
    return found


async def _watched(announced: Announcement, chunks: AsyncIterable[Chunk]) -> AsyncIterator[Chunk]:
    """The chunks, unless the first bytes are a format that is refused by name: said now, not after the last."""
    async for chunk in chunks:
        if chunk.offset_bytes == 0 and announced.filename.endswith(".safetensors"):
            what = disguise(bytes(chunk.data[:16]))
            if what is not None:
                raise Failure(Reason.WEIGHTS_REFUSED, problem=f"{announced.filename} is {what}")
        yield chunk
