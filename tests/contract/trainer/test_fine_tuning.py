"""Fine-tuning in OpenAI's shape over a real trainer: both transports tell the same, and the published client runs unchanged."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from trivium.common.v1 import transfer_pb2
from trivium.files.v1 import file_pb2, file_pb2_grpc

from gateway.http.fine_tuning import ROUTES
from tests.conformance.runner import Grpc, Http, Transport, run
from tests.conformance.tables.fine_tuning import METADATA, OPERATIONS, SUFFIX, cases
from tests.contract.trainer.deployment import Deployment
from tests.fuzzing import Fuzzed, Known
from tests.node_flows import NodeFlows
from tests.stack import eventually

ENDED = ("succeeded", "failed", "cancelled")
ASKED: Any = [{"role": "user", "content": "Which fruit is it?"}]
SECONDS = 240.0
EXAMPLES = 5
NAMES = [case.name for case in cases("", "", "")]
ORDER = {
    "model": "base",
    "suffix": SUFFIX,
    "metadata": METADATA,
    "hyperparameters": {"n_epochs": 1000, "batch_size": 1, "learning_rate_multiplier": 0.5},
}


@pytest.fixture(scope="module")
def door(deployment: Deployment) -> Iterator[tuple[str, str, str]]:
    """Files and a gateway beside the trainer: gRPC and HTTP addresses, and a key."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIVIUM_GATEWAY_HTTP_LISTEN", "127.0.0.1:0")
        for service in ("files", "gateway"):
            deployment.start(service)
    run = json.loads((deployment.folder / "run" / "gateway.json").read_text())
    key = (deployment.folder / "keys" / "admin.key").read_text().strip()
    yield run["listen"], f"http://{run['http_listen']}", key
    for service in ("gateway", "files"):
        process = deployment.processes.pop(service)
        process.terminate()
        process.wait(30)
        del deployment.addresses[service]


@pytest.fixture(scope="module")
def transports(door: tuple[str, str, str]) -> Iterator[dict[str, Transport]]:
    listen, url, key = door
    with grpc.insecure_channel(listen) as channel, httpx.Client(base_url=url) as client:
        yield {"grpc": Grpc(channel, key), "http": Http(client, key)}


@pytest.fixture(scope="module")
def client(door: tuple[str, str, str]) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{door[1]}/v1", api_key=door[2], timeout=SECONDS, max_retries=2) as opened:
        yield opened


def chats(*answers: str) -> bytes:
    rows = [{"messages": [*ASKED, {"role": "assistant", "content": answer}]} for answer in answers]
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def pairs() -> bytes:
    better, worse = ({"role": "assistant", "content": text} for text in ("A quince.", "No idea, none at all."))
    row = {"input": {"messages": ASKED}, "preferred_output": [better], "non_preferred_output": [worse]}
    return (json.dumps(row) + "\n").encode()


def uploaded(client: openai.OpenAI, name: str, content: bytes) -> str:
    return client.files.create(file=(name, content), purpose="fine-tune").id


