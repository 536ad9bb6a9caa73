"""What becomes of jobs in processes of the trainer's: it is heard, stored, and settled."""

import asyncio
import time
from collections.abc import Sequence

import pytest
import torch
from sqlalchemy import update

from services.trainer import checkpoints
from services.trainer.executors.executor import Lost
from services.trainer.job import Progress, State
from services.trainer.planning import Allowance
from services.trainer.reports import Report, Reports
from services.trainer.scheduling.state import Priority
from services.trainer.store import JobRow
from services.trainer.work import Line, Said
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.trainer.scripted import World, until_left
from tests.unit.trainer.test_jobs import in_class, queued


async def test_a_job_whose_process_is_lost_goes_on_and_one_that_loses_too_many_fails(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running():
        for attempt in (1, 2, 3):
            await world.until(lambda: job.job in world.executor.started, "it was started")
            assert world.executor.started[job.job].epoch == attempt
            world.executor.loses(job.job)
        failed = await world.until_state(job, State.FAILED)
    assert (failed.error_reason, failed.attempts) == ("PROCESS_LOST", 3)


async def test_a_job_whose_files_cannot_be_read_for_now_is_tried_again_and_the_error_is_named(world: World) -> None:
    job, refused = await queued(world.jobs), Line(Said.LOST, message="an error of the system: Too many open files")
    async with world.running():
        for attempt in (1, 2, 3):
            await world.until(lambda: job.job in world.executor.started, "it was started")
            assert world.executor.started[job.job].epoch == attempt
            world.executor.says(job.job, refused)
        failed = await world.until_state(job, State.FAILED)
    assert (failed.error_reason, failed.attempts) == ("PROCESS_LOST", 3)
    assert "Too many open files" in failed.error_message


async def test_what_is_said_under_an_earlier_lease_of_ours_changes_nothing(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running() as runner:
        await world.until(lambda: job.job in world.executor.started, "it was started")
        first = world.executor.started[job.job]
        world.executor.loses(job.job)
        await world.until(lambda: getattr(world.executor.started.get(job.job), "epoch", 0) == 2, "it goes on")
        late = [Line(Said.STEP, Progress(1, 2, 10)), Line(Said.STOPPED)]
        await runner.hearing.take([Report(first.tenant, job.job, first.epoch, line) for line in late])
        await runner.hearing.take([Lost(first.tenant, job.job, first.epoch, "signal 9")])
        assert world.holding == [job.job]
        world.executor.says(job.job, Line(Said.DONE))
        done = await world.until_state(job, State.REGISTERING)
    assert done.attempts == 2
    assert ("drop", job.job) not in world.executor.asked


async def test_a_job_that_another_trainer_took_is_let_go_of_when_its_process_is_lost(world: World) -> None:
    # The runner does not compare rows before it learns of the loss.
    world.plan_seconds = HANG_SECONDS
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        until = time.time() + 3600
        taken = update(JobRow).values(lease_owner="elsewhere/1/1.00", lease_epoch=2, lease_expires_at=until)
        await world.database.write(lambda session: session.execute(taken))
        world.executor.loses(job.job)
        await world.until(lambda: not world.holding, "what it needed was let go")
    assert (await world.jobs.get("acme", job.job)).crashes == 0


async def test_of_a_job_that_has_ended_nothing_is_remembered(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running() as runner:
        for _ in range(3):
            await world.until(lambda: job.job in world.executor.started, "it was started")
            world.executor.loses(job.job)
        await world.until_state(job, State.FAILED)
        await world.until(lambda: not runner._aside._rests, "nothing is remembered of it")


async def test_a_job_that_is_cancelled_while_it_gives_way_is_cancelled(world: World) -> None:
    low = await in_class(world.jobs, Priority.LOW)
    async with world.running(acme=Allowance(concurrent_jobs=1)) as at_work:
        await world.until(lambda: low.job in world.executor.started, "the first was started")
        training = world.executor.started[low.job]
        high = await in_class(world.jobs, Priority.HIGH)
        await world.until(lambda: ("stop", low.job) in world.executor.asked, "it was asked to stop")
        await world.jobs.cancel("acme", low.job)
        await world.until_state(low, State.CANCELLED)
        await world.until(lambda: high.job in world.executor.started, "the other was started")
        # On its way when the job was dropped.
        late = [Line(Said.CHECKPOINT, Progress(1, 2)), Line(Said.STOPPED)]
        await at_work.hearing.take([Report("acme", low.job, training.epoch, line) for line in late])
        assert at_work.holding.giving_way() == {}
        assert world.holding == [high.job]
    assert ("drop", low.job) in world.executor.asked
    assert (await world.jobs.get("acme", low.job)).state is State.CANCELLED


async def test_a_word_of_a_job_that_gave_way_and_was_cancelled_meanwhile_ends_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = await in_class(world.jobs, Priority.LOW)
    async with world.running(acme=Allowance(concurrent_jobs=1)) as at_work:
        await world.until(lambda: low.job in world.executor.started, "the first was started")
        await in_class(world.jobs, Priority.HIGH)
        await world.until(lambda: ("stop", low.job) in world.executor.asked, "it was asked to stop")

        async def looks_away(_: object) -> None:
            return None

        # Its process speaks before the runner has seen what was asked for.
        monkeypatch.setattr(at_work, "_obey", looks_away)
        await world.jobs.cancel("acme", low.job)
        world.executor.says(low.job, Line(Said.CHECKPOINT, Progress(1, 2)), Line(Said.STOPPED))
        await world.until_state(low, State.CANCELLED)


async def test_a_full_disk_pauses_the_job(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        world.executor.says(job.job, Line(Said.REFUSED, reason="DISK_FULL", message="No space is left."))
        await world.until_state(job, State.PAUSED)


async def test_a_job_that_diverged_says_which_of_its_checkpoints_is_good_and_keeps_it(world: World) -> None:
    job = await queued(world.jobs)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it was started")
        for step in (1, 2):
            progress = Progress(step, 9)
            lease = checkpoints.lease_folder(world.folder / job.job / "checkpoints", 1)
            checkpoints.write(lease, {"slot.weights": torch.ones(1)}, progress, {})
            world.executor.says(job.job, Line(Said.STEP, progress), Line(Said.CHECKPOINT, progress))
        message = "At step 3 the loss is nan."
        refusal = Line(Said.REFUSED, reason="TRAINING_DIVERGED", message=message, sound_step=2)
        world.executor.says(job.job, refusal)
        failed = await world.until_state(job, State.FAILED)
        await until_left(world.folder, job)
    assert failed.error_message.startswith("At step 3 the loss is nan. The checkpoint of step 1 is good")
    assert f"trivium train publish {job.job} --step 1" in failed.error_message


async def test_what_is_being_stored_when_the_trainer_stops_is_stored_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await queued(world.jobs)
    begun, goes_on, stored = asyncio.Event(), asyncio.Event(), Reports.store

    async def slowly(self: Reports, reports: Sequence[Report]) -> set[str]:
        begun.set()
        await goes_on.wait()
        return await stored(self, reports)

    monkeypatch.setattr(Reports, "store", slowly)
    async with world.running():
        await world.until(lambda: job.job in world.executor.started, "it is started")
        world.executor.says(job.job, Line(Said.STEP, Progress(1, 4)))
        await begun.wait()
        asyncio.get_running_loop().call_later(0.1, goes_on.set)
    assert (await world.jobs.get(job.tenant, job.job)).progress.step == 1
