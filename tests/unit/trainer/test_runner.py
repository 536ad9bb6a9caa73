"""What the runner does with the queue: starts what is planned, hears what becomes of it, clears what is left."""

import asyncio
import errno
import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.trainer import runner
from services.trainer.job import Job, Move, Progress, State
from services.trainer.job_rows import job_of
from services.trainer.jobs import Jobs
from services.trainer.planning import Allowance
from services.trainer.publisher import PublishPostponed
from services.trainer.scheduling.choosing import Share
from services.trainer.scheduling.planning import plan
from services.trainer.scheduling.state import Priority
from services.trainer.settings import Method, Settings
from services.trainer.store import JobRow
from services.trainer.work import Line, Said, Work
from tests.unit.trainer.scripted import World, left, until_left
from tests.unit.trainer.test_jobs import ORDER, in_class, leases_in, queued


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


def told_to_compute(world: World, job: Job) -> bool:
    return ("go", world.executor.started[job.job].process.name) in world.executor.asked


async def test_a_trainer_that_starts_clears_what_earlier_ones_left(world: World) -> None:
    jobs = world.jobs
    done = await moved(jobs, State.RUNNING, State.REGISTERING, State.SUCCEEDED)
    failed = await moved(jobs, State.RUNNING, State.FAILED)
    ending = await moved(jobs, State.RUNNING, State.CANCELLING)
    stopping = await moved(jobs, State.RUNNING, State.PAUSING)
    paused = await moved(jobs, State.PAUSED)
    held(world.folder, done, failed, ending, stopping, paused)
    async with world.running():
        await until_left(world.folder, stopping, paused)
    assert (await jobs.get("acme", ending.job)).state is State.CANCELLED
    assert (await jobs.get("acme", stopping.job)).state is State.PAUSED


async def test_a_job_that_is_cancelled_while_it_is_paused_leaves_nothing(world: World) -> None:
    one, other = await moved(world.jobs, State.PAUSED), await moved(world.jobs, State.PAUSED)
    held(world.folder, one, other)
    async with world.running():
        await world.jobs.cancel("acme", one.job)
        await until_left(world.folder, other)


async def test_a_job_keeps_the_threads_that_it_was_started_with(world: World) -> None:
    """Its bits depend on them: a trainer that starts with others gives them to new jobs alone."""
    world.threads = 2
    begun = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: begun.job in world.executor.started, "it was started")
    world.executor.loses(begun.job)
    world.executor.asked.clear()
    world.threads = 3
    new = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: {begun.job, new.job} <= world.executor.started.keys(), "both were started")
        for job in (begun, new):
            await world.until(partial(told_to_compute, world, job), "its process was told to compute")
    started = [world.executor.started[job.job] for job in (begun, new)]
    assert [training.epoch for training in started] == [2, 1]
    assert [training.work.threads for training in started] == [2, 3]
    assert [training.group and training.group.threads for training in started] == [2, 3]
    assert [Work.read(training.folder).threads for training in started] == [2, 3]


async def test_a_paused_job_writes_its_checkpoint_first_and_a_cancelled_one_is_dropped(world: World) -> None:
    one, other = await queued(world.jobs), await queued(world.jobs)
    async with world.running():
        await world.until(lambda: {one.job, other.job} <= world.executor.started.keys(), "both were started")
        await world.jobs.pause("acme", one.job)
        await world.jobs.cancel("acme", other.job)
        await world.until_state(other, State.CANCELLED)
        await world.until(lambda: ("stop", one.job) in world.executor.asked, "it was asked to stop")
        assert (await world.jobs.get("acme", one.job)).state is State.PAUSING
        world.executor.says(one.job, Line(Said.CHECKPOINT, Progress(1, 2)), Line(Said.STOPPED))
        await world.until_state(one, State.PAUSED)
    assert ("drop", other.job) in world.executor.asked


