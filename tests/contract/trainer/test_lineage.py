"""What a version says of where it comes from: its base, its data, how it was made, and what was measured of it."""

import hashlib
import importlib.metadata
import json

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from trivium.registry.v1 import model_pb2, registry_pb2
from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller
from tests.contract.trainer.test_datasets import failed
from tests.contract.trainer.test_jobs import created_and_paused
from tests.contract.trainer.test_own_bases import published, version_of
from tests.tiny_model import TinyModel
from tests.unit.trainer.tiny import ROWS, rows_text

URI = "hf:org/tiny@abc"
ADAPTER = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings(rank=2), epochs=1, batch_rows=5)
FULL = training_pb2.TrainingSettings(method=training_pb2.METHOD_FULL, epochs=1, batch_rows=5)


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    return str(caller.upload(rows_text().encode(), "lineage.jsonl").dataset)


@pytest.fixture(scope="module")
def base(caller: Caller) -> model_pb2.Version:
    """A full model of the tenant's that says where it came from."""
    return published(caller, "origin", TinyModel(seed=31), model_pb2.Lineage(base_uri=URI))


def held(caller: Caller, base: model_pb2.Version) -> str:
    """Why the registry does not delete the base."""
    request = registry_pb2.DeleteVersionRequest(model=base.model, version=base.version)
    with pytest.raises(grpc.RpcError) as refused:
        caller.registry.DeleteVersion(request, metadata=caller.metadata)
    assert failed(refused.value)[1] == "VERSION_IN_USE"
    return str(refused.value.details())


def test_a_fine_tune_has_the_full_model_that_it_began_as_for_its_parent_which_it_holds(
    caller: Caller, base: model_pb2.Version, dataset: str
) -> None:
    tuned = version_of(caller, caller.create(model="tuned", dataset=dataset, base="base:origin@1", settings=FULL))
    lineage = tuned.lineage
    assert (lineage.parent_version, lineage.base_digest, lineage.base_uri) == (base.version, base.base_digest, URI)
    assert tuned.base_digest != base.base_digest
    request = registry_pb2.GetLineageRequest(version=tuned.version)
    chain = caller.registry.GetLineage(request, metadata=caller.metadata).chain
    assert [version.version for version in chain] == [tuned.version, base.version]
    assert "tuned@1" in held(caller, base)


def test_an_adapter_on_an_own_base_names_it_by_digest_which_holds_it(caller: Caller, dataset: str) -> None:
    base = published(caller, "ground", TinyModel(seed=32), model_pb2.Lineage(base_uri=URI))
    made = version_of(caller, caller.create(model="thin", dataset=dataset, base="base:ground", settings=ADAPTER))
    lineage = made.lineage
    assert (lineage.parent_version, lineage.base_digest, lineage.base_uri) == ("", base.base_digest, URI)
    assert (made.base_digest, made.base_version) == (base.base_digest, base.version)
    assert "thin@1" in held(caller, base)


def test_a_base_that_was_deleted_while_a_full_model_was_made_of_it_costs_it_its_parent_alone(
    caller: Caller, dataset: str
) -> None:
    base = published(caller, "fleeting", TinyModel(seed=33))
    settings = training_pb2.TrainingSettings(method=training_pb2.METHOD_FULL, epochs=10, batch_rows=1)
    job = created_and_paused(
        caller, after_step=1, model="survivor", dataset=dataset, base="base:fleeting", settings=settings
    )
    request = registry_pb2.DeleteVersionRequest(model="fleeting", version=base.version)
    caller.registry.DeleteVersion(request, metadata=caller.metadata)
    caller.training.ResumeJob(training_pb2.ResumeJobRequest(job=job.job), metadata=caller.metadata)
    lineage = version_of(caller, job).lineage
    assert (lineage.parent_version, lineage.base_digest) == ("", base.base_digest)


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def conversation(rows: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps({"prompt": asked, "completion": said}) + "\n" for asked, said in rows).encode()


