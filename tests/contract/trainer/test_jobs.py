import importlib.metadata
import json
import re
import uuid
from typing import Any

import grpc
import httpx
import pytest
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.trainer.v1 import dataset_pb2, training_pb2

from tests.contract.trainer.deployment import Caller, Deployment
from tests.contract.trainer.test_datasets import failed
from tests.stack import eventually
from tests.unit.trainer.tiny import rows_text

SHORT = training_pb2.TrainingSettings(
    lora=training_pb2.LoraSettings(rank=4), epochs=1, batch_rows=5, learning_rate=1e-2
)
LONG = training_pb2.TrainingSettings(
    lora=training_pb2.LoraSettings(rank=4), epochs=1000, batch_rows=1, learning_rate=1e-4, checkpoint_steps=1000000
)


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    """A stored dataset's id."""
    return str(caller.upload(rows_text().encode(), "jobs.jsonl").dataset)


@pytest.fixture(scope="module")
def done(caller: Caller, dataset: str) -> training_pb2.Job:
    """A job that ended as it should, asked for three times with one request id."""
    request_id = str(uuid.uuid4())
    jobs = {
        caller.create(model="greeter", dataset=dataset, settings=SHORT, alias="prod", request_id=request_id).job
        for _ in range(3)
    }
    assert len(jobs) == 1, "a repeated request is one job"
    with pytest.raises(grpc.RpcError) as refused:
        caller.create(model="other", dataset=dataset, settings=SHORT, request_id=request_id)
    assert failed(refused.value)[1] == "REQUEST_ID_REUSED"
    return caller.finished(jobs.pop())


def checkpoints(caller: Caller, job: str) -> list[training_pb2.Checkpoint]:
    """The job's checkpoints that are kept."""
    request = training_pb2.ListCheckpointsRequest(job=job)
    return list(caller.training.ListCheckpoints(request, metadata=caller.metadata).checkpoints)


def paused(caller: Caller, job: str) -> int:
    """Pause a running job; return the sequence of the event that said that it is."""
    caller.training.PauseJob(training_pb2.PauseJobRequest(job=job), metadata=caller.metadata)
    return next(event.sequence for event in caller.watch(job) if event.state == training_pb2.JOB_STATE_PAUSED)


def created_and_paused(caller: Caller, *, after_step: int = 0, **fields: Any) -> training_pb2.Job:
    """A job that is paused once it has done so many steps.  One that ends before it is paused is left as it is."""
    for _ in range(10):
        job = caller.create(**fields)
        if after_step:
            caller.until_step(job.job, after_step)
        try:
            paused(caller, job.job)
        except (grpc.RpcError, StopIteration):
            assert caller.finished(job.job).state == training_pb2.JOB_STATE_SUCCEEDED
        else:
            return job
    raise AssertionError("ten jobs ended before they were paused")


def running(caller: Caller, job: str) -> None:
    """Wait for the job's first step."""
    caller.until_step(job)


def test_a_job_ends_as_a_version_that_says_where_it_comes_from(caller: Caller, done: training_pb2.Job) -> None:
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
    assert (done.step, done.total_steps) == (2, 2)
    version = caller.registry.GetVersion(
        registry_pb2.GetVersionRequest(model="greeter", version=done.version), metadata=caller.metadata
    ).version
    assert version.rank == 4
    assert {file.filename for file in version.files} == {"adapter_model.safetensors", "adapter_config.json"}
    lineage = version.lineage
    assert (lineage.job, lineage.dataset_digest, lineage.dataset_rows) == (done.job, done.dataset_digest, 10)
    assert lineage.trained_tokens == done.trained_tokens > 0
    assert lineage.config["rank"] == 4
    assert "torch" in lineage.libraries
    installed = re.escape(importlib.metadata.version("trivium-suite"))
    assert re.fullmatch(rf"{installed}(\+g[0-9a-f]{{12}}(\.dirty)?)?", lineage.code_version), lineage.code_version


def test_what_was_trained_is_counted_for_operators(deployment: Deployment, done: training_pb2.Job) -> None:
    address = json.loads((deployment.folder / "run" / "trainer.json").read_text())["metrics_listen"]

    def counted(series: str) -> float:
        text = httpx.get(f"http://{address}/metrics").text
        return float(re.findall(rf"^{re.escape(series)} (.*)$", text, re.MULTILINE)[0])

    assert counted('trainer_jobs_ended_total{reason="",state="succeeded"}') >= 1
    assert counted('trainer_steps_total{kind="joint"}') >= done.total_steps
    assert counted('trainer_trained_tokens_total{kind="joint"}') >= done.trained_tokens
    assert counted('trainer_checkpoints_total{outcome="written"}') >= 1
    assert counted("trainer_checkpoint_bytes_total") > 0
    # Told by the worker every so often.
    eventually(lambda: counted('trainer_compute_seconds_total{kind="joint"}') > 0, "the time of training is counted")


