"""OpenAI's JSON and ``FineTuningService``, both ways."""

import json
from typing import Any

import pytest
from google.protobuf.message import Message
from trivium.gateway.v1 import fine_tuning_pb2
from trivium.trainer.v1 import training_pb2

from gateway.fine_tuning import wire
from gateway.fine_tuning.servicer import FineTuningServicer
from gateway.fine_tuning.training import State
from gateway.http import fine_tuning
from gateway.http.fine_tuning_schemas import CreateJob, to_request
from gateway.http.parsing import parse
from gateway.http.transport import Asked
from services.chassis.errors import Failure, Reason
from tests.harness.wording import missing
from tests.unit.gateway.fine_tuning.fakes import World
from tests.unit.gateway.fine_tuning.test_creating import asked
from tests.unit.gateway.fine_tuning.test_telling import TOLD

JOBS = "/v1/fine_tuning/jobs"
LEAST: dict[str, Any] = {"model": "base", "training_file": "file-a"}
HEADER, BODY = "01890000-0000-7000-8000-000000000000", "01890000-0000-7000-8000-000000000001"


class Doors:
    """What exchanges are given: the servicer over fakes."""

    def __init__(self, world: World) -> None:
        self.fine_tuning = FineTuningServicer(world.tuner)


def request(**fields: Any) -> fine_tuning_pb2.CreateFineTuningJobRequest:
    return to_request(parse(CreateJob, json.dumps({**LEAST, **fields}).encode()))


async def answered(doors: Doors, verb: str, below: str, asking: Asked) -> dict[str, Any]:
    """What the route answers whose path ends so."""
    (route,) = [found for found in fine_tuning.ROUTES if (found.verb, found.path) == (verb, JOBS + below)]
    exchange: Any = route.exchange(doors, "id")  # type: ignore[arg-type]  # one of its fields
    message: Message = exchange.parse(asking)
    (chunk,) = [chunk async for chunk in exchange.answer(message, None)]
    assert route.answer is not None
    route.answer.model_validate_json(chunk, strict=True)
    found: dict[str, Any] = json.loads(chunk)
    return found


def test_the_least_request_leaves_all_else_to_the_trainer() -> None:
    wanted = wire.asked(request(suffix=None, integrations=None, hyperparameters={"n_epochs": "auto"}, metadata=None))
    assert wanted == asked(suffix="")


