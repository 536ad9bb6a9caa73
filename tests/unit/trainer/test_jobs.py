"""What several callers and workers do to jobs at once, on both databases."""

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.chassis import process_identity
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.trainer.data.checker import Checker
from services.trainer.job import Event, EventKind, Job, Move, Order, Progress, State
from services.trainer.jobs import Changed, Jobs
from services.trainer.leases import Leases
from services.trainer.lost_results import Results
from services.trainer.planning import Allowance
from services.trainer.reports import Report, Reports
from services.trainer.scheduling.state import Priority
from services.trainer.settings import Settings
from services.trainer.store import DatasetRow
from services.trainer.work import Line, Said
from tests.unit.trainer.databases import DATABASES
from tests.unit.trainer.verbs import datasets_over

ROUNDS = 10
ORDER = Order("m", "rows", "", "tiny", "sha256:base", Settings(), "")


@pytest.fixture(params=DATABASES)
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    """An empty database: what holds on one kind holds on the other."""
    url = f"sqlite:///{tmp_path}/t.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    async with open_database(url, "services.trainer.migrations") as opened:
        yield opened


async def admitted() -> None:
    return None


def utc_now() -> datetime:
    """Return the time by the machine's clock."""
    return datetime.now(UTC)


def jobs_in(
    database: Database,
    changed: Changed = lambda _: None,
    ended: Callable[[Job], None] = lambda _: None,
    most_unfinished: int = 1000,
    now: Callable[[], datetime] = utc_now,
) -> Jobs:
    """The verbs over a database."""
    ids = itertools.count(1)
    return Jobs(
        database,
        now=now,
        new_id=lambda: f"j{next(ids)}",
        admit=admitted,
        most_unfinished=most_unfinished,
        changed=changed,
        ended=ended,
    )


@pytest.fixture
def jobs(database: Database) -> Jobs:
    """The verbs."""
    return jobs_in(database)


async def stored(database: Database, name: str = "rows") -> None:
    """Make a dataset's row; its bytes do not matter here."""
    numbers = dict.fromkeys(("rows", "size_bytes", "tokens", "max_row_tokens", "supervised_tokens"), 10)
    row = {
        "tenant": "acme",
        "dataset": name,
        "digest": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
        "filename": name,
        "format": "chat",
    }
    await database.write(lambda session: session.add(DatasetRow(**row, **numbers, created_at=1.0)))


async def queued(jobs: Jobs, dataset: str = "rows") -> Job:
    return await jobs.create(
        "acme", "ada", replace(ORDER, dataset=dataset), IdempotencyKey("acme", "CreateJob", "", b"")
    )


async def in_class(jobs: Jobs, priority: Priority, **fields: Any) -> Job:
    """A queued job of a class."""
    order = replace(ORDER, priority=priority, **fields)
    return await jobs.create("acme", "ada", order, IdempotencyKey("acme", "CreateJob", "", b""))


