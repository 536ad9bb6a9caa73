"""Whoever waits outside the plan is told why, and until when: for a base, after a loss, for the registry."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.chassis.errors import Failure, Reason
from services.trainer import runner
from services.trainer.aside import Aside
from services.trainer.job import Job, Progress, State
from services.trainer.publisher import PublishPostponed
from services.trainer.runner import Runner
from services.trainer.scheduling.planning import plan
from services.trainer.scheduling.state import State as Snapshot
from services.trainer.work import Line, Said
from tests.unit.trainer.scripted import Bases, World, left
from tests.unit.trainer.test_jobs import queued
from tests.unit.trainer.test_runner import moved

_AGAIN = r"; it is tried again at \d\d:\d\d:\d\d UTC"


class Errands:
    """Says that it is about whatever it is asked for."""

    def fetching(self, job: Job, now: float) -> str:
        return "its base is being fetched"

    def registering(self, job: Job, now: float) -> str:
        return ""


class Away:
    """A registry that takes nothing yet."""

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        raise PublishPostponed("The registry is away.")


class Unreadable:
    """A registry that is never reached: the result cannot be read."""

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        raise OSError(5, "Input/output error", str(result))


async def until_told(world: World, at_work: Runner, job: Job, pattern: str) -> None:
    """Wait until the job's owner is told this, and of no place in line."""

    def told() -> bool:
        verdict = at_work.verdicts.get(job.job)
        return verdict is not None and verdict.position == 0 and re.fullmatch(pattern, verdict.why) is not None

    await world.until(told, pattern)


async def test_a_job_whose_base_is_still_to_come_says_so(world: World) -> None:
    job = await queued(world.jobs)
    world.bases.missing.add(job.job)
    async with world.running() as at_work:
        await until_told(world, at_work, job, "its base is being fetched")
        world.bases.coming.set()
        await world.until(lambda: job.job in world.executor.started, "it was started")
        await until_told(world, at_work, job, "")


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        (Failure(Reason.PEER_UNAVAILABLE, service="registry"), "The service registry .*[^.]"),
        (OSError(28, "No space left on device", "/secret"), "the trainer's disk: No space left on device"),
    ],
)
async def test_a_fetch_in_vain_says_why_and_when_it_is_tried_again(world: World, failing: Exception, why: str) -> None:
    world.restart_seconds = 60.0
    job = await queued(world.jobs)
    world.bases.missing.add(job.job)
    world.bases.failing = failing
    async with world.running() as at_work:
        await until_told(world, at_work, job, rf"its base could not be fetched \({why}\){_AGAIN}")


async def test_a_tenants_third_fetch_says_that_others_come_first(world: World) -> None:
    jobs = [await queued(world.jobs) for _ in range(3)]
    world.bases.missing |= {job.job for job in jobs}
    async with world.running() as at_work:
        await until_told(world, at_work, jobs[2], "its base is fetched when its turn comes: .*")


async def test_a_job_that_rests_after_its_process_was_lost_says_so(world: World) -> None:
    world.restart_seconds = 60.0
    job = await queued(world.jobs)
    async with world.running() as at_work:
        await world.until(lambda: job.job in world.executor.started, "it was started")
        world.executor.loses(job.job)
        await until_told(world, at_work, job, rf"its process was lost \(signal 9\){_AGAIN}")


@pytest.mark.parametrize(
    ("publisher", "why"), [(Away(), "The registry is away"), (Unreadable(), "the trainer's disk: Input/output error")]
)
async def test_a_trained_job_whose_registration_is_put_off_says_so_and_how_to_be_rid_of_its_version(
    world: World, publisher: Any, why: str
) -> None:
    world.restart_seconds, world.publisher = 60.0, publisher
    job = await moved(world.jobs, State.RUNNING, State.REGISTERING)
    left(world.folder, job)
    async with world.running() as at_work:
        await until_told(world, at_work, job, rf"its version could not be registered yet \({why}\){_AGAIN}")
        # What was sent may have been taken without an answer: nobody can promise that there is no version.
        with pytest.raises(Failure) as refused:
            await world.jobs.cancel("acme", job.job)
    assert refused.value.reason is Reason.JOB_FINISHED
    assert (await world.jobs.get("acme", job.job)).state is State.REGISTERING


async def test_a_job_whose_prerequisite_was_not_ready_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.restart_seconds = 60.0
    job = await queued(world.jobs)

    def not_ready(_: Job) -> Any:
        raise Failure(Reason.PEER_UNAVAILABLE, service="registry")

    monkeypatch.setattr(world, "work", not_ready)
    async with world.running() as at_work:
        await until_told(world, at_work, job, rf"what it needs is not ready \(The service registry .*\){_AGAIN}")


async def test_a_deadline_that_has_passed_is_told_of_outside_the_plan_as_well(world: World) -> None:
    job = await queued(world.jobs)
    dated = replace(job, order=replace(job.order, deadline=100.0))
    bases = Bases()
    bases.missing.add(job.job)
    aside = Aside(bases, cast(Any, Errands()))
    assert aside.verdicts([dated], {}, 100.0)[job.job].why == "its base is being fetched"
    assert aside.verdicts([dated], {}, 101.0)[job.job].why == "its base is being fetched; its deadline has passed"


def test_who_is_paused_or_follows_another_is_not_told_of_an_errand() -> None:
    bases = Bases()
    bases.missing |= {"paused", "follower"}
    aside = Aside(bases, cast(Any, Errands()))
    paused: Any = SimpleNamespace(job="paused", state=State.PAUSED)
    order = SimpleNamespace(depends_on=("first",))
    follower: Any = SimpleNamespace(job="follower", state=State.QUEUED, order=order)
    assert aside.verdicts([paused, follower], {"first": State.RUNNING}, 0.0) == {}


async def test_it_is_planned_with_a_job_as_prepared_once_its_process_says_that_it_begins(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, seen = await queued(world.jobs), list[bool]()

    def plans(state: Snapshot, now: float) -> Any:
        seen.extend(one.prepared for one in state.jobs if one.resident)
        return plan(state, now)

    monkeypatch.setattr(runner, "plan", plans)
    async with world.running():
        await world.until(lambda: bool(seen), "it was planned with")
        assert not any(seen)
        world.executor.says(job.job, Line(Said.STARTED, Progress(0, 2)))
        await world.until(lambda: seen[-1], "it is known to have begun")
