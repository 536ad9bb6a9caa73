"""Bytes larger than a message: chunks with offsets, durable as they come, kept only when digest and length match.

An upload grows ``<target>.partial``; what has reached the disk is the committed offset,
from which an interrupted upload resumes.  Invariant: ``target`` either does not exist
or holds exactly the announced bytes.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, publish
from services.chassis.steps import Step, passed

CHUNK_BYTES = 512 * 1024
_MIN_CHUNK_BYTES = 256 * 1024
_MAX_CHUNK_BYTES = 1024 * 1024
# An upload slower than this over a whole window holds a stream for nothing.
FLOOR_BYTES_PER_SECOND = 4 * 1024
_WINDOW_SECONDS = 30.0
_SYNC_EVERY_BYTES = 16 * 1024 * 1024


class Chunk(Protocol):
    """A piece with its place, as ``trivium.common.v1.Chunk`` is."""

    @property
    def offset_bytes(self) -> int:
        """Position of the first byte in the whole."""

    @property
    def data(self) -> bytes:
        """The bytes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a download."""

    offset_bytes: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Received:
    """A finished upload."""

    path: Path
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Seal:
    """The end of an upload whose length nobody knew before: what all that came must be."""

    size_bytes: int
    sha256: str


def partial_path(target: Path) -> Path:
    """Where an unfinished upload to ``target`` grows."""
    return target.with_name(target.name + ".partial")


def committed_bytes(target: Path) -> int:
    """How much of an upload to ``target`` is on disk: the offset to resume from."""
    try:
        return partial_path(target).stat().st_size
    except FileNotFoundError:
        return 0


async def receive(
    chunks: AsyncIterable[Chunk],
    target: Path,
    expected_size: int,
    sha256: str,
    offset: int = 0,
    *,
    floor_bytes_per_second: int = FLOOR_BYTES_PER_SECOND,
    clock: Callable[[], float] = time.monotonic,
) -> Received:
    """Write the chunks, check length and digest (64 hex digits), give the file its name.

    ``offset`` is where the caller resumes; it must be what is committed, or 0 to begin
    again.  Raises CHUNK_OFFSET_WRONG, SIZE_MISMATCH, DIGEST_MISMATCH (then nothing is
    kept), UPLOAD_TOO_SLOW and DISK_FULL.
    """
    sha256 = sha256.removeprefix("sha256:").lower()
    upload = await asyncio.to_thread(_Upload.begin, target, offset)
    pace = _Pace(floor_bytes_per_second, clock)
    try:
        async for chunk in chunks:
            if chunk.offset_bytes != upload.size:
                raise Failure(Reason.CHUNK_OFFSET_WRONG, offset=chunk.offset_bytes, expected=upload.size)
            if upload.size + len(chunk.data) > expected_size:
                raise Failure(Reason.SIZE_MISMATCH, actual=upload.size + len(chunk.data), announced=expected_size)
            await asyncio.to_thread(upload.append, chunk.data)
            pace.count(len(chunk.data))
    except BaseException:
        await asyncio.shield(asyncio.to_thread(upload.suspend))
        raise
    return await asyncio.to_thread(upload.finish, expected_size, sha256)


async def receive_sealed(
    parts: AsyncIterable[Chunk | Seal],
    target: Path,
    admit: Callable[[int], None],
    *,
    floor_bytes_per_second: int = FLOOR_BYTES_PER_SECOND,
    clock: Callable[[], float] = time.monotonic,
) -> Received:
    """Write the chunks until a seal says what they must be, and give the file its name.

    ``admit`` is told of each new length before it is written, and raises to refuse it.  Raises CHUNK_OFFSET_WRONG,
    SIZE_MISMATCH, DIGEST_MISMATCH, UPLOAD_UNFINISHED, UPLOAD_TOO_SLOW and DISK_FULL; whatever it ends with, nothing
    half-written stays.
    """
    opening = asyncio.create_task(asyncio.to_thread(_Upload.begin, target, 0))
    pace = _Pace(floor_bytes_per_second, clock)
    try:
        # A thread that opens the file goes on when its caller is cancelled: what it opens is waited for, below.
        upload = await asyncio.shield(opening)
        async for part in parts:
            if isinstance(part, Seal):
                return await asyncio.to_thread(upload.finish, part.size_bytes, part.sha256)
            if part.offset_bytes != upload.size:
                raise Failure(Reason.CHUNK_OFFSET_WRONG, offset=part.offset_bytes, expected=upload.size)
            admit(upload.size + len(part.data))
            await asyncio.to_thread(upload.append, part.data)
            pace.count(len(part.data))
        raise Failure(Reason.UPLOAD_UNFINISHED, size_bytes=upload.size)
    except BaseException:
        await asyncio.shield(_discarded(opening))
        raise


async def _discarded(opening: "asyncio.Task[_Upload]") -> None:
    """Keep nothing of an upload; one that could not be opened left nothing."""
    await asyncio.wait([opening])
    if opening.exception() is None:
        await asyncio.to_thread(opening.result().discard)


class _Pace:
    """Raises UPLOAD_TOO_SLOW when a whole window stayed under the floor."""

    def __init__(self, floor: int, clock: Callable[[], float]) -> None:
        self._floor = floor
        self._clock = clock
        self._since = clock()
        self._bytes = 0

    def count(self, size: int) -> None:
        self._bytes += size
        elapsed = self._clock() - self._since
        if elapsed < _WINDOW_SECONDS:
            return
        if self._bytes < self._floor * elapsed:
            raise Failure(Reason.UPLOAD_TOO_SLOW, floor_bytes=self._floor)
        self._since, self._bytes = self._clock(), 0


@dataclass(slots=True)
class _Upload:
    """The growing file and the digest of what it holds."""

    target: Path
    file: BinaryIO
    size: int
    unsynced: int = 0
    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @classmethod
    def begin(cls, target: Path, offset: int) -> "_Upload":
        target.parent.mkdir(parents=True, exist_ok=True)
        passed(Step.UPLOAD_FOLDER_MADE)
        path = partial_path(target)
        held = committed_bytes(target)
        if offset not in (0, held):
            raise Failure(Reason.CHUNK_OFFSET_WRONG, offset=offset, expected=held)
        upload = cls(target, path.open("r+b" if offset else "wb"), offset)
        passed(Step.UPLOAD_OPENED)
        if offset:
            while block := upload.file.read(_MAX_CHUNK_BYTES):
                upload.digest.update(block)
        return upload

    def append(self, data: bytes) -> None:
        with disk_full_named(self.target):
            self.file.write(data)
        self.digest.update(data)
        self.size += len(data)
        self.unsynced += len(data)
        if self.unsynced >= _SYNC_EVERY_BYTES:
            self.sync()
        passed(Step.UPLOAD_GREW)

    def sync(self) -> None:
        with disk_full_named(self.target):
            self.file.flush()
            os.fsync(self.file.fileno())
        self.unsynced = 0

    def suspend(self) -> None:
        """Keep what came, durably, for a later resume."""
        try:
            self.sync()
        except Failure:
            # The disk is full: what reached it is the committed offset all the same.
            pass
        finally:
            try:
                self.file.close()
            except OSError:
                self.size = committed_bytes(self.target)

    def discard(self) -> None:
        """Keep nothing."""
        try:
            self.file.close()
        finally:
            partial_path(self.target).unlink(missing_ok=True)

    def finish(self, expected_size: int, sha256: str) -> Received:
        if self.size != expected_size:
            self.suspend()
            raise Failure(Reason.SIZE_MISMATCH, actual=self.size, announced=expected_size)
        actual = self.digest.hexdigest()
        if actual != sha256:
            self.file.close()
            partial_path(self.target).unlink(missing_ok=True)
            raise Failure(Reason.DIGEST_MISMATCH, actual=actual, announced=sha256)
        self.sync()
        self.file.close()
        publish(partial_path(self.target), self.target)
        passed(Step.UPLOAD_NAMED)
        return Received(self.target, self.size, actual)


async def send(path: Path, offset: int = 0, chunk_bytes: int = CHUNK_BYTES) -> AsyncIterator[Piece]:
    """The bytes of ``path`` from ``offset`` in pieces of ``chunk_bytes`` (held to 256 KiB to 1 MiB).

    Raises OFFSET_BEYOND_END.
    """
    size_bytes = await asyncio.to_thread(lambda: path.stat().st_size)
    if offset > size_bytes:
        raise Failure(Reason.OFFSET_BEYOND_END, offset=offset, size_bytes=size_bytes)
    length = min(max(chunk_bytes, _MIN_CHUNK_BYTES), _MAX_CHUNK_BYTES)
    with path.open("rb") as file:
        file.seek(offset)
        while data := await asyncio.to_thread(file.read, length):
            yield Piece(offset, data)
            offset += len(data)