def test_the_alias_named_in_a_job_is_given_the_version(caller: Caller, done: training_pb2.Job) -> None:
    alias = caller.registry.GetAlias(
        registry_pb2.GetAliasRequest(model="greeter", alias="prod"), metadata=caller.metadata
    ).alias
    assert alias.target_version == done.version


def test_a_gate_that_refuses_the_result_fails_no_job_and_stands_among_the_moves(caller: Caller, dataset: str) -> None:
    caller.registry.CreateModel(registry_pb2.CreateModelRequest(model="gated"), metadata=caller.metadata)
    gate = registry_pb2.CreateGateRequest(model="gated", gate=registry_pb2.Gate(gate="good", metric="accuracy"))
    caller.registry.CreateGate(gate, metadata=caller.metadata)
    job = caller.finished(caller.create(model="gated", dataset=dataset, settings=SHORT, alias="prod").job)
    assert job.state == training_pb2.JOB_STATE_SUCCEEDED, job.error
    listing = registry_pb2.ListAliasMovesRequest(model="gated", alias="prod")
    (move,) = caller.registry.ListAliasMoves(listing, metadata=caller.metadata).moves
    assert (move.kind, move.to_version) == (model_pb2.ALIAS_MOVE_KIND_REFUSED, job.version)
    assert (move.reason, "no evaluation of accuracy" in move.detail) == (f"trained by the job {job.job}", True)


def test_events_are_numbered_without_gap_and_a_watch_resumes_behind_the_last_one_seen(
    caller: Caller, done: training_pb2.Job
) -> None:
    events = list(caller.watch(done.job))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[0].state == training_pb2.JOB_STATE_QUEUED
    assert events[-1].state == training_pb2.JOB_STATE_SUCCEEDED
    assert [event.step for event in events if event.kind == training_pb2.JOB_EVENT_KIND_STEP] == [1, 2]
    assert list(caller.watch(done.job, after=3)) == events[3:]


def test_every_default_is_filled_in(caller: Caller, dataset: str) -> None:
    job = caller.create(model="defaults", dataset=dataset)
    settings = job.settings
    assert settings.method == training_pb2.METHOD_LORA
    assert (settings.lora.rank, settings.lora.alpha, settings.epochs) == (16, 32, 3)
    assert settings.learning_rate > 0
    assert job.total_steps == 6
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job.job), metadata=caller.metadata)
    caller.finished(job.job)


def test_a_rank_over_what_is_served_is_warned_of_by_the_order_and_by_its_estimate(caller: Caller, dataset: str) -> None:
    settings = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings(rank=32))
    wanted = training_pb2.CreateJobRequest(model="wide", dataset=dataset, settings=settings)
    request = training_pb2.EstimateJobRequest(job=wanted)
    estimated = caller.training.EstimateJob(request, metadata=caller.metadata)
    job = caller.create(model="wide", dataset=dataset, settings=settings)
    (warning,) = job.warnings
    assert warning.startswith("rank 32 is over 16, the highest that this deployment's generator serves")
    assert warning in estimated.warnings
    assert list(caller.get(job.job).warnings) == [warning]
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job.job), metadata=caller.metadata)
    caller.finished(job.job)


def test_an_unknown_base_or_dataset_is_named(caller: Caller, dataset: str) -> None:
    with pytest.raises(grpc.RpcError) as base:
        caller.create(model="m", dataset=dataset, base="another")
    assert failed(base.value)[:2] == (grpc.StatusCode.NOT_FOUND, "BASE_NOT_FOUND")
    with pytest.raises(grpc.RpcError) as data:
        caller.create(model="m", dataset="absent")
    assert failed(data.value)[:2] == (grpc.StatusCode.NOT_FOUND, "DATASET_NOT_FOUND")


