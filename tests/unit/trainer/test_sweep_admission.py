"""What could never be trained here, or may not be ordered, is refused whole, and an estimate says so beforehand."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.trainer.v1 import training_pb2

from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.trainer.bases import Chosen
from services.trainer.estimates import Estimates
from services.trainer.job import Order
from services.trainer.needs import Architecture
from services.trainer.planning import Allowance
from services.trainer.rough_speed import Rough
from services.trainer.row_needs import Data
from services.trainer.runner import Runner
from services.trainer.scheduling.state import Priority
from services.trainer.servicer import TrainingServicer
from tests.unit.trainer.scripted import World

ASKING = RequestContext("acme", "ada", frozenset({Role.MEMBER}), Bearer(), "c", None, "/CreateSweep")
SHAPE = Architecture(hidden_size=32, intermediate_size=64, layers=2, vocabulary=100, tied=True, linears={})


async def _slow(inputs: int, outputs: int) -> Mapping[str, float]:
    return {"bfloat16": 1e5}


# A machine on which a token of that shape takes about a second.
ONE_A_SECOND = Rough(_slow)


class Bases:
    """One base, on which a rank over 8 takes more than any machine has."""

    async def chosen(self, name: str) -> Chosen:
        return Chosen("tiny", "sha256:base", "", SHAPE)

    def completed(self, order: Order, base: Chosen, data: Data) -> Order:
        return replace(order, job_bytes=1 << 50 if order.settings.rank > 8 else 1 << 20)


class Starts:
    """Nothing is gone on from."""

    async def chosen(self, name: str, base: Chosen) -> None:
        return None


def servicer(world: World, runner: Runner) -> TrainingServicer:
    """Takes orders for the world's runner."""
    verbs: dict[str, Any] = dict.fromkeys(("datasets", "bell", "jobs_dir", "publications"))
    verbs |= {"jobs": world.jobs, "sweeps": world.sweeps, "bases": Bases(), "starts": Starts(), "runner": runner}
    verbs["estimates"] = Estimates(world.database, world.jobs, ONE_A_SECOND)
    return TrainingServicer(cast("Any", SimpleNamespace(**verbs)), cast("Any", None))


def sweep_of(*ranks: str, **fields: Any) -> training_pb2.CreateSweepRequest:
    """A request for a sweep over ranks."""
    settings = training_pb2.TrainingSettings(validation_ratio=0.2, evaluation_steps=1, epochs=300)
    return training_pb2.CreateSweepRequest(
        job=training_pb2.CreateJobRequest(model="m", dataset="rows", settings=settings, **fields),
        axes=[training_pb2.SweepAxis(setting="lora.rank", values=ranks)],
    )


def job_of(**fields: Any) -> training_pb2.CreateJobRequest:
    """A request for a job of a small rank."""
    job = sweep_of(**fields).job
    job.settings.lora.rank = 4
    return job


async def test_a_member_that_does_not_fit_refuses_the_sweep_with_the_arithmetic(world: World) -> None:
    async with world.running() as runner:
        with serving(ASKING), pytest.raises(Failure) as refused:
            await servicer(world, runner).CreateSweep(sweep_of("4", "16"), None)
    assert refused.value.reason is Reason.SETTINGS_UNFIT
    assert "1048576.0 GiB for the job" in refused.value.sentence
    assert await world.sweeps.page("acme", 10, None) == []
    assert await world.jobs.unfinished() == []


async def test_a_class_above_what_the_tenant_may_order_is_refused_wherever_it_is_asked_for(world: World) -> None:
    sweep = sweep_of("4", "8", priority=training_pb2.PRIORITY_HIGH)
    granted = Allowance(highest_priority=Priority.NORMAL)
    async with world.running(acme=granted) as runner:
        served = servicer(world, runner)
        for call, request, field in (
            (served.CreateSweep, sweep, "job.priority"),
            (served.CreateJob, sweep.job, "priority"),
            (served.EstimateJob, training_pb2.EstimateJobRequest(job=sweep.job), "job.priority"),
        ):
            with serving(ASKING), pytest.raises(Failure, match=r"\bHIGH\b.*\bNORMAL\b") as refused:
                await cast("Any", call)(request, None)
            assert refused.value.field == field
    assert await world.jobs.unfinished() == []


async def test_members_and_jobs_that_cannot_meet_their_deadlines_are_queued_with_a_warning(world: World) -> None:
    # Eight rows of a token each, 300 times over, one token a second.
    deadline = Timestamp(seconds=int(time.time()) + 60)
    async with world.running() as runner:
        served = servicer(world, runner)
        with serving(ASKING):
            made = await served.CreateSweep(sweep_of("4", "8", deadline=deadline), None)
            alone = await served.CreateJob(job_of(deadline=deadline), None)
            timely = await served.CreateJob(job_of(), None)
    warnings = [list(job.warnings) for job in (*made.sweep.members, alone.job)]
    assert [len(said) for said in warnings] == [1, 1, 1]
    assert all("a later deadline" in warning for (warning,) in warnings)
    assert list(timely.job.warnings) == []


def searched(*ranks: str, **fields: Any) -> training_pb2.CreateSweepRequest:
    """A sweep over ranks, with more fields of its own."""
    request = training_pb2.CreateSweepRequest(**fields)
    request.MergeFrom(sweep_of(*ranks))
    return request


@asynccontextmanager
async def asked(world: World) -> AsyncIterator[TrainingServicer]:
    """The RPCs, to a caller; nothing is queued by what is asked inside."""
    async with world.running() as runner:
        with serving(ASKING):
            yield servicer(world, runner)
        assert await world.sweeps.page("acme", 10, None) == []
        assert await world.jobs.unfinished() == []


async def test_an_estimate_says_what_all_members_take_together_and_what_does_not_fit(world: World) -> None:
    async with asked(world) as served:
        found = await served.EstimateSweep(training_pb2.EstimateSweepRequest(sweep=searched("4", "8")), None)
        assert (found.members, found.fits, found.memory_bytes) == (2, True, 2 << 20)
        assert found.steps > 0
        assert found.tokens > 0
        late = sweep_of("4", "16", deadline=Timestamp(seconds=int(time.time()) + 60))
        unfit = await served.EstimateSweep(training_pb2.EstimateSweepRequest(sweep=late), None)
    assert not unfit.fits
    assert "1048576.0 GiB for the job" in unfit.warnings[-1]
    assert any("a later deadline" in warning for warning in unfit.warnings)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (searched("4", rungs=[0.5, 0.25]), "sweep.rungs"),
        (searched("4", "4.5"), "sweep.axes[0].values"),
        (searched("4", kept_ratio=0.3), "sweep.kept_ratio"),
    ],
)
async def test_an_estimate_fails_as_the_sweep_would(
    world: World, wanted: training_pb2.CreateSweepRequest, field: str
) -> None:
    async with asked(world) as served:
        with pytest.raises(Failure) as created:
            await served.CreateSweep(wanted, None)
        with pytest.raises(Failure) as estimated:
            await served.EstimateSweep(training_pb2.EstimateSweepRequest(sweep=wanted), None)
    assert (estimated.value.field, estimated.value.reason) == (field, created.value.reason)
    assert estimated.value.sentence == f"sweep.{created.value.sentence}"
