"""What the runner clears away: the folders of jobs that ended while it looked elsewhere, or did not run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.chassis.database import open_database
from services.chassis.logs import logger
from services.trainer.job import Job, Move, State
from services.trainer.jobs import Jobs
from services.trainer.runner import Limits, Runner
from services.trainer.work import Work
from tests.stack import eventually
from tests.unit.trainer.test_jobs import jobs_in, queued, stored


class Nobody:
    """Takes no result: the jobs here bring none to the registry."""

    async def publish(self, job: Job, result: Path) -> str:
        raise AssertionError(f"{job.job} is published")


class Everywhere:
    """Bases that are all here."""

    def here(self, job: Job) -> bool:
        return True

    async def fetch(self, job: Job) -> None:
        raise AssertionError(f"the base of {job.job} is fetched")


@asynccontextmanager
async def never(job: Job) -> AsyncIterator[Work]:
    raise AssertionError(f"{job.job} is trained")
    yield


@asynccontextmanager
async def running(jobs: Jobs, folder: Path, listeners: list[Callable[[str], None]]) -> AsyncIterator[None]:
    """A runner at work."""
    limits = Limits(max_crashes=4, restart_seconds=0.1, max_restart_seconds=1, stop_seconds=1)
    runner = Runner(jobs, Nobody(), folder=folder, bases=Everywhere(), work=never, limits=limits, log=logger("trainer"))
    listeners.append(runner.wake)
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
def listeners() -> list[Callable[[str], None]]:
    """Who hears of changes of jobs."""
    return []


@pytest.fixture
async def jobs(tmp_path: Path, listeners: list[Callable[[str], None]]) -> AsyncIterator[Jobs]:
    """The verbs, over a database with one dataset."""

    def changed(job: str) -> None:
        for listener in listeners:
            listener(job)

    async with open_database(f"sqlite:///{tmp_path}/t.db", "services.trainer.migrations") as database:
        await stored(database)
        yield jobs_in(database, changed)


def to(state: State) -> Callable[[Job], Move]:
    return lambda _: Move(state, "moved")


async def moved(jobs: Jobs, *states: State) -> Job:
    """A queued job, moved along `states`."""
    job = await queued(jobs)
    for state in states:
        job = await jobs.decide(job, to(state))
    return job


def held(folder: Path, *jobs: Job) -> None:
    """Give each job what a training process leaves."""
    for job in jobs:
        kept = folder / job.job / "checkpoints" / "step-00000001"
        kept.mkdir(parents=True)
        (kept / "state.safetensors").write_bytes(b"bytes")


async def until_left(folder: Path, *jobs: Job) -> None:
    """Wait until the folders of these jobs, and no others, are there."""
    names = {job.job for job in jobs}
    await asyncio.to_thread(eventually, lambda: {path.name for path in folder.iterdir()} == names, f"{names} are left")


async def test_a_trainer_that_starts_clears_what_earlier_ones_left(
    jobs: Jobs, listeners: list[Callable[[str], None]], tmp_path: Path
) -> None:
    done = await moved(jobs, State.RUNNING, State.REGISTERING, State.SUCCEEDED)
    failed = await moved(jobs, State.RUNNING, State.FAILED)
    ending = await moved(jobs, State.RUNNING, State.CANCELLING)
    stopping = await moved(jobs, State.RUNNING, State.PAUSING)
    paused = await moved(jobs, State.PAUSED)
    held(tmp_path / "jobs", done, failed, ending, stopping, paused)
    async with running(jobs, tmp_path / "jobs", listeners):
        await until_left(tmp_path / "jobs", stopping, paused)
    assert (await jobs.get("acme", ending.job)).state is State.CANCELLED
    assert (await jobs.get("acme", stopping.job)).state is State.PAUSED


async def test_a_job_that_is_cancelled_while_it_is_paused_leaves_nothing(
    jobs: Jobs, listeners: list[Callable[[str], None]], tmp_path: Path
) -> None:
    one, other = await moved(jobs, State.PAUSED), await moved(jobs, State.PAUSED)
    held(tmp_path / "jobs", one, other)
    async with running(jobs, tmp_path / "jobs", listeners):
        await jobs.cancel("acme", one.job)
        await until_left(tmp_path / "jobs", other)
