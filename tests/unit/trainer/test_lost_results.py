"""A job whose result went with the disk that it lay on is trained again, and one whose result is there is not."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from services.chassis.database import Database, open_database
from services.trainer.job import Job, State
from services.trainer.jobs import Jobs
from services.trainer.lost_results import Results
from services.trainer.store import JobRow
from services.trainer.sweeping.sweep import SweepState
from tests.unit.trainer.databases import DATABASES
from tests.unit.trainer.scripted import left
from tests.unit.trainer.sweeping.test_sweeps import NOBODYS, Machine, wanted
from tests.unit.trainer.test_jobs import gapless, jobs_in, leases_in, stored
from tests.unit.trainer.test_runner import moved

LOST_SECONDS = 60.0


class Trainer:
    """The results of one trainer, and its clock."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.folder = folder
        self.later = 0.0
        self.told: list[str] = []
        self.results = Results(database, folder, LOST_SECONDS, now=self._now, changed=self.told.append)

    def _now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.later)


@pytest.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """A database with a dataset: what holds on one kind holds on the other."""
    url = f"sqlite:///{tmp_path}/t.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_database(url, "services.trainer.migrations") as opened:
        await stored(opened)
        yield opened


@pytest.fixture
def trainer(database: Database, tmp_path: Path) -> Trainer:
    """One of the trainers."""
    return Trainer(database, tmp_path)


async def trained(jobs: Jobs) -> Job:
    """A job that somebody has just trained."""
    return await moved(jobs, State.RUNNING, State.REGISTERING)


async def test_a_job_whose_result_nobody_has_for_long_is_queued_again(database: Database, trainer: Trainer) -> None:
    jobs = jobs_in(database)
    job = await trained(jobs)
    for later, state in ((LOST_SECONDS / 2, State.REGISTERING), (LOST_SECONDS + 1.0, State.QUEUED)):
        trainer.later = later
        assert trainer.results.lost(job) is (state is State.QUEUED)
        await trainer.results.train_again(job)
        assert (await jobs.get("acme", job.job)).state is state
    await trainer.results.train_again(job)
    assert trainer.told == [job.job]
    assert "its result was lost" in (await gapless(jobs, job))[-1].message
    claimed = await leases_in(database).claim(await jobs.get("acme", job.job), ("here",))
    assert claimed is not None
    assert (await jobs.cancel("acme", job.job)).state is State.CANCELLING


async def test_a_job_whose_result_somebody_has_waits_for_the_registry_however_long(
    database: Database, trainer: Trainer
) -> None:
    jobs = jobs_in(database)
    job, other = await trained(jobs), await moved(jobs, State.RUNNING)
    trainer.later = 10 * LOST_SECONDS
    await trainer.results.keep([job.job, other.job])
    await trainer.results.train_again(job)
    kept = await jobs.get("acme", job.job)
    assert kept.state is State.REGISTERING
    assert not trainer.results.lost(kept)
    assert not (await jobs.get("acme", other.job)).result_seen_at


async def test_who_waits_for_a_result_whose_trainer_is_silent_is_told_when_the_job_is_trained_again(
    database: Database, tmp_path: Path
) -> None:
    job = await trained(jobs_in(database))
    seen = datetime.fromtimestamp(job.result_seen_at, UTC)
    now = seen + timedelta(seconds=60)
    results = Results(database, tmp_path, 900.0, now=lambda: now, changed=lambda _: None)
    assert results.missed(job) == ""
    now += timedelta(seconds=1)
    assert f"not come back by {seen + timedelta(seconds=900):%H:%M:%S} UTC" in results.missed(job)


async def test_a_job_that_an_earlier_release_trained_is_given_the_time_from_when_it_is_found(
    database: Database, trainer: Trainer
) -> None:
    jobs = jobs_in(database)
    job = await trained(jobs)
    await database.write(lambda session: session.execute(update(JobRow).values(result_seen_at=0.0)))
    for later, state in ((0.0, State.REGISTERING), (LOST_SECONDS + 1.0, State.QUEUED)):
        trainer.later = later
        await trainer.results.train_again(job)
        assert (await jobs.get("acme", job.job)).state is state


async def test_a_result_is_here_for_the_lease_under_which_it_was_trained(database: Database, trainer: Trainer) -> None:
    """One that turns up again says nothing for the job that was trained anew meanwhile."""
    job = await trained(jobs_in(database))
    assert not trainer.results.here(job)
    left(trainer.folder, job, epoch=job.lease.epoch + 1)
    assert not trainer.results.here(job)
    left(trainer.folder / "again", job, epoch=job.lease.epoch)
    assert Trainer(database, trainer.folder / "again").results.here(job)


async def test_the_best_member_of_a_sweep_trains_again_and_is_still_the_best(
    database: Database, trainer: Trainer
) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0})
    found = await machine.run(await machine.sweeps.create("acme", "ada", wanted(2), NOBODYS))
    best = await machine.jobs.get("acme", found.best)
    trainer.later = LOST_SECONDS + 1.0
    await trainer.results.train_again(best)
    await machine.train(await machine.jobs.get("acme", found.best))
    await machine.sweeps.settle()
    again = await machine.sweeps.get("acme", found.sweep)
    assert [member.job.state for member in again.members] == [State.REGISTERING, State.CANCELLED]
    assert (again.best, again.state) == (found.best, SweepState.RUNNING)
    assert (await machine.registered(again)).state is SweepState.SUCCEEDED


async def test_a_best_member_that_somebody_pauses_while_it_trains_again_is_not_taken_for_trained(
    database: Database, trainer: Trainer
) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0})
    found = await machine.run(await machine.sweeps.create("acme", "ada", wanted(2), NOBODYS))
    trainer.later = LOST_SECONDS + 1.0
    await trainer.results.train_again(await machine.jobs.get("acme", found.best))
    await machine.jobs.pause("acme", found.best)
    await machine.sweeps.settle()
    assert (await machine.jobs.get("acme", found.best)).state is State.PAUSED


async def test_a_sweep_whose_best_member_trains_again_can_be_cancelled(database: Database, trainer: Trainer) -> None:
    machine = Machine(database, {1: 1.0, 2: 2.0})
    found = await machine.run(await machine.sweeps.create("acme", "ada", wanted(2), NOBODYS))
    trainer.later = LOST_SECONDS + 1.0
    await trainer.results.train_again(await machine.jobs.get("acme", found.best))
    cancelled = await machine.sweeps.cancel("acme", found.sweep)
    assert cancelled.state is SweepState.CANCELLED
    assert all(member.job.state is State.CANCELLED for member in cancelled.members)
