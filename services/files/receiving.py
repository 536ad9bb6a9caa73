"""Uploads: bytes come without a word of how many, and count only when the end says length and digest and both are right.

Invariant: of an upload that fails or whose caller goes away nothing is kept; what a kill leaves lies in the staging
folder until the sweep.
"""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from services.chassis.blobs import Blobs
from services.chassis.errors import Failure, Reason
from services.chassis.files import require_space
from services.chassis.idempotency import IdempotencyKey
from services.chassis.streams import Chunk, Seal, receive_sealed
from services.files.files import Content, File, Files, Wish, repeatable


@dataclass(frozen=True, slots=True)
class Announced:
    """What a new file is to be, and by what a repeat of its upload is known; it may come before the bytes or behind them."""

    wish: Wish
    key: IdempotencyKey


class Receiving:
    """Receives files into a staging folder beside the blobs."""

    def __init__(self, files: Files, blobs: Blobs, staging: Path, max_file_bytes: int) -> None:
        self._files = files
        self._blobs = blobs
        self._staging = staging
        self._max_file_bytes = max_file_bytes
        self._under_way: set[Path] = set()

    async def receive(self, tenant: str, parts: AsyncIterable[Announced | Chunk | Seal]) -> File:
        """Take one file whole and keep it.

        Raises FILE_TOO_LARGE, FIELD_INVALID for parts without one announcement, DISK_FULL, what
        ``chassis.streams.receive_sealed`` raises, and what ``Files.enter`` does.
        """
        await asyncio.to_thread(require_space, self._staging, 0, "the files")
        # A tenant's id is hashed: it is no path.
        folder = self._staging / hashlib.sha256(tenant.encode()).hexdigest()[:32]
        target = folder / uuid.uuid4().hex
        announced: list[Announced] = []
        self._under_way.add(target)
        try:
            received = await receive_sealed(_bytes(parts, announced), target, self._admit)
            content = Content(received.sha256, received.size_bytes)
            # To the end, also when the caller goes away: the bytes are its own and complete.
            return await asyncio.shield(self._keep(tenant, announced[0], target, content))
        finally:
            self._under_way.discard(target)

    def _admit(self, size_bytes: int) -> None:
        if size_bytes > self._max_file_bytes:
            raise Failure(Reason.FILE_TOO_LARGE, limit_bytes=self._max_file_bytes)

    async def _keep(self, tenant: str, announced: Announced, staged: Path, content: Content) -> File:
        key = repeatable(announced.key, content)
        try:
            # First: bytes that no file names lie until a sweep, and whoever is at its limit may send them again and again.
            await self._files.require_room(tenant, content, key)
            await self._blobs.adopt(staged, content.sha256)
        except BaseException:
            await asyncio.to_thread(staged.unlink, missing_ok=True)
            raise
        return await self._files.enter(tenant, announced.wish, content, key)

    def clear(self, older_than: float) -> None:
        """Remove what a kill left, untouched since a time (Unix seconds).  Blocks."""
        for path in self._staging.glob("*/*"):
            target = path.with_suffix("")
            try:
                if target not in self._under_way and path.stat().st_mtime < older_than:
                    path.unlink()
            except FileNotFoundError:
                continue


async def _bytes(
    parts: AsyncIterable[Announced | Chunk | Seal], announced: list[Announced]
) -> AsyncIterator[Chunk | Seal]:
    """The parts without the announcement, which is put aside: once, and before the end.  Raises FIELD_INVALID."""
    async for part in parts:
        if isinstance(part, Announced):
            announced.append(part)
            continue
        if isinstance(part, Seal) and len(announced) != 1:
            raise Failure(Reason.FIELD_INVALID, field="header", problem="must come once, before the end of the file")
        yield part
