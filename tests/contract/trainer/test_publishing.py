"""Versions of checkpoints: while a job trains, waits or has ended badly; once each, with where they come from."""

import uuid
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller
from tests.contract.trainer.test_datasets import failed
from tests.contract.trainer.test_jobs import SHORT, checkpoints, paused
from tests.unit.trainer.tiny import rows_text


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    """A stored dataset's id."""
    return str(caller.upload(rows_text().encode(), "published.jsonl").dataset)


def endless(**changes: Any) -> training_pb2.TrainingSettings:
    """Settings of a job that nobody waits for, with a checkpoint after every step."""
    fields: dict[str, Any] = {
        "lora": training_pb2.LoraSettings(rank=4),
        "epochs": 1000,
        "batch_rows": 1,
        "learning_rate": 1e-4,
        "checkpoint_steps": 1,
        "seed": 5,
    }
    return training_pb2.TrainingSettings(**(fields | changes))


def publish(caller: Caller, job: str, **fields: Any) -> training_pb2.PublishCheckpointResponse:
    """Make a version of a checkpoint."""
    request = training_pb2.PublishCheckpointRequest(job=job, **fields)
    made: training_pb2.PublishCheckpointResponse = caller.training.PublishCheckpoint(
        request, metadata=caller.metadata, timeout=120
    )
    return made


def refused(caller: Caller, job: str, **fields: Any) -> tuple[grpc.StatusCode, str, str]:
    """The code, reason and text that publishing fails with."""
    with pytest.raises(grpc.RpcError) as error:
        publish(caller, job, **fields)
    code, reason = failed(error.value)[:2]
    return code, reason, str(error.value.details())


def version_of(caller: Caller, version: str) -> model_pb2.Version:
    """The version in the registry."""
    request = registry_pb2.GetVersionRequest(version=version)
    found: model_pb2.Version = caller.registry.GetVersion(request, metadata=caller.metadata).version
    return found


def until_checkpoints(caller: Caller, job: str, count: int) -> None:
    """Wait until so many checkpoints were written."""
    for event in caller.watch(job):
        count -= event.kind == training_pb2.JOB_EVENT_KIND_CHECKPOINT
        if not count:
            return
    raise AssertionError(f"{job} ended: {caller.get(job)}")


def cancelled(caller: Caller, job: str) -> None:
    """End the job."""
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job), metadata=caller.metadata)
    assert caller.finished(job).state == training_pb2.JOB_STATE_CANCELLED


def test_a_version_is_made_of_a_job_that_goes_on_training(caller: Caller, dataset: str) -> None:
    job = caller.create(model="still-training", dataset=dataset, settings=endless()).job
    until_checkpoints(caller, job, 3)
    request_id = str(uuid.uuid4())
    made = publish(caller, job, request_id=request_id, alias="trial")
    assert made.step >= 3
    assert caller.get(job).state == training_pb2.JOB_STATE_RUNNING
    until_checkpoints(caller, job, int(made.step) + 3)
    assert publish(caller, job, request_id=request_id, alias="trial") == made, "a repeat is the first response"
    later = publish(caller, job)
    assert later.step > made.step
    assert later.version != made.version
    version = version_of(caller, made.version)
    now = caller.get(job)
    assert (version.model, version.kind, version.rank) == ("still-training", model_pb2.VERSION_KIND_LORA, 4)
    assert version.base_digest == now.base_digest
    assert {file.filename for file in version.files} == {"adapter_model.safetensors", "adapter_config.json"}
    lineage = version.lineage
    assert (lineage.job, lineage.dataset_digest, lineage.dataset_rows, lineage.seed) == (job, now.dataset_digest, 10, 5)
    kept = MessageToDict(lineage.config)["checkpoint"]
    assert kept["step"] == lineage.metrics["steps"] == made.step
    assert (lineage.config["rank"], lineage.config["threads"]) == (4, 1)
    assert 0 < lineage.trained_tokens < now.trained_tokens
    assert "torch" in lineage.libraries
    assert lineage.code_version
    alias = registry_pb2.GetAliasRequest(model="still-training", alias="trial")
    assert caller.registry.GetAlias(alias, metadata=caller.metadata).alias.target_version == made.version
    assert any(made.version in event.message for event in seen(caller, job))
    cancelled(caller, job)