@pytest.mark.parametrize("method", ["LORA", "FULL"])
def test_a_version_says_all_that_it_was_made_of(caller: Caller, method: str) -> None:
    content, other = conversation(ROWS * 3), conversation([("What is it?", f"It is {method}.")] * 2)
    settings = training_pb2.TrainingSettings(
        method=training_pb2.Method.Value(f"METHOD_{method}"), epochs=2, batch_rows=4, sample_rows=10, seed=77
    )
    job = caller.create(
        model=f"whole-{method.lower()}",
        dataset=caller.upload(content, "whole.jsonl").dataset,
        validation_dataset=caller.upload(other, f"whole-{method}.jsonl").dataset,
        settings=settings,
    )
    lineage = version_of(caller, job).lineage
    assert lineage.job == job.job
    # The rows of the file, and what was trained on of them.
    assert (lineage.dataset_digest, lineage.dataset_rows) == (digest(content), 15)
    config = MessageToDict(lineage.config)
    assert (config["trained_rows"], config["sample_rows"]) == (10, 10)
    assert (config["validation_digest"], config["validation_rows"]) == (digest(other), 2)
    assert (config["method"], config["epochs"], config["learning_rate"]) == (
        method.lower(),
        2,
        pytest.approx(job.settings.learning_rate),
    )
    assert (config["base"], config["threads"], config["processes"]) == (job.base, 1, 1)
    # Where the deployment's base lies on this machine is none of the tenant's business.
    assert (lineage.base_digest, lineage.parent_version, lineage.base_uri) == (job.base_digest, "", "")
    assert lineage.seed == 77
    libraries = {"torch", "transformers", "peft", "safetensors"} | (
        {"trl", "accelerate"} if method == "FULL" else set()
    )
    assert dict(lineage.libraries) == {name: importlib.metadata.version(name) for name in libraries}
    assert lineage.code_version
    assert lineage.trained_tokens == caller.get(job.job).trained_tokens > 0


def test_rows_that_were_held_out_have_a_digest_of_their_own_by_which_two_versions_are_compared(caller: Caller) -> None:
    dataset = caller.upload(conversation(ROWS * 2), "held.jsonl").dataset
    found = []
    for ratio, rate in ((0.2, 1e-3), (0.2, 1e-4), (0.4, 1e-3)):
        settings = training_pb2.TrainingSettings(
            lora=training_pb2.LoraSettings(rank=2), epochs=1, batch_rows=5, validation_ratio=ratio, learning_rate=rate
        )
        version = version_of(caller, caller.create(model="split", dataset=dataset, settings=settings))
        (evaluation,) = version.evaluations
        assert evaluation.dataset_rows == version.lineage.config["validation_rows"] == round(10 * ratio)
        assert version.lineage.config["trained_rows"] == 10 - evaluation.dataset_rows
        found.append(evaluation.dataset_digest)
    assert found[0] == found[1] != found[2]
    assert all(digest.startswith("sha256:") for digest in found)


def test_what_training_measured_of_the_best_weights_is_what_gates_go_by(caller: Caller) -> None:
    # One answer is learned and another one asked for: soon every step makes it worse.
    other = conversation([("Is it?", "No, not at all.")])
    settings = training_pb2.TrainingSettings(
        lora=training_pb2.LoraSettings(rank=4), epochs=8, batch_rows=1, evaluation_steps=1, learning_rate=5e-2
    )
    job = caller.create(
        model="measured",
        dataset=caller.upload(conversation(ROWS[:1]), "one.jsonl").dataset,
        validation_dataset=caller.upload(other, "another.jsonl").dataset,
        settings=settings,
    )
    events = list(caller.watch(job.job))
    losses = {
        event.step: event.evaluation["loss"] for event in events if event.kind == training_pb2.JOB_EVENT_KIND_EVALUATION
    }
    trained = {event.step: event.loss for event in events if event.kind == training_pb2.JOB_EVENT_KIND_STEP}
    best = min(losses, key=lambda step: losses[step])
    assert best < max(losses), "the last weights are not what is published"
    version = version_of(caller, job)
    (evaluation,) = version.evaluations
    assert (evaluation.metric, evaluation.dataset_digest, evaluation.dataset_rows) == ("loss", digest(other), 1)
    assert evaluation.value == pytest.approx(losses[best])
    assert dict(version.lineage.metrics) == {"steps": best, "train_loss": pytest.approx(trained[best])}

    def pointed(required: float) -> str:
        """The alias, held to that loss, is set to the version; why not."""
        gate = registry_pb2.Gate(
            gate="good",
            metric="loss",
            dataset_digest=digest(other),
            direction=registry_pb2.METRIC_DIRECTION_LOWER,
            required_value=required,
        )
        create = registry_pb2.CreateGateRequest(model="measured", gate=gate)
        caller.registry.CreateGate(create, metadata=caller.metadata)
        request = registry_pb2.SetAliasRequest(model="measured", alias="prod", target_version=version.version)
        try:
            caller.registry.SetAlias(request, metadata=caller.metadata)
        except grpc.RpcError as refused:
            return failed(refused)[1]
        finally:
            delete = registry_pb2.DeleteGateRequest(model="measured", gate="good")
            caller.registry.DeleteGate(delete, metadata=caller.metadata)
        return ""

    assert pointed(losses[best] - 1e-3) == "GATE_NOT_PASSED"
    assert pointed(losses[best] + 1e-3) == ""
