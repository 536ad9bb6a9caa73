"""A database that goes away in the middle of everything: the trainer waits for it, and nothing is done twice."""

import asyncio
import errno
import os
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from services.trainer.executors.executor import Training
from services.trainer.job import EventKind, Job, Progress, State
from services.trainer.job_rows import find, job_of
from services.trainer.outages import Patience
from services.trainer.work import Line, Said
from tests.unit.trainer.scripted import World, opened
from tests.unit.trainer.test_jobs import queued


class Unsteady:
    """A database that the runner finds away every other time, also just after it did what it was asked for."""

    def __init__(self, world: World, seed: int) -> None:
        self._dice = random.Random(seed)
        self._spared = asyncio.current_task()
        self.times = 0
        for name in ("read", "write"):
            setattr(world.database, name, self._wrapped(getattr(world.database, name)))

    def _wrapped(self, act: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        async def acts(change: Any) -> Any:
            if asyncio.current_task() is self._spared or self._dice.random() < 0.5:
                return await act(change)
            self.times += 1
            if self._dice.random() < 0.5:
                await act(change)
            raise Failure(Reason.PEER_UNAVAILABLE, service="database")

        return acts


def now(world: World, job: Job) -> Job:
    return world.database.read_now(lambda session: job_of(find(session, job.tenant, job.job)))


@pytest.mark.parametrize("seed", range(6))
async def test_a_job_outlives_its_database_and_nothing_is_counted_or_told_twice(tmp_path: Path, seed: int) -> None:
    async with opened(tmp_path) as world:
        # Also the pause before what failed is done again.
        world.plan_seconds = 0.005
        job = await queued(world.jobs)
        unsteady = Unsteady(world, seed)
        async with world.running():
            await world.until(lambda: job.job in world.executor.started, "it was started")
            world.executor.says(job.job, Line(Said.STEP, Progress(1, 2, 10)))
            world.executor.loses(job.job)
            await world.until(lambda: job.job in world.executor.started, "it was started again")
            world.executor.says(job.job, Line(Said.STEP, Progress(2, 2, 20)), Line(Said.DONE))
            await world.until(lambda: now(world, job).state is State.REGISTERING, "it is trained")
            await world.until(lambda: not world.holding, "what it needed was let go")
        done = now(world, job)
        events, _ = await world.jobs.events("acme", job.job, 0)
    assert unsteady.times > 0
    assert (done.crashes, done.lease.owner) == (1, "")
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.progress.step for event in events if event.kind is EventKind.STEP] == [1, 2]
    assert sum("lost" in event.message for event in events) == 1


async def test_what_is_no_outage_is_not_done_again() -> None:
    times = 0

    async def refused() -> None:
        nonlocal times
        times += 1
        raise Failure(Reason.JOB_NOT_FOUND, job="j")

    with pytest.raises(Failure):
        await Patience(0.0, logger("trainer"))(refused)
    assert times == 1


@pytest.mark.parametrize(
    ("failing", "becomes"),
    [
        (Failure(Reason.DISK_FULL, what="the training jobs"), State.PAUSED),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), State.FAILED),
    ],
    ids=["refused", "lost"],
)
async def test_a_job_that_could_not_be_started_is_settled_once_the_database_takes_it(
    world: World, monkeypatch: pytest.MonkeyPatch, failing: Exception, becomes: State
) -> None:
    job = await queued(world.jobs)
    world.executor.failing = failing
    start, write, refusals = world.executor.start, world.database.write, 0

    async def starts(training: Training) -> None:
        nonlocal refusals
        refusals = 2
        await start(training)

    async def writes(change: Any) -> Any:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Failure(Reason.DISK_FULL, what="the database")
        return await write(change)

    monkeypatch.setattr(world.executor, "start", starts)
    monkeypatch.setattr(world.database, "write", writes)
    async with world.running():
        settled = await world.until_state(job, becomes)
        await world.until(lambda: not world.holding, "what it needed was let go")
    assert settled.lease.owner == ""
