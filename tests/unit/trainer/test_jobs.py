"""What several callers and workers do to jobs at once, on both databases."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.trainer.data.checker import Checker
from services.trainer.data.datasets import Datasets
from services.trainer.job import Event, EventKind, Job, Move, Order, Progress, State
from services.trainer.jobs import Changed, Jobs
from services.trainer.scheduler import begin
from services.trainer.settings import Settings
from services.trainer.store import DatasetRow

ROUNDS = 10
ORDER = Order("m", "rows", "", "tiny", "sha256:base", Settings(), "")


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database: what holds on one kind holds on the other."""
    url = f"sqlite:///{tmp_path}/t.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_database(url, "services.trainer.migrations") as opened:
        yield opened


async def admitted() -> None:
    return None


def jobs_in(database: Database, changed: Changed = lambda _: None) -> Jobs:
    """The verbs over a database."""
    ids = itertools.count(1)
    now = partial(datetime.now, UTC)
    return Jobs(database, now=now, new_id=lambda: f"j{next(ids)}", admit=admitted, changed=changed)


@pytest.fixture
def jobs(database: Database) -> Jobs:
    """The verbs."""
    return jobs_in(database)


async def stored(database: Database, name: str = "rows") -> None:
    """Make a dataset's row; its bytes do not matter here."""
    numbers = dict.fromkeys(("rows", "size_bytes", "tokens", "max_row_tokens", "supervised_tokens"), 10)
    row = {"tenant": "acme", "dataset": name, "digest": f"sha256:{name}", "filename": name, "format": "chat"}
    await database.write(lambda session: session.add(DatasetRow(**row, **numbers, created_at=1.0)))


async def queued(jobs: Jobs, dataset: str = "rows") -> Job:
    return await jobs.create(
        "acme", "ada", replace(ORDER, dataset=dataset), IdempotencyKey("acme", "CreateJob", "", b"")
    )


async def gapless(jobs: Jobs, job: Job) -> list[Event]:
    """The job's events, which are numbered from 1."""
    events, _ = await jobs.events("acme", job.job, 0, 1000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return events


def step(number: int) -> Event:
    return Event(EventKind.STEP, State.RUNNING, Progress(number, 100), datetime.now(UTC))


async def test_reports_that_come_together_are_all_kept_in_one_order(database: Database, jobs: Jobs) -> None:
    await stored(database)
    job = await queued(jobs)
    await asyncio.gather(*(jobs.record(job, [step(number), step(number)]) for number in range(1, 31)))
    events = await gapless(jobs, job)
    assert len(events) == 61
    assert (await jobs.get("acme", job.job)).progress == events[-1].progress


async def test_a_cancellation_counts_whatever_else_comes_with_it(database: Database, jobs: Jobs) -> None:
    await stored(database)
    for _ in range(ROUNDS):
        job = await queued(jobs)
        calls = (jobs.pause("acme", job.job), jobs.cancel("acme", job.job), jobs.record(job, [step(1)]))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(answer, Failure) and answer.reason is Reason.JOB_FINISHED for answer in refusals)
        assert (await jobs.get("acme", job.job)).state is State.CANCELLED
        states = [event.state for event in await gapless(jobs, job) if event.kind is EventKind.STATE]
        assert states in ([State.QUEUED, State.PAUSED, State.CANCELLED], [State.QUEUED, State.CANCELLED])


async def test_a_job_that_is_begun_and_paused_at_once_is_one_or_the_other_first(database: Database, jobs: Jobs) -> None:
    await stored(database)
    for _ in range(ROUNDS):
        job = await queued(jobs)
        await asyncio.gather(jobs.decide(job, begin), jobs.pause("acme", job.job))
        states = [event.state for event in await gapless(jobs, job)]
        assert states in ([State.QUEUED, State.PAUSED], [State.QUEUED, State.RUNNING, State.PAUSING])


async def test_a_paused_job_is_queued_again_once(database: Database, jobs: Jobs) -> None:
    await stored(database)
    for _ in range(ROUNDS):
        job = await queued(jobs)
        await jobs.pause("acme", job.job)
        calls = (jobs.resume("acme", job.job) for _ in range(3))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, BaseException)]
        assert [getattr(answer, "reason", answer) for answer in refusals] == [Reason.JOB_NOT_PAUSED] * 2
        assert len(await gapless(jobs, job)) == 3


async def test_decisions_of_two_workers_follow_one_another(database: Database, jobs: Jobs) -> None:
    await stored(database)
    job = await queued(jobs)
    await jobs.decide(job, begin)

    def crashed(now: Job) -> Move:
        return Move(State.RUNNING, "lost", {"crashes": now.crashes + 1})

    await asyncio.gather(*(jobs.decide(job, crashed) for _ in range(20)))
    assert (await jobs.get("acme", job.job)).crashes == 20
    await gapless(jobs, job)


async def test_a_dataset_is_deleted_or_used_and_never_both(database: Database, jobs: Jobs, tmp_path: Path) -> None:
    datasets = Datasets(
        database,
        stored=tmp_path / "stored",
        uploads=tmp_path / "uploads",
        max_bytes=1,
        checker=Checker(tmp_path),
        blocking=asyncio.to_thread,
        now=lambda: datetime.now(UTC),
    )
    for number in range(ROUNDS):
        name = f"rows{number}"
        await stored(database, name)
        calls = (queued(jobs, name), datasets.delete("acme", name))
        used, deleted = await asyncio.gather(*calls, return_exceptions=True)
        if isinstance(used, Job):
            assert isinstance(deleted, Failure)
            assert deleted.reason is Reason.DATASET_IN_USE
            await datasets.get("acme", name)
        else:
            assert isinstance(used, Failure)
            assert (used.reason, deleted) == (Reason.DATASET_NOT_FOUND, None)


async def test_a_job_that_cannot_be_taken_on_is_not_queued(tmp_path: Path) -> None:
    async def full() -> None:
        raise Failure(Reason.DISK_FULL, what="the training jobs")

    async with open_database(f"sqlite:///{tmp_path}/t.db", "services.trainer.migrations") as database:
        await stored(database)
        now = partial(datetime.now, UTC)
        jobs = Jobs(database, now=now, new_id=lambda: "j", admit=full, changed=lambda _: None)
        with pytest.raises(Failure) as refused:
            await queued(jobs)
        assert refused.value.reason is Reason.DISK_FULL
        assert await jobs.unfinished() == []
