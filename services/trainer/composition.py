"""Put the trainer together: database, base, verbs, runner.

Invariant: the runner ends before the database closes, so that what a stopping job
reports is still stored.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.chassis import models, resources
from services.chassis.database import open_database
from services.chassis.errors import Failure
from services.chassis.files import require_space
from services.chassis.full_models import FullModels
from services.chassis.runtime import Runtime
from services.trainer.bases import Bases, Registry
from services.trainer.config import TrainerSettings
from services.trainer.data.checker import Checker
from services.trainer.data.datasets import Datasets
from services.trainer.job import Job
from services.trainer.jobs import Jobs
from services.trainer.publisher import Publisher
from services.trainer.runner import Limits, Runner
from services.trainer.watching import Bell
from services.trainer.work import Work


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the service can do."""

    datasets: Datasets
    jobs: Jobs
    bell: Bell
    bases: Bases
    jobs_dir: Path


@asynccontextmanager
async def open_verbs(runtime: Runtime, publisher: Publisher, registry: Registry) -> AsyncIterator[Verbs]:
    """Open what the service stands on, train in the background, close."""
    settings = runtime.settings
    assert isinstance(settings, TrainerSettings)
    bases = await _bases(runtime, settings, registry)
    bell = Bell()
    async with open_database(settings.database_url, "services.trainer.migrations") as database:
        datasets = Datasets(
            database,
            stored=settings.datasets_dir,
            uploads=settings.uploads_dir,
            max_bytes=settings.max_dataset_bytes,
            checker=Checker(bases.default.path),
            blocking=runtime.blocking,
            now=runtime.clock.now,
        )
        runner: Runner

        def changed(job: str) -> None:
            bell.ring(job)
            runner.wake()

        jobs = Jobs(
            database,
            now=runtime.clock.now,
            new_id=runtime.new_id,
            # A job that cannot write a checkpoint is better refused than lost.
            admit=lambda: runtime.blocking(require_space, settings.jobs_dir, 0, "the training jobs"),
            changed=changed,
        )

        def work(job: Job) -> AbstractAsyncContextManager[Work]:
            return bases.work(job, str(datasets.path(job.tenant, job.order.dataset_digest)))

        runner = Runner(
            jobs,
            publisher,
            folder=settings.jobs_dir,
            bases=bases,
            work=work,
            limits=Limits(
                settings.max_crashes,
                settings.restart_seconds,
                settings.max_restart_seconds,
                settings.stop_seconds,
            ),
            log=runtime.log,
        )
        running = runtime.spawn(runner.run(), name="runner")
        runtime.spawn(_sweep(runtime, datasets, settings), name="sweep")
        try:
            yield Verbs(datasets, jobs, bell, bases, settings.jobs_dir)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def _bases(runtime: Runtime, settings: TrainerSettings, registry: Registry) -> Bases:
    share = resources.shares()[resources.Role.TRAINER]
    cache = models.ModelSettings()
    return Bases(
        [await runtime.blocking(models.resolve, uri) for uri in settings.base_uris],
        registry,
        FullModels(cache.models_dir, max_bytes=cache.model_cache_bytes),
        threads=settings.threads or share.threads,
        data_dir=settings.data_dir,
        memory_bytes=settings.memory_bytes or share.memory_bytes,
    )


async def _sweep(runtime: Runtime, datasets: Datasets, settings: TrainerSettings) -> None:
    """Clear what nobody lists, now and every so often.  A full disk must not stop the service."""
    while True:
        try:
            gone = await datasets.sweep(runtime.clock.now().timestamp() - settings.unused_upload_seconds)
            runtime.log.info("swept", files=gone)
        except (OSError, Failure) as error:
            runtime.log.warning("sweep_failed", exc_info=error)
        await asyncio.sleep(settings.sweep_seconds)