def test_a_whole_request_is_taken_over() -> None:
    method = {
        "type": "dpo",
        "dpo": {"hyperparameters": {"n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": 0.5, "beta": 0.25}},
    }
    trivium = {"method": "full", "settings": {"max_row_tokens": 64, "keep": "KEEP_LAST"}, "alias": "prod"}
    found = request(
        method=method, trivium=trivium, suffix="desk", seed=3, validation_file="file-v", metadata={"a": "b"}
    )
    assert found == fine_tuning_pb2.CreateFineTuningJobRequest(
        model="base",
        training_file="file-a",
        validation_file="file-v",
        method=fine_tuning_pb2.FINE_TUNING_METHOD_DPO,
        hyperparameters=fine_tuning_pb2.FineTuningHyperparameters(
            n_epochs=2, batch_size=4, learning_rate_multiplier=0.5, beta=0.25
        ),
        suffix="desk",
        seed=3,
        metadata={"a": "b"},
        settings=training_pb2.TrainingSettings(
            method=training_pb2.METHOD_FULL, max_row_tokens=64, keep=training_pb2.KEEP_LAST
        ),
        alias="prod",
    )
    assert wire.to_settings(wire.asked(found).settings) == found.settings


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"integrations": [{"type": "wandb"}]}, Reason.PARAMETER_UNSUPPORTED, "integrations"),
        ({"method": {"type": "reinforcement"}}, Reason.FIELD_INVALID, "method.type"),
        ({"store": True}, Reason.PARAMETER_UNSUPPORTED, "store"),
        ({"hyperparameters": {"lr": 1}}, Reason.PARAMETER_UNSUPPORTED, "hyperparameters.lr"),
        ({"hyperparameters": {"n_epochs": "two"}}, Reason.FIELD_INVALID, "hyperparameters.n_epochs"),
        ({"hyperparameters": {"n_epochs": 1 << 40}}, Reason.FIELD_INVALID, "hyperparameters.n_epochs"),
        ({"hyperparameters": {}, "method": {"type": "dpo"}}, Reason.FIELD_INVALID, "hyperparameters"),
        ({"method": {"type": "dpo", "supervised": {}}}, Reason.FIELD_INVALID, "method.supervised"),
        ({"trivium": {"settings": {"lr": 1}}}, Reason.FIELD_INVALID, "trivium.settings"),
        ({"trivium": {"settings": {"epochs": "many"}}}, Reason.FIELD_INVALID, "trivium.settings"),
        (
            {"trivium": {"method": "lora", "settings": {"method": "METHOD_FULL"}}},
            Reason.FIELD_INVALID,
            "trivium.settings.method",
        ),
        ({"metadata": {"a": 1}}, Reason.FIELD_INVALID, "metadata.a"),
        ({"seed": 1 << 70}, Reason.FIELD_INVALID, "seed"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(fields: dict[str, Any], reason: Reason, field: str) -> None:
    with pytest.raises(Failure) as refused:
        request(**fields)
    assert (refused.value.reason, refused.value.field) == (reason, field)


@pytest.mark.parametrize("beside", [{}, {"reinforcement": {"grader": {"type": "string_check"}}}])
def test_a_method_that_is_not_served_is_told_with_those_that_are(beside: dict[str, Any]) -> None:
    with pytest.raises(Failure) as refused:
        request(method={"type": "reinforcement", **beside})
    assert refused.value.field == "method.type"
    assert not missing(refused.value.sentence, "reinforcement", "supervised", "dpo")


async def test_a_job_is_told_as_openai_tells_one(world: World) -> None:
    doors = Doors(world)
    body = json.dumps({**LEAST, "suffix": "desk", "metadata": {"team": "boats"}}).encode()
    queued = await answered(doors, "POST", "", Asked(body))
    assert (queued["id"], queued["object"], queued["status"]) == ("j1", "fine_tuning.job", "queued")
    assert (queued["fine_tuned_model"], queued["finished_at"], queued["error"], queued["result_files"]) == (
        None,
        None,
        None,
        [],
    )
    hyperparameters = {"n_epochs": 3, "batch_size": 8, "learning_rate_multiplier": 1.0}
    assert queued["method"] == {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    assert queued["metadata"] == {"team": "boats"}
    world.trainer.told["j1"] = TOLD
    world.trainer.moved("j1", state=State.SUCCEEDED, version="sha256:aa", end_time=200.5, step=3, trained_tokens=12)
    done = await answered(doors, "GET", "/{job}", Asked(path={"job": "j1"}))
    assert (done["fine_tuned_model"], done["finished_at"], done["trained_tokens"]) == ("desk@sha256:aa", 200, 12)
    assert done["result_files"] == ["file-of-step_metrics_j1.csv"]
    page = await answered(
        doors, "GET", "/{job}/events", Asked(path={"job": "j1"}, query={"limit": "2", "after": "ftevent-j1-4"})
    )
    assert page["has_more"] is True
    assert page["data"][0]["type"] == "metrics"
    assert page["data"][0]["data"] == {"learning_rate": 0.001, "step": 2, "train_loss": 1.0}
    kept = await answered(doors, "GET", "/{job}/checkpoints", Asked(path={"job": "j1"}))
    (checkpoint,) = kept["data"]
    assert (checkpoint["step_number"], checkpoint["fine_tuned_model_checkpoint"]) == (3, "desk@sha256:aa")
    assert kept["first_id"] == kept["last_id"] == checkpoint["id"]


async def test_a_list_is_asked_for_as_the_clients_write_it(world: World) -> None:
    doors = Doors(world)
    await world.tuner.create(asked(metadata={"team": "boats"}))
    await world.tuner.create(asked())

    async def listed(**query: str) -> list[str]:
        page = await answered(doors, "GET", "", Asked(query=query))
        return [job["id"] for job in page["data"]]

    assert await listed() == ["j2", "j1"]
    assert await listed(limit="1") == ["j2"]
    assert await listed(**{"metadata[team]": "boats"}) == ["j1"]
    assert await listed(metadata="null") == ["j2"]
    for query, field in (({"limit": "0"}, "limit"), ({"order": "asc"}, "order"), ({"metadata": "x"}, "metadata")):
        with pytest.raises(Failure) as refused:
            await listed(**query)
        assert refused.value.field == field


@pytest.mark.parametrize(("verb", "status"), [("pause", "running"), ("resume", "queued"), ("cancel", "cancelled")])
async def test_a_verb_on_a_job_takes_its_path(world: World, verb: str, status: str) -> None:
    doors = Doors(world)
    await world.tuner.create(asked())
    path = {"job": "j1"}
    for empty in (b"", b"{}"):
        assert (await answered(doors, "POST", f"/{{job}}/{verb}", Asked(empty, path)))["status"] == status


def test_a_job_is_repeated_under_the_id_that_the_body_says_or_else_the_header() -> None:
    (route,) = [found for found in fine_tuning.ROUTES if (found.verb, found.path) == ("POST", JOBS)]
    for said, repeated in ({}, HEADER), ({"trivium": {"request_id": BODY}}, BODY):
        exchange: Any = route.exchange(Doors(World()), HEADER)  # type: ignore[arg-type]  # one of its fields
        assert exchange.parse(Asked(json.dumps({**LEAST, **said}).encode())).request_id == repeated
