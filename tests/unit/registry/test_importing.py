"""Imports that run side by side never write one another's files."""

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

from services.chassis.blobs import ObjectBlobs, open_blobs
from services.chassis.database import open_database
from services.chassis.idempotency import IdempotencyKey
from services.registry.bases import ResolvedBases
from services.registry.callers import Caller
from services.registry.import_sources import Found
from services.registry.importing import Importing
from services.registry.publishing import Publishing
from services.registry.replay import Replay
from services.registry.uploads import UploadLimits, Uploads
from services.registry.verification import Verification
from services.registry.versions import Versions
from services.registry.works import Works
from tests.adapters import BASE_DIGEST, digest
from tests.tiny_model import TinyModel

CALLER = Caller("t", "p")
FILES = TinyModel(seed=31, shards=2).files()


class InStep(io.BytesIO):
    """A file of which nobody gets a byte before every reader is there."""

    def __init__(self, content: bytes, together: threading.Barrier) -> None:
        super().__init__(content)
        self._together = together

    def read(self, size: int | None = -1) -> bytes:
        if not self.tell():
            self._together.wait(60)
        return super().read(size)


class Twins:
    """A source that so many imports read in step, file by file."""

    def __init__(self, readers: int) -> None:
        self._together = threading.Barrier(readers)
        self.opens = 0
        self.found = Found("file:/twins", {name: len(content) for name, content in FILES.items()})

    def require_known(self, uri: str) -> None:
        """Every URI leads here."""

    @asynccontextmanager
    async def opened(self, uri: str, scratch: Path) -> AsyncIterator["Twins"]:
        """Itself."""
        self.opens += 1
        yield self

    def present(self) -> Mapping[str, Path]:
        """Nothing can be looked at before it is read."""
        return {}

    async def fetched(self) -> AsyncIterator[tuple[str, BinaryIO]]:
        """Each file, at its beginning."""
        for name, content in FILES.items():
            yield name, InStep(content, self._together)


@asynccontextmanager
async def importing(folder: Path, source: Any) -> AsyncIterator[tuple[Importing, ObjectBlobs]]:
    """The verb over a source, and where its files end."""
    beside = folder / "blobs"
    blobs, url = open_blobs("", beside), f"sqlite:///{folder}/r.db"
    async with open_database(url, "services.registry.migrations") as database, Works(60) as works:
        uploads = Uploads(database, blobs, beside / "staging", UploadLimits(1 << 30, 1 << 30), time.time)
        versions, verification = Versions(database, time.time), Verification(blobs, timeout_seconds=60)
        publishing = Publishing(versions, verification, ResolvedBases([BASE_DIGEST]))
        verb = Importing(source, uploads, verification, publishing, versions, works, beside / "imports")
        yield verb, blobs


def asking(request_id: str) -> Replay:
    return Replay(IdempotencyKey("t", "ImportModel", request_id, b""))


async def test_the_same_source_is_imported_into_two_models_side_by_side(tmp_path: Path) -> None:
    async with importing(tmp_path, Twins(readers=2)) as (verb, blobs):
        asked = [verb.run(CALLER, "file:/twins", model, asking(model)) for model in ("one", "two")]
        for version in await asyncio.gather(*asked):
            held = {file.filename: file.sha256 for file in version.manifest.files}
            assert held == {name: digest(content) for name, content in FILES.items()}
        for content in FILES.values():
            assert b"".join([piece async for piece in blobs.read(digest(content), 0)]) == content
    assert not list((tmp_path / "blobs" / "imports").iterdir())


async def test_two_callers_that_import_the_same_into_one_model_have_it_read_once(tmp_path: Path) -> None:
    source = Twins(readers=1)
    async with importing(tmp_path, source) as (verb, _):
        asked = [verb.run(CALLER, "file:/twins", "one", asking(request_id)) for request_id in ("first", "second")]
        versions = await asyncio.gather(*asked)
        assert len({version.version for version in versions}) == 1
        assert source.opens == 1
        # Each is the answer of its own request from then on.
        for request_id in ("first", "second"):
            again = await verb.run(CALLER, "file:/twins", "one", asking(request_id))
            assert again.version == versions[0].version
        assert source.opens == 1