async def test_a_job_that_is_cancelled_while_it_is_pausing_is_cancelled(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        await world.jobs.pause("acme", job.job)
        await world.until(lambda: ("stop", job.job) in world.executor.asked, "it was asked to stop")
        await world.jobs.cancel("acme", job.job)
        await world.until_state(job, State.CANCELLED)


async def test_a_job_gives_way_to_one_of_a_higher_class_and_is_queued_again(world: World) -> None:
    low = await in_class(world.jobs, Priority.LOW)
    async with world.running(acme=Allowance(concurrent_jobs=1)):
        await world.until(lambda: low.job in world.executor.started, "the first was started")
        high = await in_class(world.jobs, Priority.HIGH, deadline=1.9e9)
        await world.until(lambda: ("stop", low.job) in world.executor.asked, "it was asked to stop")
        assert high.job not in world.executor.started
        world.executor.says(low.job, Line(Said.CHECKPOINT, Progress(1, 2)), Line(Said.STOPPED))
        again = await world.until_state(low, State.QUEUED)
        await world.until(lambda: high.job in world.executor.started, "the other was started")
        started = world.executor.started[high.job]
        assert (started.priority, started.deadline) == (Priority.HIGH, 1.9e9)
        assert low.job not in world.executor.started
    assert again.lease.owner == ""
    events, _ = await world.jobs.events("acme", low.job, 0)
    assert "gave way after a checkpoint: a job of a higher class needs the place" in [it.message for it in events]


async def test_of_two_processes_on_the_same_cores_one_rests(world: World) -> None:
    world.threads = 2
    joint = await queued(world.jobs)
    full = await in_class(world.jobs, Priority.NORMAL, settings=Settings(method=Method.FULL), job_bytes=1)
    async with world.running():
        await world.until(lambda: {joint.job, full.job} <= world.executor.started.keys(), "both were started")
        await world.until(lambda: "hold" in [asked for asked, _ in world.executor.asked], "one is to rest")


async def test_processes_are_told_what_tenants_are_worth_and_may_still_train(world: World) -> None:
    await queued(world.jobs)
    async with world.running(acme=Allowance(weight=2.0, tokens_per_hour=700)):
        await world.until(lambda: "acme" in world.executor.shares, "they are told")
    assert world.executor.shares["acme"] == Share(2.0, 0.0, 700)


@pytest.mark.parametrize(
    "failing",
    [Failure(Reason.DISK_FULL, what="the training jobs"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))],
    ids=["named", "bare"],
)
async def test_a_disk_that_is_full_when_a_job_starts_pauses_it_and_it_starts_once_resumed(
    world: World, failing: Exception
) -> None:
    world.executor.failing = failing
    job = await queued(world.jobs)
    async with world.running():
        paused = await world.until_state(job, State.PAUSED)
        assert (paused.crashes, paused.lease.owner) == (0, "")
        await world.until(lambda: not world.holding, "what it needed was let go")
        world.executor.failing = None
        await world.jobs.resume("acme", job.job)
        await world.until(lambda: job.job in world.executor.started, "it was started")


async def test_a_job_whose_base_is_still_to_come_holds_nobody_up(world: World) -> None:
    waiting, ready = await queued(world.jobs), await queued(world.jobs)
    world.bases.missing.add(waiting.job)
    async with world.running():
        await world.until(lambda: ready.job in world.executor.started, "the other was started")
        await world.until(lambda: world.bases.fetched == [waiting.job], "its base is being fetched")
        assert waiting.job not in world.executor.started
        world.bases.coming.set()
        await world.until(lambda: waiting.job in world.executor.started, "it was started")


async def test_a_job_that_has_not_begun_has_an_estimated_end_once_another_has_measured(world: World) -> None:
    first, second = await queued(world.jobs), await queued(world.jobs)
    async with world.running() as runner:
        await world.until(lambda: {first.job, second.job} <= world.executor.started.keys(), "both were started")
        assert runner.verdicts[second.job].estimated_finish is None
        world.executor.says(first.job, Line(Said.STEP, Progress(1, 2, 10)), Line(Said.USAGE), seconds=1.0)
        await world.until(lambda: runner.verdicts[second.job].estimated_finish is not None, "its end can be told")


async def test_speeds_are_measured_again_when_a_job_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_SPEED_SECONDS", math.inf)
    first, second = await queued(world.jobs), await queued(world.jobs)

    def steps_of_first() -> int:
        row = select(JobRow).where(JobRow.job == first.job)
        return world.database.read_now(lambda session: job_of(session.scalars(row).one()).progress.step)

    async with world.running() as at_work:

        def end_of_second() -> float:
            verdict = at_work.verdicts.get(second.job)
            return (verdict and verdict.estimated_finish) or 0.0

        await world.until(lambda: {first.job, second.job} <= world.executor.started.keys(), "both were started")
        world.executor.says(first.job, Line(Said.STEP, Progress(1, 2, 1)), Line(Said.USAGE), seconds=10_000.0)
        await world.until(lambda: end_of_second() > 0.0, "its end is estimated")
        by_the_first_step = end_of_second()
        world.executor.says(first.job, Line(Said.STEP, Progress(2, 2, 1_000_000)), Line(Said.USAGE))
        await world.until(lambda: steps_of_first() == 2, "both steps are known")
        await world.jobs.cancel("acme", first.job)
        await world.until(
            lambda: end_of_second() < by_the_first_step - 10_000.0, "its end is estimated from both steps"
        )


