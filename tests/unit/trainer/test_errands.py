"""Errands of jobs: run once each, whatever whoever asks for them knows."""

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from services.chassis.database import open_database
from services.chassis.logs import logger
from services.trainer.errands import Errands
from services.trainer.job import Job, State
from services.trainer.jobs import Jobs
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.trainer.scripted import Bases, left
from tests.unit.trainer.test_jobs import jobs_in, results_in, stored
from tests.unit.trainer.test_runner import moved, to


class Registry:
    """Counts what is published; so many of its first calls meet a broken disk."""

    def __init__(self, broken: int = 0) -> None:
        self.published: list[str] = []
        self.broken = broken
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        if self.broken:
            self.broken -= 1
            raise OSError(errno.EIO, "the disk is broken", str(result))
        if self.meanwhile is not None:
            await self.meanwhile()
        self.published.append(job.job)
        return f"sha256:{len(self.published)}"


async def nothing(job: Job) -> Mapping[str, object]:
    return {}


@asynccontextmanager
async def registering(folder: Path, registry: Registry) -> AsyncIterator[tuple[Jobs, Job, Errands, asyncio.Event]]:
    """A job whose result is there; the event is set after each errand."""
    async with open_database(f"sqlite:///{folder}/t.db", "services.trainer.migrations") as database:
        await stored(database)
        jobs, done = jobs_in(database), asyncio.Event()
        job = await moved(jobs, State.RUNNING, State.REGISTERING)
        left(folder, job)
        errands = Errands(
            jobs,
            registry,
            Bases(),
            results_in(database, folder),
            lineage=nothing,
            pause_after=lambda tries: 0.01,
            done=done.set,
            log=logger("trainer"),
        )
        async with asyncio.timeout(HANG_SECONDS), asyncio.TaskGroup() as group, errands.running(group):
            yield jobs, job, errands, done


@pytest.mark.parametrize("looks", [1, 3])
async def test_a_job_that_was_registered_since_somebody_looked_is_not_registered_again(
    tmp_path: Path, looks: int
) -> None:
    registry = Registry()
    async with registering(tmp_path, registry) as (jobs, job, errands, done):
        for _ in range(looks):
            done.clear()
            # As it was found before the first of them was done.
            errands.see([job], {})
            errands.see([job], {})
            await done.wait()
        found = await jobs.get("acme", job.job)
    assert registry.published == [job.job]
    assert (found.state, found.version) == (State.SUCCEEDED, "sha256:1")


async def test_a_disk_that_cannot_be_read_puts_a_registration_off_and_ends_nothing(tmp_path: Path) -> None:
    registry = Registry(broken=2)
    async with registering(tmp_path, registry) as (jobs, job, errands, done):
        errands.see([job], {})
        await done.wait()
        assert (await jobs.get("acme", job.job)).state is State.SUCCEEDED
    assert registry.published == [job.job]


async def test_a_version_that_was_made_of_a_job_that_trains_again_by_now_does_not_end_it(tmp_path: Path) -> None:
    registry = Registry()
    async with registering(tmp_path, registry) as (jobs, job, errands, done):

        async def trained_again() -> None:
            for state in (State.QUEUED, State.RUNNING):
                await jobs.decide(job, to(state))

        # It takes so long that the result is taken for lost meanwhile.
        registry.meanwhile = trained_again
        errands.see([job], {})
        await done.wait()
        now = await jobs.get("acme", job.job)
    assert (registry.published, now.state, now.version) == ([job.job], State.RUNNING, "")


async def test_a_result_that_is_gone_while_the_registry_is_away_is_tried_no_more(tmp_path: Path) -> None:
    registry = Registry(broken=1_000_000)
    async with registering(tmp_path, registry) as (jobs, job, errands, done):
        errands.see([job], {})
        shutil.rmtree(tmp_path / job.job)
        await done.wait()
        assert (await jobs.get("acme", job.job)).state is State.REGISTERING
