"""The verbs on datasets over a folder, as the service has them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from services.chassis.blobs import open_blobs
from services.chassis.database import Database
from services.trainer.data.checker import Checker
from services.trainer.data.dataset_files import DatasetFiles
from services.trainer.data.datasets import Datasets
from services.trainer.data.problem_lists import ProblemLists


@dataclass(frozen=True, slots=True)
class OneBase:
    """The deployment's base, whatever it is called."""

    path: Path

    @asynccontextmanager
    async def folder(self, name: str) -> AsyncIterator[tuple[str, Path]]:
        """Its name and folder."""
        yield name or "tiny", self.path


def files_over(
    database: Database, folder: Path, blocking: Callable[..., Awaitable[object]] = asyncio.to_thread, url: str = ""
) -> DatasetFiles:
    """The bytes in `folder`, or in the bucket at `url`."""
    return DatasetFiles(
        open_blobs(url, folder / "stored"),
        database,
        folder=folder / "stored",
        uploads=folder / "uploads",
        old=folder / "old",
        blocking=blocking,
    )


def datasets_over(
    database: Database,
    folder: Path,
    checker: Checker,
    *,
    max_bytes: int = 1,
    blocking: Callable[..., Awaitable[object]] = asyncio.to_thread,
    files: DatasetFiles | None = None,
) -> Datasets:
    """The verbs."""
    return Datasets(
        database,
        files or files_over(database, folder, blocking),
        ProblemLists(folder / "reports"),
        OneBase(checker._base_folder),
        max_bytes=max_bytes,
        checker=checker,
        blocking=blocking,
        now=lambda: datetime.now(UTC),
    )
