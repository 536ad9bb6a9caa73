"""The verbs of files over a folder and SQLite, with a clock of the test's."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

from services.chassis.blobs import ObjectBlobs
from services.chassis.database import Database
from services.chassis.idempotency import IdempotencyKey
from services.chassis.streams import Piece, Seal
from services.files.files import Files, Limits, Purpose, Wish
from services.files.garbage import Garbage
from services.files.receiving import Announced, Receiving
from services.files.responses import Responses
from tests.adapters import digest

HOUR = 3600.0
NOBODY = IdempotencyKey("t", "CreateFile", "", b"")


class Shop:
    """Everything but batches."""

    def __init__(self, database: Database, blobs: ObjectBlobs, folder: Path, tenant_bytes: int = 1000) -> None:
        self.now = 1_800_000_000.0
        self._ids = itertools.count()
        self.database = database
        self.blobs = blobs
        self.folder = folder
        self.files = Files(database, blobs, Limits(100, tenant_bytes), lambda: self.now, self.new_id)
        self.receiving = Receiving(self.files, blobs, folder / "staging", tenant_bytes // 2)
        self.responses = Responses(database, 100, lambda: self.now)

    def new_id(self) -> str:
        return f"{next(self._ids):032}"

    async def store(
        self, content: bytes, seconds: float | None = None, purpose: Purpose = Purpose.USER_DATA, tenant: str = "t"
    ) -> str:
        async def parts() -> AsyncIterator[Announced | Piece | Seal]:
            yield Announced(Wish("f", purpose, expires_after_seconds=seconds), NOBODY)
            yield Piece(0, content)
            yield Seal(len(content), digest(content))

        return (await self.receiving.receive(tenant, parts())).file

    async def sweep(self, grace_seconds: float = -10 * 365 * 24 * HOUR) -> dict[str, int]:
        """With a grace so long in the past that a blob of this moment counts as old."""
        garbage = Garbage(self.database, self.blobs, self.receiving, grace_seconds, lambda: self.now)
        return await garbage.sweep()
