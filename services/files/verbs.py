"""All verbs of files over opened leaves: the one place that knows how they hang together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chassis.blobs import open_blobs
from services.chassis.database import open_database
from services.chassis.errors import Failure
from services.chassis.runtime import Runtime
from services.files.config import FilesSettings
from services.files.files import Files, Limits
from services.files.garbage import Garbage
from services.files.receiving import Receiving
from services.files.responses import Responses


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the service can do."""

    files: Files
    receiving: Receiving
    responses: Responses


@asynccontextmanager
async def open_verbs(runtime: Runtime) -> AsyncIterator[Verbs]:
    """Open database and blobs, start the sweep, close all in reverse."""
    settings = runtime.settings
    assert isinstance(settings, FilesSettings)
    folder = settings.service_dir / "blobs"
    blobs = open_blobs(settings.blobs_url, folder)

    def now() -> float:
        return runtime.clock.now().timestamp()

    async with open_database(settings.database_url, "services.files.migrations", turn="files") as database:
        limits = Limits(settings.max_files_per_tenant, settings.max_file_bytes_per_tenant)
        files = Files(database, blobs, limits, now, runtime.new_id)
        receiving = Receiving(files, blobs, folder / "staging", settings.max_file_bytes)
        garbage = Garbage(database, blobs, receiving, settings.unused_blob_seconds, now)
        runtime.spawn(_sweep(runtime, garbage, settings.sweep_seconds), "sweep")
        yield Verbs(files, receiving, Responses(database, settings.max_response_bytes_per_tenant, now))


async def _sweep(runtime: Runtime, garbage: Garbage, every_seconds: float) -> None:
    """Clear what nobody needs, now and every so often.

    Neither a full disk nor a database that is away for a moment may stop the service: the next sweep goes on.
    """
    while True:
        try:
            runtime.log.info("swept", **await garbage.sweep())
        except (OSError, Failure) as error:
            runtime.log.warning("sweep_failed", exc_info=error)
        await asyncio.sleep(every_seconds)
