"""Promise 3 at the trainer: whatever one tenant tries with another's datasets, jobs and sweeps, they look like none."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.trainer.v1 import dataset_pb2, training_pb2

from services.chassis.status import from_rpc_error
from tests.contract.trainer.deployment import Caller, Deployment
from tests.contract.trainer.test_jobs import LONG, SHORT
from tests.unit.trainer.tiny import rows_text

SWEPT = [training_pb2.TrainingSettings(epochs=epochs, validation_ratio=0.2) for epochs in (999, 1000)]
MISSING_JOB = "00000000-0000-7000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Names:
    """Names of things: somebody's, or nobody's."""

    dataset: str
    digest: str
    job: str
    sweep: str


def _job(request: Callable[..., Any]) -> Callable[[Names, str], Any]:
    return lambda names, own: request(job=names.job)


def _order(**fields: Callable[[Names], Any]) -> Callable[[Names, str], Any]:
    """An order of the stranger's own, with one thing in it that is not."""
    return lambda names, own: training_pb2.CreateJobRequest(
        **{"model": "mine", "dataset": own, "settings": SHORT, **{name: find(names) for name, find in fields.items()}}
    )


TRIES: dict[str, tuple[str, Callable[[Names, str], Any]]] = {
    "get a job": ("GetJob", _job(training_pb2.GetJobRequest)),
    "cancel a job": ("CancelJob", _job(training_pb2.CancelJobRequest)),
    "pause a job": ("PauseJob", _job(training_pb2.PauseJobRequest)),
    "resume a job": ("ResumeJob", _job(training_pb2.ResumeJobRequest)),
    "watch a job": ("WatchJob", _job(training_pb2.WatchJobRequest)),
    "write on a job": ("UpdateJob", _job(training_pb2.UpdateJobRequest)),
    "list its events": ("ListJobEvents", _job(training_pb2.ListJobEventsRequest)),
    "list checkpoints": ("ListCheckpoints", _job(training_pb2.ListCheckpointsRequest)),
    "publish a checkpoint": ("PublishCheckpoint", _job(training_pb2.PublishCheckpointRequest)),
    "get a sweep": ("GetSweep", lambda names, own: training_pb2.GetSweepRequest(sweep=names.sweep)),
    "cancel a sweep": ("CancelSweep", lambda names, own: training_pb2.CancelSweepRequest(sweep=names.sweep)),
    "train on it": ("CreateJob", _order(dataset=lambda names: names.dataset)),
    "train on its digest": ("CreateJob", _order(dataset=lambda names: names.digest)),
    "judge by it": ("CreateJob", _order(validation_dataset=lambda names: names.dataset)),
    "follow a job": ("CreateJob", _order(depends_on=lambda names: [names.job])),
    "estimate on it": (
        "EstimateJob",
        lambda names, own: training_pb2.EstimateJobRequest(job=_order(dataset=lambda _: names.dataset)(names, own)),
    ),
    "sweep over it": (
        "CreateSweep",
        lambda names, own: training_pb2.CreateSweepRequest(
            job=_order(dataset=lambda _: names.dataset, settings=lambda _: None)(names, own), members=SWEPT
        ),
    ),
    "estimate a sweep over it": (
        "EstimateSweep",
        lambda names, own: training_pb2.EstimateSweepRequest(
            sweep=training_pb2.CreateSweepRequest(
                job=_order(dataset=lambda _: names.dataset, settings=lambda _: None)(names, own), members=SWEPT
            )
        ),
    ),
    "fill a recipe from it": (
        "FillRecipe",
        lambda names, own: training_pb2.FillRecipeRequest(recipe="classify", dataset=names.dataset),
    ),
    "get a dataset": ("GetDataset", lambda names, own: dataset_pb2.GetDatasetRequest(dataset=names.dataset)),
    "get it by its digest": ("GetDataset", lambda names, own: dataset_pb2.GetDatasetRequest(dataset=names.digest)),
    "check a dataset": (
        "ValidateDataset",
        lambda names, own: dataset_pb2.ValidateDatasetRequest(dataset=names.dataset),
    ),
    "compare with it": (
        "ValidateDataset",
        lambda names, own: dataset_pb2.ValidateDatasetRequest(dataset=own, validation_dataset=names.dataset),
    ),
    "read its problems": (
        "ListDatasetProblems",
        lambda names, own: dataset_pb2.ListDatasetProblemsRequest(dataset=names.digest),
    ),
    "preview a dataset": (
        "PreviewDataset",
        lambda names, own: dataset_pb2.PreviewDatasetRequest(dataset=names.dataset),
    ),
    "delete a dataset": ("DeleteDataset", lambda names, own: dataset_pb2.DeleteDatasetRequest(dataset=names.dataset)),
}


