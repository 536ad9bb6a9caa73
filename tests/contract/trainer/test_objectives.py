"""What adapters are trained for, and from what: preferences, plain text, an earlier version, data to be judged on."""

import json
from typing import Any

import grpc
import pytest
from trivium.registry.v1 import registry_pb2
from trivium.trainer.v1 import dataset_pb2, training_pb2

from tests.contract.trainer.deployment import Caller
from tests.contract.trainer.test_datasets import failed
from tests.unit.trainer.tiny import ROWS, rows_text

SHORT: dict[str, Any] = {"epochs": 2, "batch_rows": 5, "learning_rate": 1e-3}
LORA = training_pb2.LoraSettings(rank=4)


def lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture(scope="module")
def questions(caller: Caller) -> str:
    """A stored dataset of questions and answers."""
    return str(caller.upload(rows_text().encode(), "questions.jsonl").dataset)


def trained(caller: Caller, dataset: str, **fields: object) -> training_pb2.Job:
    """A job's end."""
    done = caller.finished(caller.create(dataset=dataset, **fields).job)
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
    return done


@pytest.mark.parametrize("objective", [training_pb2.OBJECTIVE_DPO, training_pb2.OBJECTIVE_KTO])
def test_an_adapter_learns_what_is_preferred(caller: Caller, objective: Any) -> None:
    pairs: list[dict[str, object]] = [
        {"prompt": question, "chosen": answer, "rejected": "No idea."} for question, answer in ROWS * 2
    ]
    dataset = str(caller.upload(lines(pairs), "pairs.jsonl").dataset)
    settings = training_pb2.TrainingSettings(objective=objective, lora=LORA, validation_ratio=0.4, **SHORT)
    done = trained(caller, dataset, model="preferring", settings=settings)
    assert done.step == done.total_steps > 0
    assert done.evaluation["loss"] > 0
    assert done.settings.preference.beta == pytest.approx(0.1)


def test_an_adapter_goes_on_with_plain_text(caller: Caller) -> None:
    texts: list[dict[str, object]] = [{"text": f"{question} {answer}"} for question, answer in ROWS * 2]
    dataset = str(caller.upload(lines(texts), "texts.jsonl").dataset)
    settings = training_pb2.TrainingSettings(objective=training_pb2.OBJECTIVE_CONTINUED, lora=LORA, **SHORT)
    assert trained(caller, dataset, model="reading", settings=settings).trained_tokens > 0


def test_data_that_does_not_fit_the_objective_is_refused_by_name(caller: Caller, questions: str) -> None:
    settings = training_pb2.TrainingSettings(objective=training_pb2.OBJECTIVE_DPO)
    with pytest.raises(grpc.RpcError) as refused:
        caller.create(model="x", dataset=questions, settings=settings)
    status, reason, *_ = failed(refused.value)
    assert (status, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "the objective dpo needs rows of the format preference" in str(refused.value)


def test_training_goes_on_from_an_earlier_version(caller: Caller, questions: str) -> None:
    settings = training_pb2.TrainingSettings(lora=LORA, **SHORT)
    first = trained(caller, questions, model="growing", settings=settings, alias="prod")
    second = trained(caller, questions, model="growing", settings=settings, start_version="growing@1")
    assert second.start_version == first.version
    request = registry_pb2.GetVersionRequest(version=second.version)
    lineage = caller.registry.GetVersion(request, metadata=caller.metadata).version.lineage
    assert lineage.parent_version == first.version
    # It begins where the other ended.
    assert second.loss < first.loss


def test_what_shapes_an_adapter_is_taken_from_the_one_that_is_gone_on_from(caller: Caller, questions: str) -> None:
    lora = training_pb2.LoraSettings(rank=2, alpha=3, target_modules=["q_proj", "v_proj"], rank_pattern={"v_proj": 4})
    shaped = training_pb2.TrainingSettings(method=training_pb2.METHOD_RSLORA, lora=lora, **SHORT)
    trained(caller, questions, model="shaped", settings=shaped)
    left_out = training_pb2.TrainingSettings(**SHORT)
    done = trained(caller, questions, model="shaped", settings=left_out, start_version="shaped@1")
    assert (done.settings.method, done.settings.lora.rank, done.settings.lora.alpha) == (shaped.method, 2, 3)
    assert list(done.settings.lora.target_modules) == ["q_proj", "v_proj"]
    assert dict(done.settings.lora.rank_pattern) == {"v_proj": 4}
    request = registry_pb2.GetVersionRequest(version=done.version)
    config = caller.registry.GetVersion(request, metadata=caller.metadata).version.lineage.config
    assert (config["method"], config["rank"], config["alpha"]) == ("rslora", 2, 3)


def test_settings_that_an_adapter_has_otherwise_are_refused_when_ordered(caller: Caller, questions: str) -> None:
    settings = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings(rank=2), **SHORT)
    trained(caller, questions, model="narrow", settings=settings)
    wider = training_pb2.TrainingSettings(lora=training_pb2.LoraSettings(rank=4), **SHORT)
    with pytest.raises(grpc.RpcError) as refused:
        caller.create(model="narrow", dataset=questions, settings=wider, start_version="narrow@1")
    status, reason, *_ = failed(refused.value)
    assert (status, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")
    assert "narrow@1 has rank 2, the order says 4: leave it out" in str(refused.value)


def test_a_job_is_judged_on_rows_of_their_own_and_ends_when_it_learns_no_more(caller: Caller, questions: str) -> None:
    held_out = str(caller.upload(rows_text(1).encode(), "held-out.jsonl").dataset)
    settings = training_pb2.TrainingSettings(
        lora=LORA,
        epochs=50,
        batch_rows=5,
        learning_rate=1e-12,
        evaluation_steps=1,
        early_stopping_patience=2,
        early_stopping_delta=0.01,
        generation_rows=2,
        generation_tokens=4,
    )
    done = trained(caller, questions, model="judged", settings=settings, validation_dataset=held_out)
    assert done.validation_dataset == held_out
    assert done.step < done.total_steps
    assert {"loss", "exact_match", "token_f1", "valid_json"} <= set(done.evaluation)
    evaluations = [event for event in caller.watch(done.job) if event.kind == training_pb2.JOB_EVENT_KIND_EVALUATION]
    assert [event.step for event in evaluations] == sorted({event.step for event in evaluations})


def test_a_validation_dataset_is_not_deleted_under_its_job(caller: Caller, questions: str) -> None:
    held_out = str(caller.upload(rows_text(3).encode(), "kept.jsonl").dataset)
    settings = training_pb2.TrainingSettings(lora=LORA, epochs=1000, batch_rows=1)
    job = caller.create(model="x", dataset=questions, settings=settings, validation_dataset=held_out).job
    with pytest.raises(grpc.RpcError) as refused:
        caller.datasets.DeleteDataset(dataset_pb2.DeleteDatasetRequest(dataset=held_out), metadata=caller.metadata)
    assert failed(refused.value)[1] == "DATASET_IN_USE"
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=job), metadata=caller.metadata)
    caller.finished(job)