def of_a_batch(deployment: Deployment, key: str) -> str:
    """A file of another purpose."""
    content = chats("A medlar.")
    parts = [
        file_pb2.CreateFileRequest(header=file_pb2.FileHeader(filename="b.jsonl", purpose=file_pb2.PURPOSE_BATCH)),
        file_pb2.CreateFileRequest(chunk=transfer_pb2.Chunk(data=content)),
        file_pb2.CreateFileRequest(
            end=file_pb2.FileEnd(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        ),
    ]
    with grpc.insecure_channel(deployment.addresses["files"]) as channel:
        call = file_pb2_grpc.FileServiceStub(channel).CreateFile
        return str(call(iter(parts), metadata=(("authorization", f"Bearer {key}"),), timeout=60).file.file)


@pytest.fixture(scope="module")
def stock(
    deployment: Deployment, door: tuple[str, str, str], client: openai.OpenAI, transports: dict[str, Transport]
) -> tuple[str, str, str]:
    """A job that was cancelled, its file, and a file of another purpose."""
    file = uploaded(client, "medlar.jsonl", chats("A medlar."))
    http = transports["http"]
    queued = http.send(OPERATIONS["create"], {**ORDER, "training_file": file})
    assert isinstance(queued, dict), queued
    http.send(OPERATIONS["cancel"], {"job": queued["id"]})

    def settled() -> bool:
        # Its last event is that it has ended, and it says nothing more.
        told = http.send(OPERATIONS["list_events"], {"job": queued["id"], "page_size": 1})
        return isinstance(told, dict) and told["events"][0][1].startswith("The job was cancelled")

    eventually(settled, "the job has ended", SECONDS)
    return queued["id"], file, of_a_batch(deployment, door[2])


@pytest.mark.parametrize("name", NAMES)
def test_both_transports_tell_the_same(
    name: str, transports: dict[str, Transport], stock: tuple[str, str, str]
) -> None:
    case = next(item for item in cases(*stock) if item.name == name)
    run(case, OPERATIONS, transports)


@pytest.fixture(scope="module")
def fuzzed(door: tuple[str, str, str]) -> Iterator[Fuzzed]:
    opened = Fuzzed(*door[1:])
    yield opened
    opened.close()


@pytest.mark.parametrize("examples", [EXAMPLES, pytest.param(40 * EXAMPLES, marks=pytest.mark.soak)])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.verb} {route.path}")
def test_every_answer_is_one_of_the_document(
    route: Any, examples: int, fuzzed: Fuzzed, stock: tuple[str, str, str]
) -> None:
    job, _, other = stock
    # No job comes of it: the file is of another purpose.
    order = {"/v1/fine_tuning/jobs": [{"model": "base", "training_file": other}]}
    fuzzed.check(route.verb, route.path, Known({"job": job}, order), examples)


@pytest.fixture(scope="module")
def started(client: openai.OpenAI) -> dict[str, FineTuningJob]:
    """Two jobs that train at once: on answers, and on pairs."""
    supervised = client.fine_tuning.jobs.create(
        model="base",
        training_file=uploaded(client, "fruit.jsonl", chats("Quince.", "Quince!")),
        validation_file=uploaded(client, "fruit-held-out.jsonl", chats("Quince.")),
        suffix="Fruit",
        seed=3,
        metadata={"team": "orchard"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 1, "learning_rate_multiplier": "auto"}},
        },
    )
    dpo = client.fine_tuning.jobs.create(
        model="base",
        training_file=uploaded(client, "pairs.jsonl", pairs()),
        method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "beta": 0.2}}},
        extra_body={"trivium": {"method": "rslora", "settings": {"lora": {"rank": 4}}}},
    )
    return {"supervised": supervised, "dpo": dpo}


def values(event: FineTuningJobEvent) -> dict[str, float]:
    """What an event measured; its type says no more than that it is an object."""
    assert isinstance(event.data, dict)
    return event.data


def ended(client: openai.OpenAI, job: str) -> FineTuningJob:
    def now() -> FineTuningJob | None:
        found = client.fine_tuning.jobs.retrieve(job)
        return found if found.status in ENDED else None

    found: FineTuningJob = eventually(now, f"{job} has ended", SECONDS)
    return found


def test_a_job_ends_with_the_exact_name_of_its_version(
    client: openai.OpenAI, started: dict[str, FineTuningJob]
) -> None:
    begun = started["supervised"]
    assert begun.status in ("queued", "running")
    assert begun.fine_tuned_model is None
    assert begun.hyperparameters.n_epochs == 4
    done = ended(client, begun.id)
    assert done.status == "succeeded", done.error
    assert (done.fine_tuned_model or "").startswith("fruit@sha256:")
    assert (done.seed, done.metadata) == (3, {"team": "orchard"})
    assert (done.trained_tokens or 0) > 0
    assert done.finished_at is not None
    assert done.id in [job.id for job in client.fine_tuning.jobs.list(limit=2)]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"team": "orchard"})] == [done.id]
    going_on = client.fine_tuning.jobs.create(
        model=done.fine_tuned_model or "", training_file=done.training_file, hyperparameters={"n_epochs": 1}
    )
    assert ended(client, going_on.id).status == "succeeded"


