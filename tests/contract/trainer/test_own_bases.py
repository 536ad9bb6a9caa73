"""A tenant trains on a base of its own: fetched from the registry, under its own template, tied to its digest."""

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from trivium.access.v1 import access_pb2, access_pb2_grpc
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.trainer.v1 import dataset_pb2, training_pb2

from tests.contract.trainer.deployment import Caller, Deployment, deployed, until_struck
from tests.contract.trainer.test_datasets import failed
from tests.contract.trainer.test_jobs import LONG, created_and_paused, paused
from tests.stack import upload
from tests.tiny_model import TOOL_TEMPLATE, TinyModel
from tests.unit.trainer.tiny import rows_text

SETTINGS = training_pb2.TrainingSettings(
    lora=training_pb2.LoraSettings(rank=4, dropout=0.1), epochs=4, batch_rows=1, checkpoint_steps=7, seed=5
)
SHORT = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings(rank=2), epochs=1, batch_rows=5)


def published(
    caller: Caller, model: str, made: TinyModel, lineage: model_pb2.Lineage | None = None
) -> model_pb2.Version:
    """A full model in the registry."""
    files = []
    for name, content in made.files().items():
        caller.registry.UploadBlob(upload(name, content), metadata=caller.metadata)
        sha256 = hashlib.sha256(content).hexdigest()
        files.append(model_pb2.VersionFile(filename=name, sha256=sha256, size_bytes=len(content)))
    version = model_pb2.Version(model=model, kind=model_pb2.VERSION_KIND_FULL, files=files, lineage=lineage)
    request = registry_pb2.CreateVersionRequest(version=version)
    created: model_pb2.Version = caller.registry.CreateVersion(request, metadata=caller.metadata).version
    return created


def version_of(caller: Caller, job: training_pb2.Job) -> model_pb2.Version:
    """The version that a job ends with."""
    done = caller.finished(job.job)
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
    request = registry_pb2.GetVersionRequest(version=done.version)
    found: model_pb2.Version = caller.registry.GetVersion(request, metadata=caller.metadata).version
    return found


def weights(version: model_pb2.Version) -> str:
    return next(str(file.sha256) for file in version.files if file.filename.endswith(".safetensors"))


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    return str(caller.upload(rows_text(4).encode(), "own-bases.jsonl").dataset)


HOUSE = TinyModel(seed=2, hidden=48, tied=False, shards=2)


@pytest.fixture(scope="module")
def base(caller: Caller) -> model_pb2.Version:
    """Two versions of one base; the newest is returned."""
    published(caller, "house", TinyModel(seed=1))
    return published(caller, "house", HOUSE)


@pytest.fixture(scope="module")
def calm(caller: Caller, base: model_pb2.Version, dataset: str) -> training_pb2.Job:
    """A job on the tenant's newest base that nobody disturbs."""
    return caller.create(model="desk", dataset=dataset, base="base:house", settings=SETTINGS)


def test_an_adapter_is_tied_to_the_digest_of_the_base_that_it_was_trained_on(
    caller: Caller, base: model_pb2.Version, calm: training_pb2.Job, dataset: str
) -> None:
    pinned = caller.create(model="desk", dataset=dataset, base="base:house@1", settings=SHORT)
    assert (calm.base, calm.base_digest) == ("house@2", base.base_digest)
    assert (pinned.base, pinned.base_digest) == ("house@1", TinyModel(seed=1).digest())
    # The rate follows the base's width: the narrower one learns at a higher one.
    assert calm.settings.learning_rate > pinned.settings.learning_rate
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=pinned.job), metadata=caller.metadata)
    version = version_of(caller, calm)
    assert version.base_digest == base.base_digest
    config = next(file for file in version.files if file.filename == "adapter_config.json")
    request = registry_pb2.DownloadBlobRequest(sha256=config.sha256)
    pieces = caller.registry.DownloadBlob(request, metadata=caller.metadata)
    assert json.loads(b"".join(piece.chunk.data for piece in pieces))["base_model_name_or_path"] == "house@2"


