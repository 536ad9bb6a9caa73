"""Faults between the durable steps of an upload, and the sweep that clears up after them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from trivium.common.v1.transfer_pb2 import Chunk

from services.chassis.database import Database, open_database
from services.chassis.idempotency import IdempotencyKey
from services.registry.blobs import ObjectBlobs, open_blobs
from services.registry.callers import Caller
from services.registry.deletion import Deletion
from services.registry.holds import Holds, Wish
from services.registry.manifests import File, Kind, Lineage, Manifest
from services.registry.replay import Replay
from services.registry.uploads import Announcement, UploadLimits, Uploads
from services.registry.versions import Versions
from tests.adapters import digest

CALLER = Caller("t", "p")
CONTENT = b'{"a": 1}'
DAY = 86_400.0


class Killed(Exception):
    """Stands for the process that ends here."""


class Clock:
    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


class DiesAfterAdopting(ObjectBlobs):
    """The blob is in its place, the row is not: the process ends between the two."""

    async def adopt(self, staged: Path, sha256: str) -> None:
        await super().adopt(staged, sha256)
        raise Killed


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/registry.db", "services.registry.migrations") as opened:
        yield opened


def uploads_over(database: Database, blobs: ObjectBlobs, tmp_path: Path, clock: Clock) -> Uploads:
    return Uploads(database, blobs, tmp_path / "blobs" / "staging", UploadLimits(1 << 30, DAY), clock)


async def send(uploads: Uploads, content: bytes = CONTENT):
    async def chunks() -> AsyncIterator[Chunk]:
        yield Chunk(offset_bytes=0, data=content)

    return await uploads.receive(CALLER, Announcement("a.json", len(content), digest(content), 0), chunks())


async def test_an_upload_that_died_before_its_row_is_not_there_and_can_be_repeated(database: Database, tmp_path: Path):
    blobs, clock = open_blobs("", tmp_path / "blobs"), Clock()
    dying = DiesAfterAdopting(blobs._store, scratch=tmp_path / "blobs", folder=tmp_path / "blobs")
    with pytest.raises(Killed):
        await send(uploads_over(database, dying, tmp_path, clock))
    uploads = uploads_over(database, blobs, tmp_path, clock)
    assert not (await uploads.progress(CALLER, digest(CONTENT))).complete
    assert (await send(uploads)).complete
    assert await uploads.sweep() == 0
    assert (await uploads.progress(CALLER, digest(CONTENT))).complete


async def test_a_blob_whose_upload_was_never_acknowledged_is_swept(database: Database, tmp_path: Path):
    blobs, clock = open_blobs("", tmp_path / "blobs"), Clock()
    dying = DiesAfterAdopting(blobs._store, scratch=tmp_path / "blobs", folder=tmp_path / "blobs")
    with pytest.raises(Killed):
        await send(uploads_over(database, dying, tmp_path, clock))
    assert await uploads_over(database, blobs, tmp_path, clock).sweep() == 1
    assert not [sha256 async for sha256 in blobs.digests()]


async def test_an_unused_upload_is_kept_for_its_time_and_then_swept(database: Database, tmp_path: Path):
    blobs, clock = open_blobs("", tmp_path / "blobs"), Clock()
    uploads = uploads_over(database, blobs, tmp_path, clock)
    await send(uploads)
    clock.seconds += DAY - 1
    assert await uploads.sweep() == 0
    clock.seconds += 2
    assert await uploads.sweep() == 1
    assert not (await uploads.progress(CALLER, digest(CONTENT))).complete


async def asked(uploads: Uploads):
    return await uploads.progress(CALLER, digest(CONTENT))


@pytest.mark.parametrize("told_complete", [send, asked])
async def test_an_upload_that_is_called_complete_again_has_its_whole_time_again(
    database: Database, tmp_path: Path, told_complete
):
    blobs, clock = open_blobs("", tmp_path / "blobs"), Clock()
    uploads = uploads_over(database, blobs, tmp_path, clock)
    await send(uploads)
    for _ in range(3):
        clock.seconds += DAY - 1
        assert (await told_complete(uploads)).complete
    clock.seconds += DAY - 1
    assert await uploads.sweep() == 0
    clock.seconds += 2
    assert await uploads.sweep() == 1


async def test_a_file_of_a_version_that_was_uploaded_again_outlives_the_version(database: Database, tmp_path: Path):
    blobs, clock = open_blobs("", tmp_path / "blobs"), Clock()
    uploads, versions = uploads_over(database, blobs, tmp_path, clock), Versions(database, clock)
    await send(uploads)
    files = (File("a.json", digest(CONTENT), len(CONTENT)),)
    manifest = Manifest("t", "m", Kind.LORA, "", "", "", files, Lineage())
    version = await versions.create(CALLER, manifest, Replay(IdempotencyKey("t", "CreateVersion", "", b"")))
    clock.seconds += 2 * DAY
    assert await uploads.sweep() == 0
    assert (await send(uploads)).complete
    deletion = Deletion(database, clock, Holds(clock, 60.0), grace_seconds=10 * DAY)
    await deletion.delete_version(CALLER, "m", version.version, Wish())
    clock.seconds += 2 * DAY
    # It can still be restored.
    assert await uploads.sweep() == 0
    assert (await send(uploads)).complete
    await deletion.delete_version(CALLER, "m", version.version, Wish(purge=True))
    assert await uploads.sweep() == 0
    assert (await asked(uploads)).complete
    clock.seconds += DAY + 1
    assert await uploads.sweep() == 1
