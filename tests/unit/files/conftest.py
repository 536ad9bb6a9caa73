"""One shop a test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chassis.blobs import open_blobs
from services.chassis.database import open_database
from tests.unit.files.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    """Over SQLite and a folder."""
    folder = tmp_path / "blobs"
    async with open_database(f"sqlite:///{tmp_path}/files.db", "services.files.migrations", turn="files") as database:
        yield Shop(database, open_blobs("", folder), folder)
