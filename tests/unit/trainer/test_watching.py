"""A watcher hears of events whoever stores them: this trainer, which rings, or another over the same table."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.chassis.database import Database, open_database
from services.trainer.job import Event, Job
from services.trainer.jobs import Jobs
from services.trainer.watching import Bell, follow
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.trainer.test_jobs import jobs_in, queued, stored


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/t.db", "services.trainer.migrations") as opened:
        await stored(opened)
        yield opened


async def followed(
    jobs: Jobs, bell: Bell, job: Job, first: Callable[[], object], *, look_seconds: float
) -> list[Event]:
    """All events of a job; `first` is called once its first one was heard."""
    heard: list[Event] = []
    async with asyncio.timeout(HANG_SECONDS):
        async for event in follow(jobs, bell, "acme", job.job, 0, look_seconds=look_seconds):
            if not heard:
                first()
            heard.append(event)
    return heard


@pytest.mark.parametrize("rings", [True, False], ids=["ours", "another trainer's"])
async def test_a_watcher_hears_the_end_of_a_job_whoever_tells_it(database: Database, rings: bool) -> None:
    bell = Bell()
    jobs = jobs_in(database, bell.ring if rings else lambda _: None)
    job = await queued(jobs)
    under_way: list[asyncio.Task[Job]] = []

    def cancel() -> None:
        under_way.append(asyncio.create_task(jobs.cancel("acme", job.job)))

    # Who rings is heard at once, and not only when it is looked.
    events = await followed(jobs, bell, job, cancel, look_seconds=1000.0 if rings else 0.05)
    assert [event.sequence for event in events] == [1, 2]
    assert events[-1].state.finished
