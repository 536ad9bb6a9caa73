"""Sweeps through the running service."""

import uuid

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.trainer.v1 import training_pb2
from trivium_client import Trivium
from trivium_client.nouns import SweepAxis, TrainingSettings

from tests.contract.trainer.deployment import Caller, Deployment
from tests.contract.trainer.test_datasets import failed
from tests.stack import eventually
from tests.unit.trainer.tiny import rows_text

SETTINGS = training_pb2.TrainingSettings(epochs=1000, batch_rows=1, validation_ratio=0.2, checkpoint_steps=1000000)


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    return str(caller.upload(rows_text(7).encode(), "swept.jsonl").dataset)


def request(dataset: str, **fields: object) -> training_pb2.CreateSweepRequest:
    """A grid of four."""
    job = training_pb2.CreateJobRequest(model="swept", dataset=dataset, settings=SETTINGS)
    axes = [
        training_pb2.SweepAxis(setting="lora.rank", values=["2", "4"]),
        training_pb2.SweepAxis(setting="learning_rate", values=["0.001", "0.01"]),
    ]
    return training_pb2.CreateSweepRequest(job=job, **{"axes": axes, "rungs": [0.5], **fields})  # type: ignore[arg-type]  # fields of the request


def test_a_sweep_is_a_job_for_each_of_its_members_until_it_is_cancelled(caller: Caller, dataset: str) -> None:
    wanted = request(dataset, request_id=str(uuid.uuid4()))
    first, again = (caller.training.CreateSweep(wanted, metadata=caller.metadata).sweep for _ in range(2))
    assert first.sweep == again.sweep
    assert first.state == training_pb2.SWEEP_STATE_RUNNING
    assert [dict(line.values) for line in first.table] == [
        {"lora.rank": rank, "learning_rate": rate} for rank in ("2", "4") for rate in ("0.001", "0.01")
    ]
    assert {job.sweep for job in first.members} == {first.sweep}
    assert [job.settings.lora.rank for job in first.members] == [2, 2, 4, 4]
    # Evaluated at the rung, so that waiting there changes nothing.
    assert {job.total_steps // job.settings.evaluation_steps for job in first.members} == {2}
    listed = caller.training.ListSweeps(training_pb2.ListSweepsRequest(page_size=1), metadata=caller.metadata)
    assert [sweep.sweep for sweep in listed.sweeps] == [first.sweep]
    by_id = training_pb2.CancelSweepRequest(sweep=first.sweep)
    assert (
        caller.training.CancelSweep(by_id, metadata=caller.metadata).sweep.state == training_pb2.SWEEP_STATE_CANCELLED
    )
    for job in first.members:
        assert caller.finished(job.job).state == training_pb2.JOB_STATE_CANCELLED
    found = caller.training.GetSweep(training_pb2.GetSweepRequest(sweep=first.sweep), metadata=caller.metadata).sweep
    assert (found.state, found.message) == (training_pb2.SWEEP_STATE_CANCELLED, "cancelled on request")


def test_the_sdk_makes_lists_and_cancels_sweeps(deployment: Deployment, dataset: str) -> None:
    with Trivium(data_dir=deployment.folder) as client:
        axis = SweepAxis(setting="lora.rank", values=("2", "4"))
        settings = TrainingSettings(epochs=1000, batch_rows=1, validation_ratio=0.2)
        made = client.sweeps.create(model="swept", dataset=dataset, axes=[axis], settings=settings)
        assert next(client.sweeps.list()).sweep == made.sweep
        assert client.sweeps.cancel(made.sweep).state == "cancelled"
        assert client.sweeps.get(made.sweep).state == "cancelled"


def test_each_member_of_a_sweep_has_the_warnings_of_its_own_order(caller: Caller, dataset: str) -> None:
    axes = [training_pb2.SweepAxis(setting="lora.rank", values=["4", "32"])]
    made = caller.training.CreateSweep(request(dataset, axes=axes), metadata=caller.metadata).sweep
    assert [len(job.warnings) for job in made.members] == [0, 1]
    assert made.members[1].warnings[0].startswith("rank 32 is over 16")
    caller.training.CancelSweep(training_pb2.CancelSweepRequest(sweep=made.sweep), metadata=caller.metadata)
    for job in made.members:
        caller.finished(job.job)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"axes": [training_pb2.SweepAxis(setting="rank", values=["2"])]}, "names like it: lora.rank"),
        ({"axes": [training_pb2.SweepAxis(setting="lora.rank", values=["0"])]}, "lora.rank 0"),
        ({"rungs": [0.5, 0.25]}, "must ascend"),
        ({"members": [SETTINGS]}, "either axes or members"),
    ],
)
def test_a_sweep_that_is_none_is_refused_with_what_to_do(
    caller: Caller, dataset: str, fields: dict[str, object], words: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.training.CreateSweep(request(dataset, **fields), metadata=caller.metadata)
    assert failed(refused.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert words in str(refused.value.details())


def test_members_without_rows_to_be_compared_on_are_refused(caller: Caller, dataset: str) -> None:
    wanted = request(dataset)
    wanted.job.settings.ClearField("validation_ratio")
    with pytest.raises(grpc.RpcError) as refused:
        caller.training.CreateSweep(wanted, metadata=caller.metadata)
    assert "name a validation_dataset" in str(refused.value.details())


def test_a_sweep_that_is_not_there_is_not_found(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.training.GetSweep(training_pb2.GetSweepRequest(sweep="none"), metadata=caller.metadata)
    assert failed(refused.value)[1] == "SWEEP_NOT_FOUND"


def ended(caller: Caller, sweep: str) -> training_pb2.Sweep:
    """Wait until the sweep has ended; return it."""

    def now() -> training_pb2.Sweep:
        request = training_pb2.GetSweepRequest(sweep=sweep)
        found: training_pb2.Sweep = caller.training.GetSweep(request, metadata=caller.metadata).sweep
        return found

    eventually(lambda: now().state != training_pb2.SWEEP_STATE_RUNNING, "the sweep has ended", seconds=200)
    return now()


def adapter(caller: Caller, version: str) -> tuple[str, model_pb2.Version]:
    """The digest of a version's weights, and the version."""
    request = registry_pb2.GetVersionRequest(version=version)
    found: model_pb2.Version = caller.registry.GetVersion(request, metadata=caller.metadata).version
    return next(file.sha256 for file in found.files if file.filename.endswith(".safetensors")), found


def test_the_best_member_becomes_the_version_that_the_same_job_alone_would_have_become(
    caller: Caller, dataset: str
) -> None:
    settings = training_pb2.TrainingSettings(epochs=2, batch_rows=4, validation_ratio=0.2, checkpoint_steps=3, seed=3)
    job = training_pb2.CreateJobRequest(model="swept", dataset=dataset, settings=settings, alias="best")
    axes = [training_pb2.SweepAxis(setting="learning_rate", values=["0.00001", "0.01", "0.003", "0.001"])]
    wanted = training_pb2.CreateSweepRequest(job=job, axes=axes, rungs=[0.3, 0.6])
    made = caller.training.CreateSweep(wanted, metadata=caller.metadata).sweep
    done = ended(caller, made.sweep)
    assert done.state == training_pb2.SWEEP_STATE_SUCCEEDED, (done.message, [job.error for job in done.members])
    assert [line.rank for line in done.table] == [1, 2, 3, 4]
    assert [line.ended_at_rung for line in done.table] == [0, 2, 1, 1]
    losses = [line.evaluation["loss"] for line in done.table[:2]]
    assert losses == sorted(losses)
    best = next(job for job in done.members if job.job == done.best)
    alone = caller.create(model="alone", dataset=dataset, settings=best.settings)
    finished = caller.finished(alone.job)
    assert finished.state == training_pb2.JOB_STATE_SUCCEEDED, finished.error
    weights, version = adapter(caller, done.version)
    assert weights == adapter(caller, finished.version)[0]
    kept = MessageToDict(version.lineage.config)["sweep"]
    assert [member["job"] for member in kept["members"]] == [line.job for line in done.table]
    alias = registry_pb2.GetAliasRequest(model="swept", alias="best")
    assert caller.registry.GetAlias(alias, metadata=caller.metadata).alias.target_version == done.version
    # The others left nothing: only the best was registered.
    versions = caller.registry.ListVersions(registry_pb2.ListVersionsRequest(model="swept"), metadata=caller.metadata)
    assert [entry.version for entry in versions.versions] == [done.version]