@pytest.mark.parametrize("model", ["base", "auto"])
def test_a_name_of_the_platforms_own_is_refused_before_anything_is_trained(
    caller: Caller, dataset: str, model: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.create(model=model, dataset=dataset)
    assert failed(refused.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_INVALID")


def test_settings_that_do_not_fit_the_base_are_refused_and_say_why(caller: Caller, dataset: str) -> None:
    settings = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings(target_modules=["query"]))
    with pytest.raises(grpc.RpcError) as refused:
        caller.create(model="unfit", dataset=dataset, settings=settings)
    assert failed(refused.value)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "SETTINGS_UNFIT")
    assert "q_proj" in str(refused.value.details())


def test_settings_that_do_not_fit_the_rows_fail_the_job_and_say_why(caller: Caller) -> None:
    row = json.dumps({"prompt": "x " * 600, "completion": "y"})
    dataset = caller.upload(f"{row}\n".encode(), "long.jsonl").dataset
    settings = training_pb2.TrainingSettings(max_row_tokens=4096)
    done = caller.finished(caller.create(model="unfit", dataset=dataset, settings=settings).job)
    assert (done.state, done.error.reason) == (training_pb2.JOB_STATE_FAILED, "SETTINGS_UNFIT")
    assert "the base takes 512" in done.error.message


def test_a_running_job_is_cancelled_and_its_dataset_is_free_again(caller: Caller) -> None:
    stored = caller.upload(rows_text(7).encode(), "busy.jsonl")
    job = caller.create(model="cut-short", dataset=stored.dataset, settings=LONG)
    running(caller, job.job)
    delete = dataset_pb2.DeleteDatasetRequest(dataset=stored.dataset)
    with pytest.raises(grpc.RpcError) as used:
        caller.datasets.DeleteDataset(delete, metadata=caller.metadata)
    assert failed(used.value)[1] == "DATASET_IN_USE"
    cancel = training_pb2.CancelJobRequest(job=job.job)
    caller.training.CancelJob(cancel, metadata=caller.metadata)
    assert caller.finished(job.job).state == training_pb2.JOB_STATE_CANCELLED
    # Twice is no error, on a finished job it is.
    caller.training.CancelJob(cancel, metadata=caller.metadata)
    caller.datasets.DeleteDataset(delete, metadata=caller.metadata)


def test_a_paused_job_keeps_a_checkpoint_and_goes_on_from_it(caller: Caller, dataset: str) -> None:
    job = caller.create(model="patient", dataset=dataset, settings=LONG)
    running(caller, job.job)
    after = paused(caller, job.job)
    (kept,) = checkpoints(caller, job.job)
    resume = training_pb2.ResumeJobRequest(job=job.job)
    caller.training.ResumeJob(resume, metadata=caller.metadata)
    steps = (event.step for event in caller.watch(job.job, after) if event.kind == training_pb2.JOB_EVENT_KIND_STEP)
    assert next(steps) == kept.step + 1
    with pytest.raises(grpc.RpcError) as refused:
        caller.training.ResumeJob(resume, metadata=caller.metadata)
    assert failed(refused.value)[1] == "JOB_NOT_PAUSED"
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job.job), metadata=caller.metadata)
    caller.finished(job.job)


def test_a_job_keeps_its_last_two_checkpoints_unless_it_has_succeeded(
    caller: Caller, deployment: Deployment, dataset: str, done: training_pb2.Job
) -> None:
    settings = training_pb2.TrainingSettings()
    settings.CopyFrom(LONG)
    settings.checkpoint_steps = 1
    job = caller.create(model="keeper", dataset=dataset, settings=settings)
    for event in caller.watch(job.job):
        if event.kind == training_pb2.JOB_EVENT_KIND_STEP and event.step >= 4:
            break
    paused(caller, job.job)
    newest, older = checkpoints(caller, job.job)
    assert newest.step == older.step + 1 == caller.get(job.job).step
    assert newest.digest != older.digest
    assert newest.size_bytes > 0
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job.job), metadata=caller.metadata)
    eventually(lambda: deployment.left_of(job.job) == {"checkpoints"}, "nothing else is left of the cancelled job")
    assert checkpoints(caller, job.job) == [newest, older]
    assert done.job not in deployment.job_folders()
    assert checkpoints(caller, done.job) == []
    with pytest.raises(grpc.RpcError) as missing:
        checkpoints(caller, "absent")
    assert failed(missing.value)[1] == "JOB_NOT_FOUND"