async def gapless(jobs: Jobs, job: Job) -> list[Event]:
    """The job's events, which are numbered from 1."""
    events, _ = await jobs.events("acme", job.job, 0, 1000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    return events


def leases_in(database: Database, owner: str = "", seconds: float = 60.0) -> Leases:
    """The leases of a trainer: ours, unless another is named."""
    now = partial(datetime.now, UTC)
    return Leases(database, owner or process_identity.own(), seconds, now=now, changed=lambda _: None)


def reports_in(database: Database) -> Reports:
    """Where reports are stored."""
    now = partial(datetime.now, UTC)
    return Reports(database, half_life_seconds=60.0, window_seconds=3600.0, now=now, changed=lambda _: None)


def results_in(
    database: Database, folder: Path, lost_seconds: float = 60.0, changed: Changed = lambda _: None
) -> Results:
    """The results in the folder of a trainer."""
    return Results(database, folder, lost_seconds, now=partial(datetime.now, UTC), changed=changed)


async def begun(database: Database, jobs: Jobs) -> Job:
    """A job that trains under a lease of ours."""
    job = await leases_in(database).claim(await queued(jobs), ("here",))
    assert job is not None
    return job


def said(job: Job, line: Line, seconds: float = 0.0) -> Report:
    return Report(job.tenant, job.job, job.lease.epoch, line, seconds)


def step(number: int, tokens: int = 0) -> Line:
    return Line(Said.STEP, Progress(number, 100, tokens))


async def test_steps_of_which_a_killed_trainer_never_heard_are_told_once_they_are_told_again(
    database: Database, jobs: Jobs
) -> None:
    await stored(database)
    job = await begun(database, jobs)
    reports = reports_in(database)
    evaluated = Line(Said.EVALUATION, Progress(4, 100, 40), evaluation={"loss": 1.5})
    await reports.store([said(job, step(number, 10 * number)) for number in (1, 2)])
    # The checkpoint of step 4 is on disk, its process and the trainer are gone; another goes on from it.
    remembered = [*(step(number, 10 * number) for number in (1, 2, 3, 4)), evaluated]
    reached = Progress(4, 100, 40)
    again = [*remembered, Line(Said.CHECKPOINT, reached), Line(Said.STARTED, reached), step(5, 50)]
    for _ in range(2):
        await reports.store([said(job, line) for line in again])
    events = await gapless(jobs, job)
    assert [event.progress.step for event in events if event.kind is EventKind.STEP] == [1, 2, 3, 4, 5]
    assert [event.progress.step for event in events if event.kind is EventKind.EVALUATION] == [4]
    assert [event.progress.step for event in events if event.kind is EventKind.CHECKPOINT] == [4]
    assert "continuing after step 4" in [event.message for event in events]


async def test_reports_that_come_together_are_all_kept_in_one_order(database: Database, jobs: Jobs) -> None:
    await stored(database)
    job = await begun(database, jobs)
    reports = reports_in(database)
    await asyncio.gather(
        *(reports.store([said(job, Line(Said.MESSAGE, message=str(number)))] * 2) for number in range(1, 31))
    )
    assert len(await gapless(jobs, job)) == 62


async def test_a_step_is_told_once_however_often_it_is_done(database: Database, jobs: Jobs) -> None:
    await stored(database)
    job = await begun(database, jobs)
    reports = reports_in(database)
    await reports.store([said(job, step(number)) for number in (1, 2, 3, 2, 3)])
    await reports.store([said(job, step(number)) for number in (3, 4)])
    steps = [event.progress.step for event in await gapless(jobs, job) if event.kind is EventKind.STEP]
    assert steps == [1, 2, 3, 4]
    assert (await jobs.get("acme", job.job)).progress.step == 4


async def test_a_checkpoint_is_told_with_the_step_that_it_is_of(database: Database, jobs: Jobs) -> None:
    await stored(database)
    job = await begun(database, jobs)
    written = Line(Said.CHECKPOINT, Progress(2, 100))
    # Written behind the steps' back; and told once, though the way to it is gone twice.
    await reports_in(database).store([said(job, line) for line in (step(2), step(3), written, step(2), written)])
    told = [(event.kind, event.progress.step) for event in await gapless(jobs, job)][-3:]
    assert told == [(EventKind.STEP, 2), (EventKind.STEP, 3), (EventKind.CHECKPOINT, 2)]
    assert (await jobs.get("acme", job.job)).progress.step == 3


async def test_what_comes_under_an_earlier_lease_changes_nothing(database: Database, jobs: Jobs) -> None:
    await stored(database)
    zombie = await begun(database, jobs)
    await leases_in(database).give_up(zombie)
    later = await leases_in(database).claim(await jobs.get("acme", zombie.job), ("here",))
    assert later is not None
    reports = reports_in(database)
    assert await reports.store([said(zombie, step(9)), said(zombie, Line(Said.USAGE), 5.0)]) == {zombie.job}
    assert await reports.store([said(later, step(1))]) == set()
    steps = [event.progress.step for event in await gapless(jobs, later) if event.kind is EventKind.STEP]
    assert steps == [1]
    assert "acme" not in {
        tenant for tenant, row in (await reports.usage()).items() if row.used_seconds or row.window_tokens
    }


async def test_whoever_holds_several_jobs_waits_for_nobody_who_waits_for_him(database: Database, jobs: Jobs) -> None:
    await stored(database)
    leases, reports = leases_in(database), reports_in(database)
    held = [await begun(database, jobs) for _ in range(6)]
    for number in range(1, ROUNDS):
        lines = [said(job, step(number)) for job in held]
        await asyncio.gather(
            reports.store(lines), leases.renew(), reports.store(lines[::-1]), leases.renew(), begun(database, jobs)
        )
    for job in held:
        steps = [event.progress.step for event in await gapless(jobs, job) if event.kind is EventKind.STEP]
        assert steps == list(range(1, ROUNDS))


async def test_use_is_charged_to_the_tenant_and_kept_with_the_job(database: Database, jobs: Jobs) -> None:
    await stored(database)
    job = await begun(database, jobs)
    reports = reports_in(database)
    await reports.store([said(job, step(1, 100)), said(job, Line(Said.USAGE), 2.0), said(job, step(2, 250))])
    await reports.store([said(job, step(1, 100)), said(job, Line(Said.USAGE), 1.0)])
    used = (await reports.usage())["acme"]
    assert used.used_seconds == pytest.approx(3.0, abs=0.2)
    assert used.window_tokens == 250
    assert (await jobs.get("acme", job.job)).measures.charged_seconds == 3.0


async def test_of_two_trainers_one_gets_the_job(database: Database, jobs: Jobs) -> None:
    await stored(database)
    for _ in range(ROUNDS):
        job = await queued(jobs)
        claims = (leases_in(database).claim(job, ("a",)), leases_in(database, "elsewhere/1/1.00").claim(job, ("b",)))
        assert [claimed is None for claimed in await asyncio.gather(*claims)].count(False) == 1
        assert (await jobs.get("acme", job.job)).attempts == 1


@pytest.mark.parametrize("granted", [Allowance(concurrent_jobs=1), Allowance(resident_bytes=19)], ids=["jobs", "bytes"])
async def test_two_trainers_give_a_tenant_no_more_than_it_may_have(
    database: Database, jobs: Jobs, granted: Allowance
) -> None:
    """Each has planned on what the table was before the other took anything."""
    await stored(database)
    ours, theirs = leases_in(database), leases_in(database, "elsewhere/1/1.00")
    order = replace(ORDER, job_bytes=10, base_bytes=1000)
    for _ in range(ROUNDS):
        both = [await jobs.create("acme", "ada", order, IdempotencyKey("acme", "CreateJob", "", b"")) for _ in range(2)]
        claims = await asyncio.gather(ours.claim(both[0], ("a",), granted), theirs.claim(both[1], ("b",), granted))
        (won,) = (claimed for claimed in claims if claimed is not None)
        (waiting,) = (job for job in both if job.job != won.job)
        await jobs.decide(won, lambda _: Move(State.FAILED, "over"))
        then = await ours.claim(waiting, ("a",), granted)
        assert then is not None, "the other has its turn"
        await jobs.decide(then, lambda _: Move(State.FAILED, "over"))


async def test_a_job_of_a_trainer_that_is_silent_counts_for_nobodys_quota(database: Database, jobs: Jobs) -> None:
    await stored(database)
    silent = leases_in(database, "elsewhere/1/1.00", -1.0)
    assert await silent.claim(await queued(jobs), ("a",))
    assert await leases_in(database).claim(await queued(jobs), ("b",), Allowance(concurrent_jobs=1))


async def test_a_lease_of_a_trainer_that_is_silent_ends_and_one_that_renews_stays(
    database: Database, jobs: Jobs
) -> None:
    await stored(database)
    silent, renewing = leases_in(database, "elsewhere/1/1.00", -1.0), leases_in(database, "elsewhere/2/1.00")
    ours = leases_in(database)
    job = await silent.claim(await queued(jobs), ("a",))
    assert job is not None
    taken = await ours.claim(job, ("b",))
    assert taken is not None
    assert taken.lease.epoch == job.lease.epoch + 1
    other = await leases_in(database, "elsewhere/2/1.00", -1.0).claim(await queued(jobs), ("a",))
    assert other is not None
    await renewing.renew()
    assert await ours.claim(other, ("b",)) is None


async def test_a_lease_of_a_process_of_this_machine_that_is_gone_is_free_at_once(
    database: Database, jobs: Jobs
) -> None:
    await stored(database)
    gone = process_identity.own().rsplit("/", 1)[0] + "/1.00"
    job = await leases_in(database, gone).claim(await queued(jobs), ("a",))
    assert job is not None
    assert await leases_in(database).claim(job, ("b",)) is not None


async def test_a_cancellation_counts_whatever_else_comes_with_it(database: Database, jobs: Jobs) -> None:
    await stored(database)
    for _ in range(ROUNDS):
        job = await queued(jobs)
        calls = (jobs.pause("acme", job.job), jobs.cancel("acme", job.job), leases_in(database).claim(job, ()))
        answers = await asyncio.gather(*calls, return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, BaseException)]
        assert all(isinstance(answer, Failure) and answer.reason is Reason.JOB_FINISHED for answer in refusals)
        states = [event.state for event in await gapless(jobs, job) if event.kind is EventKind.STATE]
        assert states[-1] in (State.CANCELLED, State.CANCELLING)
        assert (states[-1] is State.CANCELLING) == (State.RUNNING in states)


