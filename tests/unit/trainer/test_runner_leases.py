"""Leases of the runner's jobs: kept while a trainer is held up, and given up with the process once another trainer has the job."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import update

from services.trainer.job import Progress, State
from services.trainer.store import JobRow
from services.trainer.work import Line, Said
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.trainer.scripted import World, until_left
from tests.unit.trainer.test_jobs import queued


async def test_a_job_trains_under_a_lease_and_what_it_needs_stays_until_it_leaves(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        assert world.holding == [job.job]
        assert world.executor.started[job.job].epoch == 1
        world.executor.says(job.job, Line(Said.STEP, Progress(1, 2, 10)), Line(Said.DONE))
        done = await world.until_state(job, State.REGISTERING)
        await world.until(lambda: not world.holding, "what it needed was let go")
    assert (done.progress.step, done.lease.owner) == (1, "")


async def test_a_trainer_that_was_held_up_keeps_the_jobs_that_nobody_took(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, renewed, renew = await queued(world.jobs), asyncio.Event(), world.leases.renew

    async def told() -> None:
        await renew()
        renewed.set()

    monkeypatch.setattr(world.leases, "renew", told)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        past = update(JobRow).values(lease_expires_at=1.0)
        await world.database.write(lambda session: session.execute(past))
        async with asyncio.timeout(HANG_SECONDS):
            await renewed.wait()
        now = await world.jobs.get("acme", job.job)
    assert (now.lease.epoch, now.attempts) == (1, 1)
    assert ("drop", job.job) not in world.executor.asked


@pytest.mark.parametrize(
    "fate",
    [
        {"lease_owner": "elsewhere/1/1.00", "lease_epoch": 2},
        {"lease_owner": "", "state": State.CANCELLED.value},
        {"lease_owner": "", "state": State.PAUSED.value},
    ],
    ids=["taken", "ended", "paused"],
)
async def test_a_job_that_another_trainer_settled_meanwhile_is_let_go_of_though_its_process_is_silent(
    world: World, fate: dict[str, Any]
) -> None:
    """A trainer that was held up for longer than its leases: its processes at rest would stay for as long as it does."""
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        await world.database.write(lambda session: session.execute(update(JobRow).values(fate)))
        await world.until(lambda: not world.holding, "what it needed was let go")
        assert job.job not in world.executor.started
        if fate.get("state") == State.CANCELLED.value:
            await until_left(world.folder)


async def test_a_stopped_trainers_jobs_stay_running_and_their_leases_end(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        world.executor.says(job.job, Line(Said.STOPPED))
        await world.until(lambda: job.job in world.executor.started, "it goes on")
    assert (await world.jobs.get("acme", job.job)).state is State.RUNNING