def seen(caller: Caller, job: str) -> list[training_pb2.JobEvent]:
    """The job's events so far."""
    last = caller.get(job).step
    found = []
    for event in caller.watch(job):
        found.append(event)
        if event.kind == training_pb2.JOB_EVENT_KIND_STEP and event.step >= last:
            break
    return found


def test_what_a_paused_and_then_cancelled_job_keeps_is_published_by_its_step_and_trained_on(
    caller: Caller, dataset: str
) -> None:
    job = caller.create(model="given-up", dataset=dataset, settings=endless()).job
    until_checkpoints(caller, job, 3)
    paused(caller, job)
    newest, older = checkpoints(caller, job)
    first = publish(caller, job, step=older.step, model="kept-model")
    assert (first.step, version_of(caller, first.version).model) == (older.step, "kept-model")
    cancelled(caller, job)
    assert [kept.step for kept in checkpoints(caller, job)] == [newest.step, older.step]
    # Without an id too the same checkpoint is one version.
    assert publish(caller, job, step=older.step, model="kept-model") == first
    last = publish(caller, job)
    assert (last.step, version_of(caller, last.version).model) == (newest.step, "given-up")
    slower = training_pb2.TrainingSettings()
    slower.CopyFrom(SHORT)
    slower.learning_rate = 1e-5
    again = caller.create(model="given-up", dataset=dataset, settings=slower, start_version=last.version)
    done = caller.finished(again.job)
    assert (done.state, done.start_version) == (training_pb2.JOB_STATE_SUCCEEDED, last.version), done.error
    assert version_of(caller, done.version).lineage.parent_version == last.version


@pytest.mark.parametrize("method", ["FULL", "DORA"])
def test_what_trains_alone_is_published_as_what_it_is(caller: Caller, dataset: str, method: str) -> None:
    settings = endless(method=training_pb2.Method.Value(f"METHOD_{method}"))
    if method == "FULL":
        settings.ClearField("lora")
    job = caller.create(model=f"alone-{method.lower()}", dataset=dataset, settings=settings).job
    until_checkpoints(caller, job, 1)
    made = publish(caller, job)
    cancelled(caller, job)
    version = version_of(caller, made.version)
    files = {file.filename for file in version.files}
    assert "trl" in version.lineage.libraries
    if method == "FULL":
        assert version.kind == model_pb2.VERSION_KIND_FULL
        assert {"model.safetensors", "config.json", "tokenizer.json"} <= files
        estimate = training_pb2.CreateJobRequest(model="on-it", dataset=dataset, base="base:alone-full", settings=SHORT)
        asked = training_pb2.EstimateJobRequest(job=estimate)
        assert caller.training.EstimateJob(asked, metadata=caller.metadata).fits
    else:
        assert version.kind == model_pb2.VERSION_KIND_LORA
        assert files == {"adapter_model.safetensors", "adapter_config.json"}


def test_what_is_not_kept_is_refused_and_says_what_is(caller: Caller, dataset: str) -> None:
    not_found = grpc.StatusCode.NOT_FOUND
    assert refused(caller, "absent")[:2] == (not_found, "JOB_NOT_FOUND")
    waiting = caller.create(model="waits", dataset=dataset, settings=endless(checkpoint_steps=7)).job
    paused(caller, waiting)
    code, reason, text = refused(caller, waiting, step=1_000_000)
    assert (code, reason) == (not_found, "CHECKPOINT_NOT_FOUND")
    assert "of step 1000000" in text
    kept = checkpoints(caller, waiting)
    assert (f"steps {kept[0].step}" in text) if kept else ("after every 7 steps" in text)
    cancelled(caller, waiting)
    done = caller.finished(caller.create(model="done", dataset=dataset, settings=SHORT).job)
    code, reason, text = refused(caller, done.job)
    assert (code, reason, done.version in text) == (not_found, "CHECKPOINT_NOT_FOUND", True)
    with pytest.raises(grpc.RpcError) as invalid:
        publish(caller, done.job, model="base")
    assert failed(invalid.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")


def test_a_request_id_is_for_one_request(caller: Caller, dataset: str) -> None:
    job = caller.create(model="twice", dataset=dataset, settings=endless()).job
    until_checkpoints(caller, job, 1)
    paused(caller, job)
    request_id = str(uuid.uuid4())
    publish(caller, job, request_id=request_id)
    assert refused(caller, job, request_id=request_id, model="other")[1] == "REQUEST_ID_REUSED"
    cancelled(caller, job)