@pytest.fixture(scope="module")
def spawning(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Other services, whose trainer starts its processes as in operation."""
    with deployed(tmp_path_factory.mktemp("spawning"), deployment.base) as running:
        yield running


# Processes start three times here, each of which takes a minute where others have the processors.
@pytest.mark.timeout(600)
@pytest.mark.sampled(every=3, family="processes of a trainer as in operation")
def test_a_killed_process_and_a_killed_trainer_go_on_to_the_weights_that_there_would_have_been(
    caller: Caller, calm: training_pb2.Job, spawning: Deployment
) -> None:
    undisturbed = weights(version_of(caller, calm))
    with spawning.caller() as there:
        published(there, "house", HOUSE)
        rows = there.upload(rows_text(4).encode(), "own-bases.jsonl").dataset

    def strike() -> bool:
        with spawning.caller() as there:
            job = there.create(model="struck", dataset=rows, base="base:house", settings=SETTINGS)
            there.until_step(job.job, 8)
            for child in spawning.children():
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()
            there.until_step(job.job, 30)
            orphans = spawning.children()
            spawning.kill("trainer")
            for orphan in orphans:
                orphan.wait(10)
            # What was fetched may be gone by then, too.
            for folder in (spawning.folder / "models" / "full").glob("[0-9a-f]*"):
                folder.rename(folder.with_name(f".gone-{job.job}-{folder.name}"))
            spawning.start("trainer")
        with spawning.caller() as there:
            assert weights(version_of(there, job)) == undisturbed
            attempts = there.get(job.job).attempts
            assert attempts <= 3
            return attempts == 3

    until_struck(strike)


def test_rows_are_shown_and_checked_under_a_tenants_own_template_without_its_weights(
    deployment: Deployment, caller: Caller, dataset: str
) -> None:
    published(
        caller,
        "shouting",
        TinyModel(seed=7, template="{% for message in messages %}{{ message.content | upper }}{% endfor %}"),
    )
    folders = deployment.folder / "models" / "full"
    before = set(folders.glob("*"))
    shown = caller.datasets.PreviewDataset(
        dataset_pb2.PreviewDatasetRequest(dataset=dataset, base="base:shouting", rows=1), metadata=caller.metadata
    )
    assert "".join(token.text for token in shown.rows[0].tokens) == "WHAT COLOUR IS THE DOOR?GREEN."
    checked = caller.datasets.ValidateDataset(
        dataset_pb2.ValidateDatasetRequest(dataset=dataset, base="base:shouting"), metadata=caller.metadata
    )
    assert (checked.report.base, checked.report.rows) == ("shouting@1", 20)
    assert set(folders.glob("*")) == before


def test_calls_of_tools_are_learned_on_a_base_whose_template_has_tools_and_refused_on_another(caller: Caller) -> None:
    published(caller, "calling", TinyModel(seed=8, template=TOOL_TEMPLATE))
    function = {"name": "look", "arguments": '{"at": "the door"}'}
    made = {"id": "call_1", "type": "function", "function": function}
    answer = {"role": "assistant", "content": None, "tool_calls": [made]}
    told = {"messages": [{"role": "user", "content": "What colour is the door?"}, answer]}
    row = {**told, "tools": [{"type": "function", "function": {"name": "look"}}], "parallel_tool_calls": False}
    rows = caller.upload((json.dumps(row) + "\n").encode(), "calls.jsonl").dataset
    learned = caller.create(model="x", dataset=rows, base="base:calling", settings=SHORT)
    shown = caller.datasets.PreviewDataset(
        dataset_pb2.PreviewDatasetRequest(dataset=rows, base="base:calling", rows=1), metadata=caller.metadata
    )
    said = "".join(token.text for token in shown.rows[0].tokens if token.supervised)
    assert said == '<tool_call>\n{"name": "look", "arguments": {"at": "the door"}}\n</tool_call><|im_end|>'
    refused = caller.finished(caller.create(model="x", dataset=rows, settings=SHORT).job)
    assert refused.state == training_pb2.JOB_STATE_FAILED
    assert "line 1" in refused.error.message
    done = caller.finished(learned.job)
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error


def test_a_name_that_is_no_base_is_refused_with_what_there_is(
    caller: Caller, calm: training_pb2.Job, dataset: str
) -> None:
    # A model of the tenant that is no base: an adapter.
    version_of(caller, calm)
    for name, reason in (
        ("base:nobody", "BASE_NOT_FOUND"),
        ("nobody@3", "BASE_NOT_FOUND"),
        ("base:desk", "FIELD_INVALID"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            caller.create(model="x", dataset=dataset, base=name, settings=SHORT)
        assert failed(refused.value)[1] == reason


def test_another_tenants_base_is_none(deployment: Deployment, caller: Caller, base: model_pb2.Version) -> None:
    with grpc.insecure_channel(deployment.addresses["access"]) as channel:
        access = access_pb2_grpc.AccessServiceStub(channel)
        access.CreateTenant(access_pb2.CreateTenantRequest(tenant="strangers"), metadata=caller.metadata)
        request = access_pb2.CreateKeyRequest(tenant="strangers", roles=[access_pb2.ROLE_OWNER, access_pb2.ROLE_MEMBER])
        key = access.CreateKey(request, metadata=caller.metadata).api_key
    stranger = Caller(caller.datasets, caller.training, caller.registry, (("authorization", f"Bearer {key}"),))
    theirs = stranger.upload(rows_text().encode(), "theirs.jsonl").dataset
    for name in ("base:house", "base:house@2", f"base:house@{base.version}"):
        with pytest.raises(grpc.RpcError) as refused:
            stranger.create(model="x", dataset=theirs, base=name, settings=SHORT)
        assert failed(refused.value)[1] == "BASE_NOT_FOUND"


def test_a_base_that_was_deleted_meanwhile_fails_its_job_with_its_name(
    deployment: Deployment, caller: Caller, dataset: str
) -> None:
    published(caller, "brief", TinyModel(seed=6))
    # Paused, so it does not end before the base is gone.
    ahead = created_and_paused(caller, model="z", dataset=dataset, settings=SETTINGS)
    # Its base is fetched once its turn can come.
    job = caller.create(model="x", dataset=dataset, base="base:brief", settings=SHORT, depends_on=[ahead.job])
    caller.registry.DeleteModel(registry_pb2.DeleteModelRequest(model="brief"), metadata=caller.metadata)
    caller.training.ResumeJob(training_pb2.ResumeJobRequest(job=ahead.job), metadata=caller.metadata)
    done = caller.finished(job.job)
    assert (done.state, done.error.reason) == (training_pb2.JOB_STATE_FAILED, "BASE_NOT_FOUND")
    assert "brief@1" in done.error.message


def test_a_job_whose_base_the_deployment_has_no_more_fails_and_says_which_there_is(
    deployment: Deployment, caller: Caller, dataset: str, tmp_path: Path
) -> None:
    job = caller.create(model="y", dataset=dataset, settings=LONG)
    paused(caller, job.job)
    first = deployment.base
    changed = TinyModel(seed=9)
    try:
        deployment.kill("trainer")
        deployment.base = changed.write(tmp_path / "changed")
        deployment.start("trainer")
        with deployment.caller() as again:
            again.training.ResumeJob(training_pb2.ResumeJobRequest(job=job.job), metadata=again.metadata)
            done = again.finished(job.job)
    finally:
        deployment.kill("trainer")
        deployment.base = first
        deployment.start("trainer")
    assert (done.state, done.error.reason) == (training_pb2.JOB_STATE_FAILED, "BASE_CHANGED")
    assert job.base_digest in done.error.message
    assert changed.digest() in done.error.message


def test_a_base_that_is_edited_while_the_trainer_runs_is_registered_under_no_digest(
    deployment: Deployment, caller: Caller, dataset: str
) -> None:
    weights = deployment.base / "model.safetensors"
    content = weights.read_bytes()
    job = caller.create(model="edited", dataset=dataset, settings=LONG)
    caller.until_step(job.job)
    paused(caller, job.job)
    try:
        # A worker that has the base in memory trains on what it was; the next one would not.
        for child in deployment.children():
            child.kill()
        weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        caller.training.ResumeJob(training_pb2.ResumeJobRequest(job=job.job), metadata=caller.metadata)
        done = caller.finished(job.job)
    finally:
        weights.write_bytes(content)
    assert (done.state, done.error.reason, done.version) == (training_pb2.JOB_STATE_FAILED, "BASE_CHANGED", "")
    assert job.base_digest in done.error.message
    with pytest.raises(grpc.RpcError) as absent:
        caller.registry.GetModel(registry_pb2.GetModelRequest(model="edited"), metadata=caller.metadata)
    assert failed(absent.value)[1] == "MODEL_NOT_FOUND"
    # Once it is what it was, it is trained on again.
    assert (
        version_of(caller, caller.create(model="edited", dataset=dataset, settings=SHORT)).base_digest
        == job.base_digest
    )