async def test_a_job_that_is_begun_and_paused_at_once_is_one_or_the_other_first(database: Database, jobs: Jobs) -> None:
    await stored(database)
    for _ in range(ROUNDS):
        job = await queued(jobs)
        await asyncio.gather(leases_in(database).claim(job, ()), jobs.pause("acme", job.job))
        states = [event.state for event in await gapless(jobs, job)]
        assert states in ([State.QUEUED, State.PAUSED], [State.QUEUED, State.RUNNING, State.PAUSING])


async def test_a_deadline_that_has_passed_is_refused_and_a_repeat_of_an_order_from_before_it_is_not(
    database: Database,
) -> None:
    await stored(database)
    moment = 1_900_000_000.0
    jobs = jobs_in(database, now=lambda: datetime.fromtimestamp(moment, UTC))
    key = IdempotencyKey("acme", "CreateJob", "r", b"")
    order = replace(ORDER, deadline=moment + 1)
    made = await jobs.create("acme", "ada", order, key)
    moment += 1
    assert (await jobs.create("acme", "ada", order, key)).job == made.job
    with pytest.raises(Failure, match="2030-03-17 17:46:41") as refused:
        await jobs.create("acme", "ada", order, IdempotencyKey("acme", "CreateJob", "", b""))
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "deadline")


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
    job = await begun(database, jobs)

    def crashed(now: Job) -> Move:
        return Move(State.RUNNING, "lost", {"crashes": now.crashes + 1})

    await asyncio.gather(*(jobs.decide(job, crashed) for _ in range(20)))
    assert (await jobs.get("acme", job.job)).crashes == 20
    await gapless(jobs, job)