@pytest.fixture(scope="module")
def stranger(deployment: Deployment, caller: Caller) -> Caller:
    """The owner of another tenant."""
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    with grpc.insecure_channel(deployment.addresses["access"]) as channel:
        access = access_pb2_grpc.AccessServiceStub(channel)
        access.CreateTenant(access_pb2.CreateTenantRequest(tenant=tenant), metadata=caller.metadata)
        roles = (access_pb2.ROLE_OWNER, access_pb2.ROLE_MEMBER)
        request = access_pb2.CreateKeyRequest(tenant=tenant, roles=roles)
        key = access.CreateKey(request, metadata=caller.metadata).api_key
    return replace(caller, metadata=(("authorization", f"Bearer {key}"),))


@pytest.fixture(scope="module")
def theirs(caller: Caller) -> Iterator[Names]:
    """What the other tenant has: a dataset, a job, a sweep."""
    stored = caller.upload(rows_text(6).encode(), "secret.jsonl")
    job = caller.create(model="secret", dataset=stored.dataset, settings=LONG).job
    order = training_pb2.CreateJobRequest(model="swept-secret", dataset=stored.dataset)
    request = training_pb2.CreateSweepRequest(job=order, members=SWEPT)
    sweep = caller.training.CreateSweep(request, metadata=caller.metadata).sweep.sweep
    yield Names(stored.dataset, stored.digest, job, sweep)
    caller.training.CancelSweep(training_pb2.CancelSweepRequest(sweep=sweep), metadata=caller.metadata)
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job), metadata=caller.metadata)
    caller.finished(job)


@pytest.fixture(scope="module")
def own(stranger: Caller) -> str:
    """A dataset of the stranger's own."""
    return str(stranger.upload(rows_text(5).encode(), "own.jsonl").dataset)


def answer(caller: Caller, rpc: str, request: Any, names: Names) -> tuple[str, str, str]:
    """Code, reason and sentence of a failure, without the names that were asked for."""
    stub = caller.training if hasattr(caller.training, rpc) else caller.datasets
    call = getattr(stub, rpc)
    with pytest.raises(grpc.RpcError) as refused:
        list(call(request, metadata=caller.metadata, timeout=60)) if rpc == "WatchJob" else call(
            request, metadata=caller.metadata, timeout=60
        )
    failure = from_rpc_error(refused.value)
    sentence = failure.message
    for name in (names.dataset, names.digest, names.job, names.sweep):
        sentence = sentence.replace(name, "NAME")
    return failure.code.name, failure.reason, sentence


@pytest.mark.parametrize("what", TRIES)
def test_what_is_anothers_and_what_is_not_there_get_the_same_answer(
    stranger: Caller, theirs: Names, own: str, what: str
) -> None:
    rpc, make = TRIES[what]
    digest = f"sha256:{uuid.uuid4().hex * 2}"
    nobodys = Names("nobodys", digest, MISSING_JOB, MISSING_JOB)
    answers = [answer(stranger, rpc, make(names, own), names) for names in (theirs, nobodys)]
    assert answers[0] == answers[1]
    assert answers[0][0] == "NOT_FOUND"


def test_every_call_that_takes_a_name_is_among_those_tried() -> None:
    services = (training_pb2.DESCRIPTOR, dataset_pb2.DESCRIPTOR)
    methods = {method for file in services for service in file.services_by_name.values() for method in service.methods}
    named = {"job", "sweep", "dataset"}
    taking = {method.name for method in methods if named & set(method.input_type.fields_by_name)}
    assert taking <= {rpc for rpc, _ in TRIES.values()}


def test_lists_show_the_own_tenant_alone(stranger: Caller, theirs: Names, own: str) -> None:
    def listed(rpc: str, request: Any) -> Any:
        stub = stranger.training if hasattr(stranger.training, rpc) else stranger.datasets
        return getattr(stub, rpc)(request, metadata=stranger.metadata)

    assert not listed("ListJobs", training_pb2.ListJobsRequest()).jobs
    assert not listed("ListSweeps", training_pb2.ListSweepsRequest()).sweeps
    assert [one.dataset for one in listed("ListDatasets", dataset_pb2.ListDatasetsRequest()).datasets] == [own]


def test_an_upload_does_not_tell_whether_somebody_else_has_the_bytes(stranger: Caller, theirs: Names) -> None:
    request = dataset_pb2.GetDatasetUploadRequest(sha256=theirs.digest.removeprefix("sha256:"))
    status = stranger.datasets.GetDatasetUpload(request, metadata=stranger.metadata).status
    assert (status.committed_bytes, status.complete) == (0, False)
