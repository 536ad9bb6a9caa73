"""Where the bytes of datasets are: received in a tenant's folder, kept in the blobs, read as a file of this machine.

Invariants: a tenant reaches bytes only through a row of its own, or as the one who sent them; received bytes stay
until their row is there; and blobs go only inside a transaction that found no row for them.
"""

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from sqlalchemy.orm import Session

from services.chassis.blobs import ObjectBlobs
from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.files import publish, sync_folder
from services.chassis.streams import committed_bytes
from services.trainer.data import dataset_rows

_SHA256 = re.compile(r"^[0-9a-f]{64}$")
_LOOK_AT_ONCE = 200


class DatasetFiles:
    """The bytes of datasets.

    `folder` is on the disk of the uploads: in it lie blobs that are taken over, and copies of those that are in a
    bucket.  `old` is where earlier releases kept datasets, a folder a tenant.
    """

    def __init__(
        self,
        blobs: ObjectBlobs,
        database: Database,
        *,
        folder: Path,
        uploads: Path,
        old: Path,
        blocking: Callable[..., Awaitable[object]],
    ) -> None:
        self._blobs = blobs
        self._database = database
        self._folder = folder
        self._uploads = uploads
        self._old = old
        self._blocking = blocking

    def received(self, tenant: str, sha256: str) -> Path:
        """Where an upload of the tenant's ends when all of it came."""
        return self._uploads / tenant / sha256

    async def committed(self, tenant: str, sha256: str) -> tuple[int, bool]:
        """How many bytes of an upload are durable, and whether that is all."""
        size_bytes = await self._database.read(lambda session: dataset_rows.owned(session, tenant, sha256))
        if size_bytes is not None and await self.holds(sha256):
            return size_bytes, True
        received = self.received(tenant, sha256)
        if received.exists():
            return received.stat().st_size, True
        return committed_bytes(received), False

    async def holds(self, sha256: str) -> bool:
        """Whether the blobs have these bytes."""
        return bool(await self._blocking(self._blobs.holds_now, sha256))

    def holds_now(self, sha256: str) -> bool:
        """As `holds`, inside a transaction.  Blocks."""
        return self._blobs.holds_now(sha256)

    async def keep(self, received: Path, sha256: str) -> None:
        """Put received bytes among the blobs; the file stays where it is."""
        place = self._folder / "incoming" / f"{sha256}-{os.urandom(4).hex()}"
        await self._blocking(_linked, received, place)
        try:
            await self._blobs.adopt(place, sha256)
        finally:
            await self._blocking(partial(place.unlink, missing_ok=True))

    async def file(self, digest: str) -> Path:
        """A file of this machine that holds a dataset's bytes, as long as a row lists them.

        Raises DATASET_NOT_FOUND, DISK_FULL, PEER_UNAVAILABLE.
        """
        sha256 = digest.removeprefix("sha256:")
        if (place := self._blobs.place(sha256)) is not None:
            if not place.exists():
                raise Failure(Reason.DATASET_NOT_FOUND, name=digest)
            return place
        copy = self._copy(sha256)
        if not copy.exists():
            try:
                async with self._blobs.local(sha256) as fetched:
                    await self._blocking(_verified, fetched, sha256, copy)
            except Failure as failure:
                if failure.reason is Reason.BLOB_NOT_FOUND:
                    raise Failure(Reason.DATASET_NOT_FOUND, name=digest) from failure
                raise
        return copy

    async def drop(self, digests: list[str]) -> int:
        """Remove those of the bytes that no tenant's dataset is; return how many went."""

        def change(session: Session) -> int:
            gone = dataset_rows.unlisted(session, digests)
            for sha256 in gone:
                self._blobs.delete_now(sha256)
                self._copy(sha256).unlink(missing_ok=True)
            return len(gone)

        return await self._database.write(change) if digests else 0

    async def move_old(self) -> int:
        """Take over what an earlier release kept; return how many datasets moved.

        A kill in between leaves each either there or here, and the next start goes on.
        """
        moved = 0
        for path in await asyncio.to_thread(_digests_below, self._old):
            tenant, sha256 = path.parent.name, path.name
            listed = await self._database.read(partial(dataset_rows.owned, tenant=tenant, sha256=sha256))
            # What has no row is an upload that was never finished: the sweep takes it.
            if listed is not None:
                await self.keep(path, sha256)
                await self._blocking(path.unlink)
                moved += 1
        return moved

    async def sweep(self, before: float) -> int:
        """Remove blobs that nobody lists and copies that nobody uses, untouched since `before` (Unix seconds)."""
        await self._blobs.clear_scratch()
        gone = 0
        async for page in self._untouched_blobs(before):
            gone += await self.drop(page)
        for copy in await asyncio.to_thread(_untouched, self._folder, ("copies/*", "incoming/*"), before):
            sha256 = copy.name[:64]
            if not await self._database.read(partial(dataset_rows.in_use, sha256=sha256)):
                copy.unlink(missing_ok=True)
                gone += 1
        return gone

    async def _untouched_blobs(self, before: float) -> AsyncIterator[list[str]]:
        page: list[str] = []
        async for blob in self._blobs.stored():
            if blob.modified_at < before:
                page.append(blob.sha256)
            if len(page) == _LOOK_AT_ONCE:
                yield page
                page = []
        yield page

    def uploads_untouched(self, before: float) -> list[Path]:
        """Uploads, whole or not, that nobody touched since `before`, and what earlier releases left without a row."""
        return [*_untouched(self._uploads, ("*/*",), before), *_untouched(self._old, ("*/*",), before)]

    def _copy(self, sha256: str) -> Path:
        return self._folder / "copies" / sha256


def _linked(path: Path, place: Path) -> None:
    """Give a file a second name, durably; a copy where the disk is another."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, place)
    except OSError:
        shutil.copyfile(path, place)
        with place.open("rb") as file:
            os.fsync(file.fileno())
    sync_folder(place.parent)


def _verified(fetched: Path, sha256: str, copy: Path) -> None:
    """Give a copy its name once it holds what it should.  Raises BLOB_NOT_FOUND for other bytes."""
    with fetched.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise Failure(Reason.BLOB_NOT_FOUND, name=sha256)
        os.fsync(file.fileno())
    copy.parent.mkdir(parents=True, exist_ok=True)
    publish(fetched, copy)


def _digests_below(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*/*")) if path.is_file() and _SHA256.match(path.name)]


def _untouched(folder: Path, patterns: tuple[str, ...], before: float) -> list[Path]:
    found = []
    for path in (path for pattern in patterns for path in folder.glob(pattern)):
        with suppress(FileNotFoundError):
            if path.is_file() and path.stat().st_mtime < before:
                found.append(path)
    return found