async def test_a_dataset_is_deleted_or_used_and_never_both(database: Database, jobs: Jobs, tmp_path: Path) -> None:
    datasets = datasets_over(database, tmp_path, Checker(tmp_path))
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
        jobs = Jobs(database, now=now, new_id=lambda: "j", admit=full, most_unfinished=1000, changed=lambda _: None)
        with pytest.raises(Failure) as refused:
            await queued(jobs)
        assert refused.value.reason is Reason.DISK_FULL
        assert await jobs.unfinished() == []


async def test_a_tenant_has_so_many_jobs_that_have_not_ended_and_no_more(database: Database) -> None:
    await stored(database)
    jobs = jobs_in(database, most_unfinished=2)
    key = IdempotencyKey("acme", "CreateJob", "8c5a6e0e-6f43-4d0b-9d0a-6c2c1f1c7d10", b"same")
    first = await jobs.create("acme", "ada", ORDER, key)
    second = await queued(jobs)
    await jobs.pause("acme", second.job)
    with pytest.raises(Failure) as refused:
        await queued(jobs)
    assert refused.value.reason is Reason.JOBS_EXHAUSTED
    assert (refused.value.variables["unfinished"], refused.value.variables["limit"]) == ("2", "2")
    assert await jobs.create("acme", "ada", ORDER, key) == first, "a repeat is the first response"
    await jobs.cancel("acme", second.job)
    await queued(jobs)
