"""Content-addressed bytes: ``sha256/ab/cd/<digest>`` in a folder or a bucket, through obstore.

Invariants: a blob is there whole or not at all, holds the bytes of its digest, and
is durable when :meth:`Blobs.adopt` returns.  Who may read it is decided elsewhere:
nothing here knows a tenant.  A bucket that does not answer is a peer that cannot be
reached, and every method may raise PEER_UNAVAILABLE.

The methods whose names end in ``_now`` block, and are for a writing transaction that
others wait for: they try once.
"""

import asyncio
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, ObjectStore, from_url

from services.chassis.errors import Failure, Reason
from services.chassis.files import disk_full_named, sync_folder
from services.chassis.steps import Step, passed

if TYPE_CHECKING:
    from obstore import Bytes, GetOptions
    from obstore.store import ClientConfig, RetryConfig

CHUNK_BYTES = 512 * 1024
# A caller waits meanwhile: a bucket that is away for longer is told, and tried again by the caller.
_RETRIES: "RetryConfig" = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}
_RETRY_AFTER_SECONDS = 5.0
_AT_ONCE: "RetryConfig" = {"max_retries": 0}
# Every writer of every replica waits for a look or a removal inside a transaction.
_AT_ONCE_TIMEOUT = timedelta(seconds=5)
# A request to a bucket ends after half a minute, whatever has come by then: what is read is asked for in ranges.
_RANGE_BYTES = 8 * 1024 * 1024
_PART_BYTES = 5 * 1024 * 1024
_MOST_PARTS = 10_000
# What is older and not ours was left by a process that was killed: a service that ends removes its own.
_SCRATCH_SECONDS = 3600.0
_COPY = "read-"
_KEY = re.compile(r"^sha256/[0-9a-f]{2}/[0-9a-f]{2}/([0-9a-f]{64})$")


@dataclass(frozen=True, slots=True)
class Stored:
    """A blob as the store lists it; ``modified_at`` is when it was last put there, by the store's clock."""

    sha256: str
    modified_at: float