def test_what_a_job_leaves_is_cleared_while_another_trains(
    caller: Caller, deployment: Deployment, dataset: str
) -> None:
    left = caller.create(model="left", dataset=dataset, settings=LONG)
    running(caller, left.job)
    paused(caller, left.job)
    busy = caller.create(model="busy", dataset=dataset, settings=LONG)
    running(caller, busy.job)
    assert {left.job, busy.job} <= deployment.job_folders()
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=left.job), metadata=caller.metadata)
    eventually(lambda: deployment.left_of(left.job) == {"checkpoints"}, "nothing else is left of the cancelled job")
    assert caller.get(busy.job).state == training_pb2.JOB_STATE_RUNNING
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=busy.job), metadata=caller.metadata)
    caller.finished(busy.job)
    eventually(lambda: busy.job not in deployment.job_folders(), "a job that wrote no checkpoint leaves nothing")


def test_a_finished_job_is_not_cancelled(caller: Caller, done: training_pb2.Job) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        caller.training.CancelJob(training_pb2.CancelJobRequest(job=done.job), metadata=caller.metadata)
    assert failed(refused.value)[1] == "JOB_FINISHED"


def test_an_unknown_job_is_not_found(caller: Caller) -> None:
    with pytest.raises(grpc.RpcError) as missing:
        caller.get("absent")
    assert failed(missing.value)[:2] == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


def test_jobs_are_listed_newest_first(caller: Caller) -> None:
    page = caller.training.ListJobs(training_pb2.ListJobsRequest(page_size=1000), metadata=caller.metadata)
    times = [job.create_time.ToNanoseconds() for job in page.jobs]
    assert times == sorted(times, reverse=True)
    assert len({job.job for job in page.jobs}) == len(page.jobs) > 0


def test_a_list_of_jobs_goes_on_behind_a_job_that_is_named(caller: Caller) -> None:
    def page(**fields: Any) -> list[str]:
        answer = caller.training.ListJobs(training_pb2.ListJobsRequest(**fields), metadata=caller.metadata)
        return [job.job for job in answer.jobs]

    every = page(page_size=1000)
    assert page(page_size=1000, after_job=every[0]) == every[1:]
    assert page(after_job=every[-1]) == []
    with pytest.raises(grpc.RpcError) as missing:
        page(after_job="absent")
    assert failed(missing.value)[:2] == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
    first = caller.training.ListJobs(training_pb2.ListJobsRequest(page_size=1), metadata=caller.metadata)
    with pytest.raises(grpc.RpcError) as both:
        page(after_job=every[0], page_token=first.next_page_token)
    assert failed(both.value)[0] is grpc.StatusCode.INVALID_ARGUMENT


def test_events_that_were_are_listed_newest_first_and_page_by_page(caller: Caller, done: training_pb2.Job) -> None:
    def page(**fields: Any) -> list[training_pb2.JobEvent]:
        request = training_pb2.ListJobEventsRequest(job=done.job, **fields)
        return list(caller.training.ListJobEvents(request, metadata=caller.metadata).events)

    told = list(caller.watch(done.job))
    assert page(page_size=1000) == told[::-1]
    newest = page(page_size=2)
    assert newest == told[:-3:-1]
    assert page(page_size=1000, before_sequence=newest[-1].sequence) == told[-3::-1]
    assert page(before_sequence=1) == []
    with pytest.raises(grpc.RpcError) as missing:
        caller.training.ListJobEvents(training_pb2.ListJobEventsRequest(job="absent"), metadata=caller.metadata)
    assert failed(missing.value)[:2] == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")


def test_what_callers_write_on_a_job_is_read_back_and_may_change_when_it_has_ended(
    caller: Caller, dataset: str
) -> None:
    job = caller.create(model="labelled", dataset=dataset, settings=LONG, labels={"team": "boats", "file": "f1"})
    assert dict(job.labels) == {"team": "boats", "file": "f1"}
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job.job), metadata=caller.metadata)
    caller.finished(job.job)

    def written(**labels: str) -> dict[str, str]:
        request = training_pb2.UpdateJobRequest(job=job.job, labels=labels)
        return dict(caller.training.UpdateJob(request, metadata=caller.metadata).job.labels)

    assert written(team="", result="f2") == {"file": "f1", "result": "f2"} == dict(caller.get(job.job).labels)
    with pytest.raises(grpc.RpcError) as full:
        written(**{f"n{number}": "x" for number in range(63)})
    assert failed(full.value)[1] == "FIELD_INVALID"
    assert dict(caller.get(job.job).labels) == {"file": "f1", "result": "f2"}
    with pytest.raises(grpc.RpcError) as missing:
        caller.training.UpdateJob(training_pb2.UpdateJobRequest(job="absent"), metadata=caller.metadata)
    assert failed(missing.value)[:2] == (grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND")
