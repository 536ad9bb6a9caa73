"""The registry's leaves and the verbs over them, opened several times over one place: replicas without their servers."""

import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from trivium.common.v1.transfer_pb2 import Chunk

from services.chassis.blobs import ObjectBlobs, open_blobs
from services.chassis.database import Database, open_database
from services.chassis.idempotency import IdempotencyKey
from services.registry.callers import Caller
from services.registry.deletion import Deletion
from services.registry.garbage import Garbage
from services.registry.holds import Holds, Wish
from services.registry.manifests import File, Kind, Lineage, Manifest
from services.registry.replay import Replay
from services.registry.uploads import Announcement, Progress, UploadLimits, Uploads
from services.registry.version_view import Version
from services.registry.versions import Versions
from tests.adapters import digest
from tests.harness.clock import OffsetClock
from tests.postgres import Postgres, migrate
from tests.worlds import BUCKET, FOLDER

CALLER = Caller("t", "p")
DAY_SECONDS = 86_400.0


@dataclass
class Replica:
    """One process's view of the registry."""

    database: Database
    blobs: ObjectBlobs
    uploads: Uploads
    versions: Versions
    deletion: Deletion
    garbage: Garbage

    async def send(self, content: bytes, chunks: AsyncIterator[Chunk] | None = None) -> Progress:
        """Upload a file."""
        announced = Announcement("a.json", len(content), digest(content), 0)
        return await self.uploads.receive(CALLER, announced, chunks or whole(content))

    async def create(self, *contents: bytes, model: str = "m") -> Version:
        """Create a version of uploaded files."""
        files = tuple(File(f"{at}.json", digest(content), len(content)) for at, content in enumerate(contents))
        manifest = Manifest(CALLER.tenant, model, Kind.LORA, "", "", "", files, Lineage())
        return await self.versions.create(CALLER, manifest, Replay(IdempotencyKey("t", "CreateVersion", "", b"")))

    async def delete(self, version: Version, *, purge: bool = True) -> None:
        """Delete a version, for good or softly."""
        await self.deletion.delete_version(CALLER, version.model, version.version, Wish(purge=purge))

    async def read(self, content: bytes) -> bytes:
        """What the store holds under a content's digest."""
        return b"".join([piece async for piece in self.blobs.read(digest(content), 0)])

    async def stored(self) -> set[str]:
        """The digests in the store."""
        return {blob.sha256 async for blob in self.blobs.stored()}


async def whole(content: bytes) -> AsyncIterator[Chunk]:
    """A content in one chunk."""
    yield Chunk(offset_bytes=0, data=content)


class Site:
    """One place, and replicas over it."""

    def __init__(self, folder: Path, database_url: str, bucket: str) -> None:
        self._folder = folder
        self._database_url = database_url
        self._bucket = bucket
        self.clock = OffsetClock(time.time)  # running, because stores stamp blobs with the real time

    def blobs(self, name: str = "one") -> ObjectBlobs:
        """The blobs, as a replica opens them; in a folder all have the same one."""
        return open_blobs(self._bucket, self._folder / (name if self._bucket else "blobs"))

    @asynccontextmanager
    async def replica(
        self, name: str = "one", *, blobs: ObjectBlobs | None = None, grace_seconds: float = DAY_SECONDS
    ) -> AsyncIterator[Replica]:
        """Open one more; ``blobs`` may be some that go wrong."""
        opened = blobs or self.blobs(name)
        async with open_database(self._database_url, "services.registry.migrations", turn="registry") as database:
            uploads = Uploads(
                database, opened, self._folder / name / "staging", UploadLimits(1 << 30, 1 << 30), self.clock
            )
            yield Replica(
                database=database,
                blobs=opened,
                uploads=uploads,
                versions=Versions(database, self.clock),
                deletion=Deletion(database, self.clock, Holds(self.clock, 60.0), DAY_SECONDS),
                garbage=Garbage(database, opened, uploads, grace_seconds, self.clock),
            )


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of SQLite with the registry's newest tables, to be copied."""
    file = tmp_path_factory.mktemp("empty") / "registry.db"
    migrate(f"sqlite:///{file}", "registry")
    assert [path.name for path in file.parent.iterdir()] == [file.name], "a log of writes would be lost in a copy"
    return file


@pytest.fixture(params=[FOLDER, BUCKET])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    """An empty place, in both worlds; its tables are there already, which migrations make only once for all tests."""
    if request.param == FOLDER:
        file = Path(shutil.copy(request.getfixturevalue("empty_registry"), tmp_path / "registry.db"))
        return Site(tmp_path, f"sqlite:///{file}", "")
    postgres: Postgres = request.getfixturevalue("postgres")
    return Site(tmp_path, postgres.database("registry"), request.getfixturevalue("bucket"))
