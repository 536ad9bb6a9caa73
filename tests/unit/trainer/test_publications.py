"""What publications leave when their trainer is killed, and how many of whose are under way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.chassis.logs import logger
from services.trainer.job import Job, State
from services.trainer.publications import Places, Publications, Wanted
from tests.harness.timeouts import HANG_SECONDS
from tests.stack import eventually
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_jobs import queued


async def blocking(act: Callable[..., Any], *given: Any) -> Any:
    return await asyncio.to_thread(act, *given)


def lineage(_: object) -> Mapping[str, object]:
    return {}


async def test_what_a_killed_trainer_was_publishing_goes_when_the_next_one_begins(tmp_path: Path) -> None:
    places = Places(tmp_path / "jobs", tmp_path / "publications")
    left = places.publications / "left" / "step-00000001"
    left.mkdir(parents=True)
    nobody = cast(Any, None)
    publications = Publications(
        nobody, nobody, nobody, nobody, places, lineage=lineage, blocking=blocking, new_id=nobody, log=logger("trainer")
    )
    async with publications.at_work():
        assert not left.exists()


class Slow(Publications):
    """Over checkpoints that are always there; versions are made ready once a test lets them."""

    def __init__(self, world: World, jobs: Mapping[str, Job]) -> None:
        nobody = cast(Any, None)
        super().__init__(
            world.database,
            cast(Any, self),
            nobody,
            nobody,
            Places(world.folder, world.folder),
            lineage=lineage,
            blocking=blocking,
            new_id=nobody,
            log=logger("trainer"),
        )
        self._by_name = jobs
        self.go = asyncio.Event()
        self.made: list[str] = []

    async def get(self, tenant: str, job: str) -> Job:
        return self._by_name[job]

    async def decide(self, job: Job, choose: object) -> None:
        return None

    @asynccontextmanager
    async def _linked(self, job: Job, step: int) -> AsyncIterator[Any]:
        yield SimpleNamespace(progress=replace(job.progress, step=step))

    async def _export(self, job: Job, checkpoint: object) -> None:
        await self.go.wait()
        self.made.append(job.job)

    async def _register(self, job: Job, checkpoint: object) -> str:
        return f"sha256:{job.job}"

    def asked(self, job: str) -> "asyncio.Task[object]":
        """Have the job's newest checkpoint published."""
        tenant = self._by_name[job].tenant
        key = IdempotencyKey(tenant, "PublishCheckpoint", "", b"")
        return asyncio.create_task(self.publish(tenant, "ada", Wanted(job), key))


@pytest.fixture
async def slow(world: World) -> Slow:
    """Nine jobs of each of three tenants."""
    job = await queued(world.jobs)
    names = [f"{tenant}{number}" for tenant in ("a", "b", "c") for number in range(1, 10)]
    return Slow(world, {name: replace(job, tenant=name[0], job=name) for name in names})


async def under_way(slow: Slow, count: int) -> None:
    await asyncio.to_thread(eventually, lambda: len(slow._under_way) == count, f"{count} are under way")


async def test_a_tenants_versions_under_way_have_a_bound_and_a_repeat_counts_for_none(slow: Slow) -> None:
    async with slow.at_work():
        asked = [slow.asked(f"a{number}") for number in range(1, 9)]
        await under_way(slow, 8)
        with pytest.raises(Failure) as refused:
            async with asyncio.timeout(HANG_SECONDS):
                await slow.asked("a9")
        assert (refused.value.reason, refused.value.variables["limit"]) == (Reason.PUBLICATIONS_EXHAUSTED, "8")
        assert refused.value.retry_after_seconds
        asked += [slow.asked("a1"), slow.asked("b1")]
        await under_way(slow, 9)
        slow.go.set()
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.gather(*asked)
            await slow.asked("a9")


async def test_tenants_versions_are_made_ready_in_turn(slow: Slow) -> None:
    async with slow.at_work():
        asked = []
        for job in ("a1", "a2", "a3", "b1", "b2", "c1"):
            asked.append(slow.asked(job))
            await under_way(slow, len(asked))
        slow.go.set()
        async with asyncio.timeout(HANG_SECONDS):
            await asyncio.gather(*asked)
    assert slow.made == ["a1", "b1", "c1", "a2", "b2", "a3"]


async def test_a_job_that_succeeded_keeps_no_checkpoint_also_while_its_folder_waits_to_be_cleared(slow: Slow) -> None:
    done = replace(slow._by_name["a1"], state=State.SUCCEEDED, version="sha256:abc")
    slow._by_name = {"a1": done}
    slow.go.set()
    async with slow.at_work():
        with pytest.raises(Failure) as refused:
            async with asyncio.timeout(HANG_SECONDS):
                await slow.asked("a1")
    assert refused.value.reason == Reason.CHECKPOINT_NOT_FOUND
    assert "sha256:abc" in str(refused.value)
    assert not slow.made
