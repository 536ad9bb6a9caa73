"""An estimate refuses what an order would be refused for, or says so."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

import pytest

from services.chassis.database import Database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.trainer.estimates import Estimate, Estimates
from services.trainer.job import Job, Order
from services.trainer.jobs import Jobs
from services.trainer.needs import Architecture
from services.trainer.planning import Allowance
from services.trainer.rough_speed import Rough
from services.trainer.settings import Objective, Settings
from services.trainer.work import Line, Said
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_jobs import ORDER, begun, database, jobs, reports_in, said, step, stored

__all__ = ["database", "jobs"]

SHAPE = Architecture(hidden_size=32, intermediate_size=64, layers=2, vocabulary=100, tied=True, linears={})


async def _nothing(inputs: int, outputs: int) -> Mapping[str, float]:
    return {}


UNMEASURABLE = Rough(_nothing)


async def refusal(asked: Callable[[], Awaitable[object]]) -> tuple[Reason, str | None, str]:
    """What a call is refused with."""
    with pytest.raises(Failure) as refused:
        await asked()
    return refused.value.reason, refused.value.field, refused.value.sentence


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dataset": "absent"}, Reason.DATASET_NOT_FOUND),
        ({"validation_dataset": "absent"}, Reason.DATASET_NOT_FOUND),
        ({"settings": Settings(objective=Objective.DPO)}, Reason.FIELD_INVALID),
        ({"depends_on": ("absent",)}, Reason.JOB_NOT_FOUND),
        ({"depends_on": ("j1",)}, Reason.FIELD_INVALID),
        ({"deadline": 1.0}, Reason.FIELD_INVALID),
    ],
    ids=["no dataset", "no validation dataset", "other rows", "no job to follow", "a job that was cancelled", "late"],
)
async def test_an_estimate_fails_as_the_order_would(
    database: Database, jobs: Jobs, fields: dict[str, object], reason: Reason
) -> None:
    await stored(database)
    await jobs.create("acme", "ada", ORDER, IdempotencyKey("acme", "CreateJob", "", b""))
    await jobs.cancel("acme", "j1")
    order = replace(ORDER, **fields)  # type: ignore[arg-type]  # fields of Order

    async def created() -> Job:
        return await jobs.create("acme", "ada", order, IdempotencyKey("acme", "CreateJob", "", b""))

    async def estimated() -> Estimate:
        return await Estimates(database, jobs, UNMEASURABLE).of("acme", order, SHAPE, "")

    found = await refusal(estimated)
    assert found[0] is reason
    assert found == await refusal(created)


async def test_an_estimate_of_an_order_that_would_be_taken_queues_nothing(database: Database, jobs: Jobs) -> None:
    await stored(database)
    found = await Estimates(database, jobs, UNMEASURABLE).of("acme", ORDER, SHAPE, "")
    assert (found.fits, found.order.dataset_digest[:7]) == (True, "sha256:")
    assert await jobs.unfinished() == []


async def test_the_time_of_a_first_job_is_a_rough_one_and_that_of_the_next_is_by_what_it_measured(
    database: Database, jobs: Jobs
) -> None:
    async def million(inputs: int, outputs: int) -> Mapping[str, float]:
        return {"bfloat16": 1e6}

    await stored(database)
    rough = Rough(million)
    estimates = Estimates(database, jobs, rough)
    speed = await rough.tokens_per_second(SHAPE, ORDER.settings)
    first = await estimates.of("acme", ORDER, SHAPE, "")
    assert first.tokens_per_second == 0.0
    assert first.seconds == pytest.approx(first.tokens / speed)
    assert (await Estimates(database, jobs, UNMEASURABLE).of("acme", ORDER, SHAPE, "")).seconds == 0.0

    job = await begun(database, jobs)
    await reports_in(database).store([said(job, step(1, 400)), said(job, Line(Said.USAGE), seconds=2.0)])
    second = await estimates.of("acme", ORDER, SHAPE, "")
    assert (second.tokens_per_second, second.seconds) == (200.0, second.tokens / 200)


async def test_a_deadline_that_by_the_estimate_cannot_be_met_is_warned_of(database: Database, jobs: Jobs) -> None:
    await stored(database)
    job = await begun(database, jobs)
    await reports_in(database).store([said(job, step(1, 400)), said(job, Line(Said.USAGE), seconds=200.0)])
    now = 1_900_000_000.0
    estimates = Estimates(database, jobs, UNMEASURABLE, now=lambda: now)
    seconds = (await estimates.of("acme", ORDER, SHAPE, "")).seconds
    assert seconds > 1
    soon, later = replace(ORDER, deadline=now + seconds - 1), replace(ORDER, deadline=now + seconds)
    orders = [soon, later, ORDER, replace(soon, dataset="absent"), replace(soon, deadline=now)]
    warned = await estimates.warned("acme", orders, SHAPE)
    assert warned[1:] == orders[1:]
    (warning,) = warned[0].warnings
    assert f"it trains for {seconds:.0f} s" in warning
    assert f"the deadline is in {seconds - 1:.0f} s: order less" in warning
    assert warning in (await estimates.of("acme", soon, SHAPE, "")).warnings
    assert warning not in (await estimates.of("acme", later, SHAPE, "")).warnings


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (replace(ORDER, processes=2), "lora trains in one"),
        (replace(ORDER, job_bytes=1 << 50), "the largest machine gives training"),
        (replace(ORDER, job_bytes=2 << 20), "your jobs may hold 1 MiB in all"),
    ],
    ids=["processes", "memory", "allowance"],
)
async def test_what_could_never_be_trained_here_does_not_fit(world: World, order: Order, words: str) -> None:
    async with world.running(acme=Allowance(resident_bytes=1 << 20)) as runner:
        misfit = runner.misfit("acme", order)
        found = await Estimates(world.database, world.jobs, UNMEASURABLE).of("acme", order, SHAPE, misfit)
        with pytest.raises(Failure) as refused:
            runner.require_fit("acme", order)
    assert not found.fits
    assert words in found.warnings[-1]
    assert found.warnings[-1] in refused.value.sentence
