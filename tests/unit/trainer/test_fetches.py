"""Whose base is fetched next: everybody's in turn, however slow or vain some fetches are."""

import asyncio
import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from services.trainer.errands import Errands
from services.trainer.job import Job, State
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_jobs import queued


class Wire:
    """Fetches last until a test ends them, or fail at once, for tenants that are away."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.away: set[str] = set()
        self.failure: Exception = Failure(Reason.PEER_UNAVAILABLE, service="registry")
        self._ends: dict[str, asyncio.Event] = {}
        self._came: set[str] = set()

    def here(self, job: Job) -> bool:
        return job.job in self._came

    async def fetch(self, job: Job) -> None:
        self.begun.append(job.job)
        if job.tenant in self.away:
            raise self.failure
        await self._ends.setdefault(job.job, asyncio.Event()).wait()
        self._came.add(job.job)

    def ends(self, job: str) -> None:
        self._ends.setdefault(job, asyncio.Event()).set()


class AllQueued:
    """Jobs that wait, whatever becomes of them."""

    async def get(self, tenant: str, job: str) -> Any:
        return SimpleNamespace(state=State.QUEUED)


@asynccontextmanager
async def fetching(wire: Wire, woken: asyncio.Event, pause_seconds: float) -> AsyncIterator[Errands]:
    nobody = cast(Any, None)
    errands = Errands(
        cast(Any, AllQueued()),
        nobody,
        wire,
        nobody,
        lineage=nobody,
        pause_after=lambda _: pause_seconds,
        done=woken.set,
        log=logger("trainer"),
    )
    async with asyncio.TaskGroup() as group, errands.running(group):
        yield errands
        for task in list(group._tasks):
            task.cancel()


async def settled() -> None:
    """Let everything that waits for nothing go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def waiting(world: World, tenant: str, count: int) -> list[Job]:
    job = await queued(world.jobs)
    return [replace(job, tenant=tenant, job=f"{tenant}{number}") for number in range(1, count + 1)]


async def test_slow_fetches_of_one_tenant_keep_nobody_elses_from_being_begun(world: World) -> None:
    jobs = [job for tenant in ("a", "b", "c") for job in await waiting(world, tenant, 3)]
    wire, woken = Wire(), asyncio.Event()
    async with asyncio.timeout(HANG_SECONDS), fetching(wire, woken, 60.0) as errands:
        errands.see(jobs[:3], {})
        await settled()
        assert wire.begun == ["a1", "a2"]
        for ended in ("", "b1", "c1", "b2", "a1"):
            wire.ends(ended)
            woken.clear()
            if ended:
                await woken.wait()
            errands.see(jobs, {})
            await settled()
    assert wire.begun == ["a1", "a2", "b1", "c1", "b2", "c2", "b3"]


@pytest.mark.parametrize(
    "failure", [Failure(Reason.PEER_UNAVAILABLE, service="registry"), OSError(errno.EIO, "the disk is broken")]
)
async def test_a_fetch_that_waits_for_its_next_try_holds_no_place(world: World, failure: Exception) -> None:
    jobs = [job for tenant in ("a", "b") for job in await waiting(world, tenant, 4)]
    wire, woken = Wire(), asyncio.Event()
    wire.away, wire.failure = {"a"}, failure
    async with asyncio.timeout(HANG_SECONDS), fetching(wire, woken, 0.2) as errands:
        for _ in range(20):
            errands.see(jobs, {})
            await settled()
        assert "b2" in wire.begun
        while wire.begun.count("a4") < 2:
            woken.clear()
            errands.see(jobs, {})
            await woken.wait()
