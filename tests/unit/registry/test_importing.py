"""Imports that run side by side never write one another's files."""

import asyncio
import io
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, BinaryIO

from services.chassis.database import open_database
from services.chassis.idempotency import IdempotencyKey
from services.registry.bases import ResolvedBases
from services.registry.blobs import open_blobs
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
    """A file of which nobody gets a byte before the other reader is there too."""

    def __init__(self, content: bytes, together: threading.Barrier) -> None:
        super().__init__(content)
        self._together = together

    def read(self, size: int | None = -1) -> bytes:
        if not self.tell():
            self._together.wait(60)
        return super().read(size)


class Twins:
    """A source that two imports read in step, file by file."""

    def __init__(self) -> None:
        self._together = threading.Barrier(2)
        self.found = Found("file:/twins", {name: len(content) for name, content in FILES.items()})

    def require_known(self, uri: str) -> None:
        """Every URI leads here."""

    @asynccontextmanager
    async def opened(self, uri: str, scratch: Path) -> AsyncIterator["Twins"]:
        """Itself."""
        yield self

    def present(self) -> Mapping[str, Path]:
        """Nothing can be looked at before it is read."""
        return {}

    async def fetched(self) -> AsyncIterator[tuple[str, BinaryIO]]:
        """Each file, at its beginning."""
        for name, content in FILES.items():
            yield name, InStep(content, self._together)


async def test_the_same_source_is_imported_into_two_models_side_by_side(tmp_path: Path) -> None:
    beside, source = tmp_path / "blobs", Twins()
    blobs = open_blobs("", beside)
    url = f"sqlite:///{tmp_path}/r.db"
    async with open_database(url, "services.registry.migrations") as database, Works(60) as works:
        uploads = Uploads(database, blobs, beside / "staging", UploadLimits(1 << 30), time.time)
        versions, verification = Versions(database, time.time), Verification(blobs, timeout_seconds=60)
        publishing = Publishing(versions, verification, ResolvedBases([BASE_DIGEST]))
        sources: Any = source
        importing = Importing(sources, uploads, verification, publishing, versions, works, beside / "imports")
        asked = [
            importing.run(CALLER, "file:/twins", model, Replay(IdempotencyKey("t", "ImportModel", model, b"")))
            for model in ("one", "two")
        ]
        made = await asyncio.gather(*asked)
        for version in made:
            held = {file.filename: file.sha256 for file in version.manifest.files}
            assert held == {name: digest(content) for name, content in FILES.items()}
        for content in FILES.values():
            assert b"".join([piece async for piece in blobs.read(digest(content), 0)]) == content
    assert not list((beside / "imports").iterdir())
