"""All verbs of files over opened leaves: the one place that knows how they hang together."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass

from services.chassis.blobs import Blobs, open_blobs
from services.chassis.context import RequestContext
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure
from services.chassis.runtime import Runtime
from services.files.batches.asking import Door
from services.files.batches.batch import Creator
from services.files.batches.batches import Batches
from services.files.batches.outputs import Outputs
from services.files.batches.pace import Pace
from services.files.batches.runner import Clocks, Means, Measures, Runner
from services.files.batches.runs import Runs, holder_of
from services.files.config import FilesSettings
from services.files.door import GatewayDoor
from services.files.files import Files, Limits
from services.files.garbage import Garbage
from services.files.receiving import Receiving
from services.files.responses import Responses

# To take a batch up again reads its input, of up to 200 MiB, so batches that only wait do not take turns more often.
_STAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the service can do."""

    files: Files
    receiving: Receiving
    responses: Responses
    batches: Batches


@asynccontextmanager
async def open_verbs(runtime: Runtime) -> AsyncIterator[Verbs]:
    """Open database and blobs, start the sweep, close all in reverse."""
    settings = runtime.settings
    assert isinstance(settings, FilesSettings)
    folder = settings.service_dir / "blobs"
    blobs = open_blobs(settings.blobs_url, folder)

    def now() -> float:
        return runtime.clock.now().timestamp()

    async with (
        open_database(settings.database_url, "services.files.migrations", turn="files") as database,
        GatewayDoor(settings.gateway_url, runtime.log, settings.gateway_ca_file) as door,
    ):
        limits = Limits(settings.max_files_per_tenant, settings.max_file_bytes_per_tenant)
        files = Files(database, blobs, limits, now, runtime.new_id)
        receiving = Receiving(files, blobs, folder / "staging", settings.max_file_bytes)
        garbage = Garbage(database, blobs, receiving, settings.unused_blob_seconds, now)
        runtime.spawn(_sweep(runtime, garbage, settings.sweep_seconds), "sweep")
        runner = _runner(runtime, settings, database, files, blobs, door)
        runtime.spawn(runner.run(), "batches")
        most = settings.max_unended_batches_per_tenant
        batches = Batches(database, files, most, now, runtime.new_id, runner.wake)
        yield Verbs(files, receiving, Responses(database, settings.max_response_bytes_per_tenant, now), batches)


def _runner(
    runtime: Runtime, settings: FilesSettings, database: Database, files: Files, blobs: Blobs, door: Door
) -> Runner:
    def now() -> float:
        return runtime.clock.now().timestamp()

    def acting_for(tenant: str, creator: Creator) -> AbstractAsyncContextManager[RequestContext]:
        return runtime.acting_for(tenant, on_behalf_of=creator.principal, rights=creator.rights)

    lease, at_once = settings.batch_lease_seconds, settings.batch_requests_at_once
    runs = Runs(database, holder_of(settings.service_dir), lease, settings.batches_at_once_per_tenant, now)
    means = Means(
        runs=runs,
        outputs=Outputs(runs, files, blobs, settings.service_dir / "blobs" / "staging"),
        blobs=blobs,
        door=door,
        pace=Pace(at_once, runtime.clock.monotonic),
        acting_for=acting_for,
    )
    # Two renewals may fail before a lease lapses.
    measures = Measures(settings.batches_at_once, at_once, settings.batch_look_seconds, lease / 3, _STAY_SECONDS)
    return Runner(means, measures, Clocks(now, runtime.clock.monotonic), runtime.log)


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
