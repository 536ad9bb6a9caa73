"""Settings that nothing would come of are refused when the job is ordered, by the path of their field."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller
from tests.contract.trainer.test_datasets import failed
from tests.unit.trainer.tiny import rows_text

FULL_WITH_RANK = training_pb2.TrainingSettings(
    method=training_pb2.METHOD_FULL, lora=training_pb2.LoraSettings(rank=4), validation_ratio=0.2
)
# Refused by the base, not by what else the request says.
NO_SUCH_LAYER = training_pb2.TrainingSettings(
    method=training_pb2.METHOD_DORA, lora=training_pb2.LoraSettings(exclude_modules=["query"]), validation_ratio=0.2
)


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    """A stored dataset of questions and answers."""
    return str(caller.upload(rows_text(9).encode(), "unhonoured.jsonl").dataset)


def refusal(call: Callable[..., Any], request: Any, caller: Caller) -> tuple[str, list[str]]:
    """Reason of a refusal, and the fields that it names."""
    with pytest.raises(grpc.RpcError) as refused:
        call(request, metadata=caller.metadata)
    status, reason, violations = failed(refused.value)
    assert status == grpc.StatusCode.INVALID_ARGUMENT
    return reason, [field for field, _ in violations]


@pytest.mark.parametrize(
    ("settings", "reason", "field"),
    [
        (FULL_WITH_RANK, "FIELD_INVALID", "lora.rank"),
        (NO_SUCH_LAYER, "SETTINGS_UNFIT", "lora.exclude_modules"),
    ],
    ids=["contradicting", "unknown to the base"],
)
def test_settings_are_refused_wherever_they_are_ordered(
    caller: Caller, dataset: str, settings: training_pb2.TrainingSettings, reason: str, field: str
) -> None:
    job = training_pb2.CreateJobRequest(model="m", dataset=dataset, settings=settings)
    bare = training_pb2.CreateJobRequest(model="m", dataset=dataset)
    sound = training_pb2.TrainingSettings(validation_ratio=0.2)
    axes = [training_pb2.SweepAxis(setting="epochs", values=["1", "2"])]
    training = caller.training
    asked = training_pb2.EstimateJobRequest(job=job)
    around = training_pb2.CreateSweepRequest(job=job, axes=axes)
    written = training_pb2.CreateSweepRequest(job=bare, members=[sound, settings])
    assert refusal(training.CreateJob, job, caller) == (reason, [f"settings.{field}"])
    assert refusal(training.EstimateJob, asked, caller) == (reason, [f"job.settings.{field}"])
    assert refusal(training.CreateSweep, around, caller) == (reason, [f"job.settings.{field}"])
    assert refusal(training.CreateSweep, written, caller) == (reason, [f"members[1].{field}"])
    listed = training.ListJobs(training_pb2.ListJobsRequest(), metadata=caller.metadata).jobs
    assert dataset not in {job.dataset.partition("@")[0] for job in listed}


def test_settings_as_a_job_shows_them_may_be_ordered_again(caller: Caller, dataset: str) -> None:
    settings = training_pb2.TrainingSettings(epochs=1, max_steps=1)
    first = caller.create(model="shown", dataset=dataset, settings=settings)
    again = caller.create(model="shown", dataset=dataset, settings=first.settings)
    assert again.settings == first.settings
    assert first.settings.keep == training_pb2.KEEP_LAST
    for job in (first, again):
        assert caller.finished(job.job).state == training_pb2.JOB_STATE_SUCCEEDED