async def test_callers_are_served_while_it_is_planned(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job, going_on, served = await queued(world.jobs), threading.Event(), []

    def plans(*given: Any) -> Any:
        served.append(going_on.wait(10))
        return plan(*given)

    monkeypatch.setattr(runner, "plan", plans)
    asyncio.get_running_loop().call_later(0.1, going_on.set)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
    assert all(served)


async def test_a_job_over_its_tenants_quota_waits_and_is_told_why(world: World) -> None:
    one, other = await queued(world.jobs), await queued(world.jobs)
    async with world.running(acme=Allowance(concurrent_jobs=1)) as runner:
        await world.until(lambda: one.job in world.executor.started, "the first was started")
        await world.until(lambda: bool(getattr(runner.verdicts.get(other.job), "why", "")), "the other was told why")
        assert other.job not in world.executor.started
        assert runner.verdicts[other.job].position == 1
        world.executor.says(one.job, Line(Said.DONE))
        await world.until(lambda: other.job in world.executor.started, "the other was started")


async def test_what_another_trainer_starts_meanwhile_counts_for_the_quota(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = await queued(world.jobs), await queued(world.jobs)
    elsewhere = leases_in(world.database, "elsewhere/1/1.00")

    def plans(*given: Any) -> Any:
        planned = plan(*given)
        # Between this plan and what it asks for.
        asyncio.run(elsewhere.claim(theirs, ("there",)))
        return planned

    monkeypatch.setattr(runner, "plan", plans)
    async with world.running(acme=Allowance(concurrent_jobs=1)) as at_work:
        await world.until(lambda: "concurrent" in getattr(at_work.verdicts.get(ours.job), "why", ""), "it waits")
        assert world.executor.started == {}
        assert not world.holding


async def test_a_job_whose_result_is_lost_trains_again_and_can_be_cancelled(world: World) -> None:
    world.lost_seconds = 0.05
    job = await moved(world.jobs, State.RUNNING, State.REGISTERING)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it trains again")
        await world.jobs.cancel("acme", job.job)
        await world.until_state(job, State.CANCELLED)


class Away:
    """A registry that takes nothing yet."""

    async def publish(self, job: Job, result: Path, lineage: Mapping[str, object], mark: str = "") -> str:
        raise PublishPostponed("it is away")


async def test_a_trainer_says_of_a_result_that_it_is_there_for_as_long_as_the_registry_does_not_take_it(
    world: World,
) -> None:
    world.publisher, world.leases.seconds = Away(), 0.03
    job = await moved(world.jobs, State.RUNNING, State.REGISTERING)
    left(world.folder, job)

    def seen() -> float:
        return world.database.read_now(lambda session: session.scalars(select(JobRow.result_seen_at)).one())

    async with world.running():
        for _ in range(2):
            before = seen()
            await world.until(lambda before=before: seen() > before, "it is said again")  # type: ignore[misc]  # a default


async def test_a_job_that_follows_one_that_fails_ends_and_says_so(world: World) -> None:
    first = await queued(world.jobs)
    order = replace(ORDER, depends_on=(first.job,))
    after = await world.jobs.create("acme", "ada", order, IdempotencyKey("acme", "CreateJob", "", b""))
    world.bases.missing.add(after.job)
    async with world.running() as runner:
        await world.until(lambda: first.job in world.executor.started, "the first was started")
        await world.until(lambda: after.job in runner.verdicts, "the other was told why")
        assert first.job in runner.verdicts[after.job].why
        assert world.bases.fetched == []
        world.executor.says(first.job, Line(Said.REFUSED, reason="TRAINING_DIVERGED", message="It diverged."))
        ended = await world.until_state(after, State.FAILED)
    assert (ended.error_reason, first.job in ended.error_message) == ("JOB_UNREACHABLE", True)


async def test_a_job_that_no_machine_could_hold_is_refused_with_its_arithmetic(world: World) -> None:
    order = replace(ORDER, job_bytes=1 << 50)
    job = await world.jobs.create("acme", "ada", order, IdempotencyKey("acme", "CreateJob", "", b""))
    async with world.running():
        ended = await world.until_state(job, State.FAILED)
    assert ended.error_reason == "SETTINGS_UNFIT"
    assert "1048576" in ended.error_message or "GiB" in ended.error_message


async def test_a_job_of_several_processes_is_refused_where_one_machine_trains(world: World) -> None:
    order = replace(ORDER, settings=Settings(method=Method.FULL), processes=2, job_bytes=1)
    job = await world.jobs.create("acme", "ada", order, IdempotencyKey("acme", "CreateJob", "", b""))
    async with world.running():
        ended = await world.until_state(job, State.FAILED)
    assert ended.error_reason == "SETTINGS_UNFIT"
    assert "processes is 2" in ended.error_message


async def test_a_fetch_waits_for_access_and_its_job_fails_with_a_tenant_that_is_disabled(world: World) -> None:
    job = await queued(world.jobs)
    world.bases.missing.add(job.job)
    world.bases.failing = Failure(Reason.PEER_UNAVAILABLE, service="access")
    async with world.running():
        await world.until(lambda: world.bases.fetched.count(job.job) > 1, "it was tried again")
        assert (await world.jobs.get("acme", job.job)).state is State.QUEUED
        world.bases.failing = Failure(Reason.TENANT_DISABLED, name="acme")
        failed = await world.until_state(job, State.FAILED)
    assert (failed.error_reason, failed.error_message) == ("TENANT_DISABLED", "The tenant acme is disabled.")
