"""Put the trainer together: database, base, verbs, runner.

Invariant: the runner ends before the database closes, so that what a stopping job
reports is still stored.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from services.chassis import models, process_identity, resources, tasks
from services.chassis.blobs import open_blobs
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure
from services.chassis.files import require_space
from services.chassis.full_models import FullModels
from services.chassis.logs import Log
from services.chassis.runtime import Runtime
from services.trainer.bases import Bases, Registry
from services.trainer.config import ExecutorKind, TrainerSettings
from services.trainer.data.checker import Checker
from services.trainer.data.dataset_files import DatasetFiles
from services.trainer.data.datasets import Datasets
from services.trainer.data.problem_lists import ProblemLists
from services.trainer.errands import Errands, Prerequisites
from services.trainer.estimates import Estimates
from services.trainer.executors.cluster.connection import connected
from services.trainer.executors.executor import Executor
from services.trainer.executors.local import LocalExecutor, Machine
from services.trainer.executors.ray import RayExecutor
from services.trainer.job import Job
from services.trainer.jobs import Jobs
from services.trainer.leases import Leases
from services.trainer.lost_results import Results
from services.trainer.meter import Meter
from services.trainer.publications import Places, Publications
from services.trainer.publisher import Publisher
from services.trainer.recipes.filling import lineage as recipe_lineage
from services.trainer.remains import Remains, Retention
from services.trainer.reports import Reports
from services.trainer.rough_speed import Rough, measure_with
from services.trainer.runner import Runner
from services.trainer.starts import Adapters, Starts
from services.trainer.sweeping.sweeps import Sweeps
from services.trainer.terms import Granted, Limits, Wake
from services.trainer.watching import Bell
from services.trainer.work import Work


@dataclass(frozen=True, slots=True)
class Verbs:
    """What the service can do."""

    datasets: Datasets
    jobs: Jobs
    sweeps: Sweeps
    bell: Bell
    bases: Bases
    starts: Starts
    estimates: Estimates
    jobs_dir: Path
    runner: Runner
    publications: Publications


@dataclass(frozen=True, slots=True)
class _Ground:
    """What all parts stand on, and whom they tell."""

    runtime: Runtime
    settings: TrainerSettings
    database: Database
    bell: Bell
    wake: Wake

    def seconds(self) -> float:
        """The time, as seconds since 1970."""
        return self.runtime.clock.now().timestamp()

    def changed(self, job: str) -> None:
        """Tell watchers and the scheduler that a job has changed."""
        self.bell.ring(job)
        self.wake()


@asynccontextmanager
async def open_verbs(runtime: Runtime, publisher: Publisher, registry: Adapters) -> AsyncIterator[Verbs]:
    """Open what the service stands on, train in the background, close."""
    settings = runtime.settings
    assert isinstance(settings, TrainerSettings)
    bases = await _bases(runtime, settings, registry)
    owner = process_identity.own()
    async with (
        _executor(settings, owner, runtime.log) as executor,
        open_database(settings.database_url, "services.trainer.migrations") as database,
    ):
        ground = _Ground(runtime, settings, database, Bell(), Wake())
        datasets = await _datasets(ground, bases)
        meter = Meter(runtime.metrics)
        jobs = _jobs(ground, meter)
        sweeps = _sweeps(ground, jobs)
        starts = Starts(registry, settings.jobs_dir)
        needed = Prerequisites(bases, starts)
        publications = _publications(ground, jobs, publisher, bases)
        runner = Runner(
            jobs,
            Leases(database, owner, settings.lease_seconds, now=runtime.clock.now, changed=ground.changed),
            _reports(ground),
            executor,
            _errands(ground, jobs, sweeps, publisher, needed),
            sweeps,
            _remains(ground, jobs),
            folder=settings.jobs_dir,
            needed=needed,
            work=partial(_work, datasets, bases, starts),
            limits=_limits(settings),
            wake=ground.wake,
            granted=Granted(bases.threads, settings.allowance_by_tenant, settings.policy),
            meter=meter,
            log=runtime.log,
        )
        estimates = Estimates(database, jobs, Rough(measure_with(bases.threads)), now=ground.seconds)
        running = runtime.spawn(runner.run(), name="runner")
        runtime.spawn(_sweep(ground, datasets), name="sweep")
        try:
            async with publications.at_work():
                yield Verbs(
                    datasets,
                    jobs,
                    sweeps,
                    ground.bell,
                    bases,
                    starts,
                    estimates,
                    settings.jobs_dir,
                    runner,
                    publications,
                )
        finally:
            await tasks.end(running)


async def _bases(runtime: Runtime, settings: TrainerSettings, registry: Registry) -> Bases:
    share = resources.shares()[resources.Role.TRAINER]
    cache = models.ModelSettings()
    return Bases(
        [await runtime.blocking(models.resolve, uri) for uri in settings.base_uris],
        registry,
        FullModels(cache.models_dir, max_bytes=cache.model_cache_bytes),
        threads=settings.threads or share.threads,
        data_dir=settings.data_dir,
        serving_rank=settings.serving_rank,
    )


@asynccontextmanager
async def _executor(settings: TrainerSettings, owner: str, log: Log) -> AsyncIterator[Executor]:
    """Where jobs train.  Raises NoCluster."""
    machine = _machine(settings, owner)
    if settings.executor is ExecutorKind.LOCAL:
        yield LocalExecutor(settings.workers_dir, machine, log)
        return
    # What each machine of a cluster has is for it to say.
    common = replace(machine, memory_bytes=settings.memory_bytes)
    async with connected(settings.ray_address) as connection:
        yield RayExecutor(connection, settings.workers_dir, common, log)


def _machine(settings: TrainerSettings, owner: str) -> Machine:
    share = resources.shares()[resources.Role.TRAINER]
    return Machine(
        node=owner.partition("/")[0],
        replica=owner,
        memory_bytes=settings.memory_bytes or share.memory_bytes,
        cores=share.threads,
        stop_seconds=settings.stop_seconds,
        idle_seconds=settings.idle_seconds,
        data_dir=settings.data_dir,
    )


async def _datasets(ground: _Ground, bases: Bases) -> Datasets:
    runtime, settings = ground.runtime, ground.settings
    files = DatasetFiles(
        open_blobs(settings.blobs_url, settings.blobs_dir),
        ground.database,
        folder=settings.blobs_dir,
        uploads=settings.uploads_dir,
        old=settings.datasets_dir,
        blocking=runtime.blocking,
    )
    if moved := await files.move_old():
        runtime.log.info("datasets_moved", datasets=moved)
    return Datasets(
        ground.database,
        files,
        ProblemLists(settings.reports_dir),
        bases,
        max_bytes=settings.max_dataset_bytes,
        checker=Checker(bases.default.path),
        blocking=runtime.blocking,
        now=runtime.clock.now,
    )


def _jobs(ground: _Ground, meter: Meter) -> Jobs:
    runtime, settings = ground.runtime, ground.settings
    return Jobs(
        ground.database,
        now=runtime.clock.now,
        new_id=runtime.new_id,
        # A job that cannot write a checkpoint is better refused than lost.
        admit=lambda: runtime.blocking(require_space, settings.jobs_dir, 0, "the training jobs"),
        most_unfinished=settings.max_unfinished_jobs_per_tenant,
        changed=ground.changed,
        ended=meter.ended,
    )


def _sweeps(ground: _Ground, jobs: Jobs) -> Sweeps:
    return Sweeps(
        ground.database,
        now=ground.runtime.clock.now,
        new_id=ground.runtime.new_id,
        admit=jobs.admit,
        most_unfinished=jobs.most_unfinished,
        changed=ground.changed,
    )


def _publications(ground: _Ground, jobs: Jobs, publisher: Publisher, bases: Bases) -> Publications:
    return Publications(
        ground.database,
        jobs,
        publisher,
        bases,
        Places(ground.settings.jobs_dir, ground.settings.publications_dir),
        lineage=lambda job: recipe_lineage(job.order.recipe),
        blocking=ground.runtime.blocking,
        new_id=ground.runtime.new_id,
        log=ground.runtime.log,
    )


def _reports(ground: _Ground) -> Reports:
    policy = ground.settings.policy
    return Reports(
        ground.database,
        half_life_seconds=policy.half_life_seconds,
        window_seconds=policy.window_seconds,
        now=ground.runtime.clock.now,
        # Watchers alone: a step changes nothing about the queue.
        changed=ground.bell.ring,
    )


def _errands(ground: _Ground, jobs: Jobs, sweeps: Sweeps, publisher: Publisher, needed: Prerequisites) -> Errands:
    settings = ground.settings

    async def lineage(job: Job) -> dict[str, object]:
        return {**recipe_lineage(job.order.recipe), **await sweeps.lineage(job)}

    results = Results(
        ground.database,
        settings.jobs_dir,
        settings.lost_result_seconds,
        now=ground.runtime.clock.now,
        changed=ground.changed,
    )
    return Errands(
        jobs,
        publisher,
        needed,
        results,
        lineage=lineage,
        pause_after=_limits(settings).pause_after,
        done=ground.wake,
        log=ground.runtime.log,
    )


def _remains(ground: _Ground, jobs: Jobs) -> Remains:
    settings = ground.settings
    retention = Retention(settings.ended_checkpoint_seconds, settings.ended_checkpoint_bytes)
    return Remains(jobs, settings.jobs_dir, retention, now=ground.seconds)


def _limits(settings: TrainerSettings) -> Limits:
    return Limits(settings.max_crashes, settings.restart_seconds, settings.max_restart_seconds)


@asynccontextmanager
async def _work(datasets: Datasets, bases: Bases, starts: Starts, job: Job) -> AsyncIterator[Work]:
    """What a job's process is handed, held while it trains."""
    digests = (job.order.dataset_digest, job.order.validation_dataset_digest)
    training, validation = [str(await datasets.file(digest)) if digest else "" for digest in digests]
    async with bases.work(job, training, validation, starts.path(job)) as wanted:
        yield wanted


async def _sweep(ground: _Ground, datasets: Datasets) -> None:
    """Clear what nobody lists, now and every so often.  A full disk must not stop the service."""
    log, settings = ground.runtime.log, ground.settings
    while True:
        try:
            gone = await datasets.sweep(ground.seconds() - settings.unused_upload_seconds)
            log.info("swept", files=gone)
        except (OSError, Failure) as error:
            log.warning("sweep_failed", exc_info=error)
        await asyncio.sleep(settings.sweep_seconds)