def test_events_checkpoints_and_the_table_of_steps_say_what_was_measured(
    client: openai.OpenAI, started: dict[str, FineTuningJob]
) -> None:
    done = ended(client, started["supervised"].id)
    events = list(client.fine_tuning.jobs.list_events(done.id, limit=3))
    assert len({event.id for event in events}) == len(events) > 8
    losses = [values(event)["train_loss"] for event in events if "train_loss" in values(event)]
    assert len(losses) == 8
    assert {event.level for event in events} == {"info"}
    (last, *_) = client.fine_tuning.jobs.checkpoints.list(done.id)
    assert last.fine_tuned_model_checkpoint == done.fine_tuned_model
    assert last.metrics.valid_loss is not None
    (file,) = done.result_files
    rows = list(csv.DictReader(io.StringIO(client.files.content(file).text)))
    assert [int(row["step"]) for row in rows] == list(range(1, 9))
    assert [row["step"] for row in rows if row["valid_loss"]] == ["2", "4", "6", "8"]
    assert client.files.retrieve(file).purpose == "fine-tune-results"


def test_a_script_for_node_ends_with_the_name_of_a_version_too(door: tuple[str, str, str], tmp_path: Path) -> None:
    told = NodeFlows(tmp_path, f"{door[1]}/v1", door[2])("fine_tuning")
    job = told["job"]
    assert job["status"] == "succeeded", job
    assert job["fine_tuned_model"].startswith("from-node@sha256:")
    assert job["method"]["supervised"]["hyperparameters"]["n_epochs"] == 2
    assert job["trained_tokens"] > 0
    assert told["events"]


def test_pairs_are_learned_from_by_dpo(client: openai.OpenAI, started: dict[str, FineTuningJob]) -> None:
    done = ended(client, started["dpo"].id)
    assert done.status == "succeeded", done.error
    assert done.method is not None
    assert done.method.dpo is not None
    assert done.method.dpo.hyperparameters is not None
    assert done.method.dpo.hyperparameters.beta == 0.2
    assert done.model_extra is not None
    assert done.model_extra["trivium"]["settings"]["lora"]["rank"] == 4


def test_a_job_is_paused_goes_on_from_its_checkpoint_and_is_cancelled(client: openai.OpenAI) -> None:
    job = client.fine_tuning.jobs.create(
        model="base",
        training_file=uploaded(client, "long.jsonl", chats("A pear.")),
        hyperparameters={"n_epochs": 1000, "batch_size": 1},
        extra_body={"trivium": {"settings": {"checkpoint_steps": 1000000, "lora": {"rank": 2}}}},
    )

    def steps() -> int:
        newest = client.fine_tuning.jobs.list_events(job.id, limit=1).data
        return int(values(newest[0]).get("step", 0)) if newest else 0

    try:
        eventually(steps, "it trains", SECONDS)
        client.fine_tuning.jobs.pause(job.id)
        # Its type does not know the word, which OpenAI's pause leads to.
        eventually(lambda: str(client.fine_tuning.jobs.retrieve(job.id).status) == "paused", "it is paused", SECONDS)
        (kept,) = client.fine_tuning.jobs.checkpoints.list(job.id)
        assert "@sha256:" in kept.fine_tuned_model_checkpoint
        again = client.fine_tuning.jobs.checkpoints.list(job.id)
        assert [found.fine_tuned_model_checkpoint for found in again] == [kept.fine_tuned_model_checkpoint]
        assert client.fine_tuning.jobs.resume(job.id).status in ("queued", "running")
        eventually(lambda: steps() > kept.step_number, "it goes on", SECONDS)
    finally:
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    assert ended(client, job.id).status == "cancelled"


def test_a_script_for_node_pauses_a_job_and_has_it_go_on(door: tuple[str, str, str], tmp_path: Path) -> None:
    told = NodeFlows(tmp_path, f"{door[1]}/v1", door[2])("pausing")
    assert (told["paused"], told["ended"]) == ("paused", "cancelled")
    assert told["resumed"] in ("queued", "running")
    assert told["listed"] == [told["job"]]


def test_what_cannot_be_trained_on_is_refused_by_its_lines(client: openai.OpenAI) -> None:
    file = uploaded(client, "bad.jsonl", chats("Quince.") + b'{"messages": []}\n')
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.jobs.create(model="base", training_file=file)
    assert (refused.value.code, refused.value.param) == ("dataset_malformed", "training_file")
    assert "line 2" in refused.value.message
