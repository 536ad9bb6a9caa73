"""Datasets to upload, and the verbs over stores of their own to upload them to."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.chassis.database import open_database
from services.chassis.errors import Failure
from services.chassis.streams import Piece
from services.trainer.data.checker import Checker, Say
from services.trainer.data.checking import Counted, check
from services.trainer.data.dataset_rows import Incoming
from services.trainer.data.datasets import Datasets
from services.trainer.data.examples import ChatEncoder
from services.trainer.data.rows import Format
from tests.unit.trainer.tiny import rows_text
from tests.unit.trainer.verbs import datasets_over, files_over

CONTENT = rows_text().encode()
INCOMING = Incoming("", "Rows.JSONL", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), 0, None)
DAY = 24 * 3600.0


@asynccontextmanager
async def opened(
    folder: Path,
    checker: Checker,
    *,
    max_bytes: int = len(CONTENT),
    blocking: Callable[..., Awaitable[object]] = asyncio.to_thread,
    url: str = "",
    database_url: str = "",
) -> AsyncIterator[Datasets]:
    """The verbs over a database in `folder` or on a server, and blobs there or in a bucket."""
    database_url = database_url or f"sqlite:///{folder}/trainer.db"
    async with open_database(database_url, "services.trainer.migrations") as database:
        files = files_over(database, folder, blocking, url)
        await files.move_old()
        yield datasets_over(database, folder, checker, max_bytes=max_bytes, blocking=blocking, files=files)


class Inline(Checker):
    """Counts rows here: for tests of what becomes of a dataset that was checked."""

    async def count(self, tenant: str, path: Path, expected: Format | None, say: Say = lambda _: None) -> Counted:
        """As it is done in a child."""
        with path.open("rb") as file:
            found = check(file, ChatEncoder.load(self._base_folder), expected, lambda problem: say([problem]))
        assert isinstance(found, Counted)
        return found


async def whole() -> AsyncIterator[Piece]:
    yield Piece(0, CONTENT)


async def nothing() -> AsyncIterator[Piece]:
    raise AssertionError("a chunk was asked for")
    yield Piece(0, b"")


async def refused(call: Awaitable[object]) -> Failure:
    with pytest.raises(Failure) as caught:
        await call
    return caught.value


def files(folder: Path) -> dict[str, bytes]:
    """What lies under `folder`, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def aged(path: Path) -> Path:
    """Make `path` look as if nobody touched it for two days."""
    os.utime(path, (time.time() - 2 * DAY,) * 2)
    return path


def shortened() -> tuple[Incoming, Callable[[], AsyncIterator[Piece]]]:
    """An upload under the same file name whose content is another."""
    content = b"".join(CONTENT.splitlines(keepends=True)[:-1])
    incoming = replace(INCOMING, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())

    async def chunks() -> AsyncIterator[Piece]:
        yield Piece(0, content)

    return incoming, chunks
