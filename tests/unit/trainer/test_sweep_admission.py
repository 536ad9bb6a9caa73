"""A sweep of which one member could never be trained here is refused whole, before any of it is queued."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from trivium.trainer.v1 import training_pb2

from services.chassis.context import Bearer, RequestContext, Role, serving
from services.chassis.errors import Failure, Reason
from services.trainer.bases import Chosen
from services.trainer.estimates import Estimates
from services.trainer.job import Order
from services.trainer.needs import Architecture
from services.trainer.row_needs import Data
from services.trainer.servicer import TrainingServicer
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_estimates import UNMEASURABLE

ASKING = RequestContext("acme", "ada", frozenset({Role.MEMBER}), Bearer(), "c", None, "/CreateSweep")
SHAPE = Architecture(hidden_size=32, intermediate_size=64, layers=2, vocabulary=100, tied=True, linears={})


class Bases:
    """One base, on which a rank over 8 takes more than any machine has."""

    async def chosen(self, name: str) -> Chosen:
        return Chosen("tiny", "sha256:base", "", SHAPE)

    def completed(self, order: Order, base: Chosen, data: Data) -> Order:
        return replace(order, job_bytes=1 << 50 if order.settings.rank > 8 else 1 << 20)


class Starts:
    """Nothing is gone on from."""

    async def chosen(self, name: str, base: Chosen) -> str:
        return ""


async def test_a_member_that_does_not_fit_refuses_the_sweep_with_the_arithmetic(world: World) -> None:
    settings = training_pb2.TrainingSettings(validation_ratio=0.2, evaluation_steps=1)
    wanted = training_pb2.CreateSweepRequest(
        job=training_pb2.CreateJobRequest(model="m", dataset="rows", settings=settings),
        axes=[training_pb2.SweepAxis(setting="lora.rank", values=["4", "16"])],
    )
    async with world.running() as runner:
        verbs: dict[str, Any] = dict.fromkeys(("jobs", "datasets", "bell", "jobs_dir", "publications"))
        verbs |= {"sweeps": world.sweeps, "bases": Bases(), "starts": Starts(), "runner": runner}
        verbs["estimates"] = Estimates(world.database, world.jobs, UNMEASURABLE)
        servicer = TrainingServicer(cast("Any", SimpleNamespace(**verbs)), cast("Any", None))
        with serving(ASKING), pytest.raises(Failure) as refused:
            await servicer.CreateSweep(wanted, None)
    assert refused.value.reason is Reason.SETTINGS_UNFIT
    assert "1048576.0 GiB for the job" in refused.value.sentence
    assert await world.sweeps.page("acme", 10, None) == []
    assert await world.jobs.unfinished() == []