class Blobs(Protocol):
    """A store of immutable bytes by SHA-256 (64 hexadecimal digits)."""

    async def adopt(self, staged: Path, sha256: str) -> None:
        """Take over a synced file whose digest was checked; it is gone afterwards.

        Raises DISK_FULL, and UPLOAD_IN_PROGRESS where the store refuses two writers of one blob.
        """

    def read(self, sha256: str, offset_bytes: int) -> AsyncIterator[bytes]:
        """The bytes from an offset, in pieces of at most 512 KiB.  Raises BLOB_NOT_FOUND."""

    def local(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        """A file that holds the blob inside the block, read-only.  Raises BLOB_NOT_FOUND."""

    def holds_now(self, sha256: str) -> bool:
        """Whether the blob is there.  Blocks."""

    def delete_now(self, sha256: str) -> None:
        """Remove a blob; no error when it is not there.  Blocks."""

    def stored(self) -> AsyncIterator[Stored]:
        """Every blob in the store."""

    async def clear_scratch(self) -> None:
        """Remove copies that a killed process left; never one that is read."""


def key_of(sha256: str) -> str:
    """Where a digest lies."""
    return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"


def open_blobs(url: str, folder: Path) -> "ObjectBlobs":
    """The blobs in the bucket at ``url`` (``s3://bucket/prefix``), or below ``folder`` when it is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    if url:
        at_once = from_url(url, retry_config=_AT_ONCE, client_options=_client(_AT_ONCE_TIMEOUT))
        return ObjectBlobs(from_url(url, retry_config=_RETRIES), scratch=folder, at_once=at_once)
    return ObjectBlobs(LocalStore(prefix=folder), scratch=folder, folder=folder)


def _client(timeout: timedelta) -> "ClientConfig":
    """Options of a client whose requests end after a time; what the environment says of it holds here too."""
    plain = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "on", "yes", "y")
    return {"timeout": timeout, "allow_http": plain}


def part_bytes(size_bytes: int) -> int:
    """In which pieces a file is sent to a bucket, which takes ten thousand of one file."""
    return max(_PART_BYTES, -(-size_bytes // _MOST_PARTS))


@contextmanager
def _reached() -> Iterator[None]:
    """Turn what a store that does not answer fails with, inside the block, into a Failure."""
    try:
        yield
    except AlreadyExistsError as error:
        # A bucket's word for two that write or remove one key at a time: the bytes are the same, whoever wins.
        raise Failure(Reason.UPLOAD_IN_PROGRESS, retry_after_seconds=1.0) from error
    except BaseError as error:
        raise Failure(
            Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_AFTER_SECONDS, service="blob storage"
        ) from error


class ObjectBlobs:
    """:class:`Blobs` on any store that obstore opens; with ``folder``, the store is that folder.

    ``at_once`` is the same store by a client that does not try again.
    """

    def __init__(
        self, store: ObjectStore, *, scratch: Path, folder: Path | None = None, at_once: ObjectStore | None = None
    ) -> None:
        self._store = store
        self._at_once = at_once or store
        self._scratch = scratch
        self._folder = folder
        self._copies: set[Path] = set()

    async def adopt(self, staged: Path, sha256: str) -> None:
        """Move the file in (a rename inside a folder), or send it to the bucket."""
        key = key_of(sha256)
        with _reached(), disk_full_named("the blobs"):
            if self._folder is not None and staged.is_relative_to(self._folder):
                await obstore.rename_async(self._store, str(staged.relative_to(self._folder)), key)
                passed(Step.BLOB_STORED)
                await asyncio.to_thread(self._sync, self._folder / key)
                return
            size_bytes = await asyncio.to_thread(lambda: staged.stat().st_size)
            await obstore.put_async(self._store, key, staged, chunk_size=part_bytes(size_bytes))
            passed(Step.BLOB_STORED)
            if self._folder is not None:
                await asyncio.to_thread(self._sync, self._folder / key)
            await asyncio.to_thread(staged.unlink)
            passed(Step.STAGED_REMOVED)

    def _sync(self, path: Path) -> None:
        """Make the file and the names that lead to it durable: obstore renames but does not sync."""
        assert self._folder is not None
        # A sweep may remove it until its row is there; whoever writes the row looks.
        with suppress(FileNotFoundError), path.open("rb") as file:
            os.fsync(file.fileno())
        for parent in path.parents:
            sync_folder(parent)
            if parent == self._folder:
                break
        passed(Step.BLOB_SYNCED)

    async def read(self, sha256: str, offset_bytes: int) -> AsyncIterator[bytes]:
        """Read from the store; however slowly the caller takes the pieces."""
        key = key_of(sha256)
        with _reached():
            try:
                size_bytes = (await obstore.head_async(self._store, key))["size"]
                pieces = self._ranges if self._folder is None else self._streamed
                async for piece in pieces(key, offset_bytes, size_bytes):
                    view = memoryview(piece)
                    for start in range(0, len(view), CHUNK_BYTES):
                        yield bytes(view[start : start + CHUNK_BYTES])
            except FileNotFoundError:
                raise Failure(Reason.BLOB_NOT_FOUND, name=sha256) from None

    async def _ranges(self, key: str, offset_bytes: int, size_bytes: int) -> "AsyncIterator[Bytes | bytes]":
        for start in range(offset_bytes, size_bytes, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, size_bytes)
            yield await obstore.get_range_async(self._store, key, start=start, end=end)

    async def _streamed(self, key: str, offset_bytes: int, size_bytes: int) -> "AsyncIterator[Bytes | bytes]":
        # One open file: what is being read is read to its end, also when it is removed meanwhile.
        if offset_bytes < size_bytes:
            options: GetOptions = {"range": {"offset": offset_bytes}}
            async for piece in (await obstore.get_async(self._store, key, options=options)).stream(
                min_chunk_size=CHUNK_BYTES
            ):
                yield piece

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        """The file itself in a folder; a copy in scratch from a bucket."""
        if self._folder is not None:
            path = self._folder / key_of(sha256)
            if not path.is_file():
                raise Failure(Reason.BLOB_NOT_FOUND, name=sha256)
            yield path
            return
        copy = self._scratch / f"{_COPY}{uuid.uuid4().hex}"
        self._copies.add(copy)
        try:
            with disk_full_named("the blobs"), copy.open("wb") as file:
                passed(Step.COPY_MADE)
                async for piece in self.read(sha256, 0):
                    await asyncio.to_thread(file.write, piece)
            yield copy
        finally:
            copy.unlink(missing_ok=True)
            self._copies.discard(copy)
            passed(Step.COPY_REMOVED)

    def place(self, sha256: str) -> Path | None:
        """Where the blob lies, or would, when the store is a folder of this machine; None for a bucket."""
        return None if self._folder is None else self._folder / key_of(sha256)

    def holds_now(self, sha256: str) -> bool:
        """Ask the store."""
        with _reached():
            try:
                obstore.head(self._at_once, key_of(sha256))
            except FileNotFoundError:
                return False
            return True

    def delete_now(self, sha256: str) -> None:
        """Remove from the store."""
        with _reached(), suppress(FileNotFoundError):
            obstore.delete(self._at_once, key_of(sha256))

    async def stored(self) -> AsyncIterator[Stored]:
        """List the store."""
        with _reached():
            async for page in obstore.list(self._store, prefix="sha256"):
                for entry in page:
                    match = _KEY.match(entry["path"])
                    if match is not None:
                        yield Stored(match[1], entry["last_modified"].timestamp())

    async def clear_scratch(self) -> None:
        """Remove old copies by name."""
        await asyncio.to_thread(self._clear_scratch)

    def _clear_scratch(self) -> None:
        oldest = time.time() - _SCRATCH_SECONDS
        for path in self._scratch.glob(f"{_COPY}*"):
            with suppress(FileNotFoundError):
                # A merge of a large model reads its copies for hours.
                if path.stat().st_mtime < oldest and path not in self._copies:
                    path.unlink()
