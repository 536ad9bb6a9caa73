"""A job that goes before another: of a higher class, or with a deadline that presses, ordered as anybody orders it.

Promise 7: who gives way does so after a checkpoint and comes to the same bits.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.registry.v1 import registry_pb2
from trivium.trainer.v1 import training_pb2

from tests.contract.trainer.deployment import Caller, deployed
from tests.stack import eventually
from tests.unit.trainer.tiny import make_base, rows_text

SETTINGS = training_pb2.TrainingSettings(
    lora=training_pb2.LoraSettings(rank=4), epochs=40, batch_rows=1, learning_rate=1e-3, checkpoint_steps=1_000_000
)
LONGER = training_pb2.TrainingSettings(
    lora=training_pb2.LoraSettings(rank=4), epochs=200, batch_rows=1, learning_rate=1e-3, checkpoint_steps=1_000_000
)
STEP, CHECKPOINT = training_pb2.JOB_EVENT_KIND_STEP, training_pb2.JOB_EVENT_KIND_CHECKPOINT
# Ordered now, it leaves time enough, and none to lose.
_PRESSING_SECONDS = 200


@pytest.fixture(scope="module")
def caller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A trainer that holds one job of a tenant at a time, and lets each train for a tenth of a second at least."""
    base: Path = make_base(tmp_path_factory.mktemp("base") / "tiny")
    settings = {
        "TRIVIUM_TRAINER_ALLOWANCES": '{"*": {"concurrent_jobs": 1}}',
        "TRIVIUM_TRAINER_QUANTUM_SECONDS": "0.1",
    }
    with (
        deployed(tmp_path_factory.mktemp("trainer"), base, settings, forking=True) as running,
        running.caller() as caller,
    ):
        yield caller


@pytest.fixture(scope="module")
def dataset(caller: Caller) -> str:
    """A stored dataset's id."""
    return str(caller.upload(rows_text().encode(), "rows.jsonl").dataset)


def weights(caller: Caller, job: training_pb2.Job) -> str:
    """The digest of the weights that came of a job."""
    request = registry_pb2.GetVersionRequest(version=job.version)
    version = caller.registry.GetVersion(request, metadata=caller.metadata).version
    (found,) = (file.sha256 for file in version.files if file.filename.endswith(".safetensors"))
    return str(found)


@pytest.fixture(scope="module")
def alone(caller: Caller, dataset: str) -> str:
    """What the job that gives way becomes undisturbed."""
    done = caller.finished(caller.create(model="alone", dataset=dataset, settings=SETTINGS).job)
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
    return weights(caller, done)


def pressing() -> dict[str, Any]:
    deadline = Timestamp()
    deadline.FromSeconds(int(time.time()) + _PRESSING_SECONDS)
    return {"deadline": deadline, "settings": LONGER}


@pytest.mark.sampled(every=2)
@pytest.mark.parametrize(
    ("first", "why"),
    [
        (
            lambda: {"priority": training_pb2.PRIORITY_HIGH, "settings": LONGER},
            "a job of a higher class needs the place",
        ),
        (pressing, "a job with a deadline that presses needs the place"),
    ],
    ids=["a higher class", "a deadline"],
)
def test_a_job_gives_way_at_a_step_after_a_checkpoint_and_comes_to_the_same_bits(
    caller: Caller, dataset: str, alone: str, first: Any, why: str
) -> None:
    # On a machine that stalls a job may end before the other is there.
    for _ in range(5):
        given_way = caller.create(model="gives-way", dataset=dataset, settings=SETTINGS)
        caller.until_step(given_way.job, 3)
        other = caller.create(model="goes-before", dataset=dataset, **first())
        events = []
        for event in caller.watch(given_way.job):
            events.append(event)
            if why in event.message:
                break
        if events[-1].state != training_pb2.JOB_STATE_SUCCEEDED:
            break
        caller.training.CancelJob(training_pb2.CancelJobRequest(job=other.job), metadata=caller.metadata)
        caller.finished(other.job)
    assert events[-1].message == f"gave way after a checkpoint: {why}"
    assert events[-1].state == training_pb2.JOB_STATE_QUEUED
    step = max(event.step for event in events if event.kind == STEP)
    assert [event.step for event in events if event.kind == CHECKPOINT] == [step], "of its last step"
    # The other is there, and who asks hears of the line.
    waiting = eventually(lambda: _in_line(caller, given_way.job), "it is in line")
    assert (waiting.queue_position, waiting.waiting_reason) == (1, "1 of your 1 concurrent jobs run already")
    assert waiting.HasField("estimated_start_time")
    assert waiting.HasField("estimated_end_time")
    # What a plan says of the line is told before it is carried out.
    eventually(lambda: caller.get(other.job).state == training_pb2.JOB_STATE_RUNNING, "the other trains")
    caller.training.CancelJob(training_pb2.CancelJobRequest(job=other.job), metadata=caller.metadata)
    done = caller.finished(given_way.job)
    assert done.state == training_pb2.JOB_STATE_SUCCEEDED, done.error
    assert weights(caller, done) == alone
    events = list(caller.watch(given_way.job))
    assert [event.step for event in events if event.kind == STEP] == list(range(1, done.total_steps + 1))
    assert f"continuing after step {step}" in [event.message for event in events]


def _in_line(caller: Caller, job: str) -> training_pb2.Job | None:
    """The job, once the plan has a place for it and somebody has measured when it will begin."""
    found = caller.get(job)
    return found if found.queue_position and found.HasField("estimated_start_time") else None
