"""A full disk refuses new work, pauses what trains, and costs nothing that was there."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from trivium.trainer.v1 import training_pb2

from services.chassis.files import RESERVE_BYTES
from tests.contract.trainer.deployment import Caller, Deployment, deployed
from tests.contract.trainer.test_datasets import failed
from tests.small_disk import small_disk
from tests.unit.trainer.tiny import make_base, rows_text

SPARE_MEGABYTES = 32
SETTINGS = training_pb2.TrainingSettings(
    lora=training_pb2.LoraSettings(rank=4), epochs=1000, batch_rows=1, learning_rate=1e-4, checkpoint_steps=1
)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Deployment]:
    """A trainer that lives on a small disk of its own."""
    base = make_base(tmp_path / "base" / "tiny")
    with small_disk(tmp_path / "data" / "trainer", f"{(RESERVE_BYTES >> 20) + SPARE_MEGABYTES}m"):
        with deployed(tmp_path / "data", base, forking=True) as running:
            yield running


def fill(deployment: Deployment) -> Path:
    """Leave less than the reserve."""
    filler = deployment.folder / "trainer" / "filler"
    filler.write_bytes(bytes((SPARE_MEGABYTES + 4) << 20))
    return filler


def until(caller: Caller, job: str, kind: int, state: int) -> training_pb2.JobEvent:
    """Wait for an event of this kind in this state."""
    for event in caller.watch(job):
        if (event.kind, event.state) == (kind, state):
            return event
    raise AssertionError("the job ended before that")


def test_a_full_disk_refuses_work_pauses_a_job_and_loses_nothing(small: Deployment) -> None:
    with small.caller() as caller:
        stored = caller.upload(rows_text().encode(), "rows.jsonl")
        job = caller.create(model="m", dataset=stored.dataset, settings=SETTINGS).job
        until(caller, job, training_pb2.JOB_EVENT_KIND_CHECKPOINT, training_pb2.JOB_STATE_RUNNING)
        filler = fill(small)
        paused = until(caller, job, training_pb2.JOB_EVENT_KIND_STATE, training_pb2.JOB_STATE_PAUSED)
        for call in (
            lambda: caller.upload(rows_text(3).encode(), "more.jsonl"),
            lambda: caller.create(model="m", dataset=stored.dataset, settings=SETTINGS),
        ):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert failed(refused.value)[:2] == (grpc.StatusCode.RESOURCE_EXHAUSTED, "DISK_FULL")
        request = training_pb2.ListCheckpointsRequest(job=job)
        kept = caller.training.ListCheckpoints(request, metadata=caller.metadata).checkpoints[0].step
        filler.unlink()
        caller.training.ResumeJob(training_pb2.ResumeJobRequest(job=job), metadata=caller.metadata)
        later = caller.watch(job, paused.sequence)
        told = paused.step
        note = next(event.message for event in later if event.message.startswith("continuing"))
        step = next(event.step for event in later if event.kind == training_pb2.JOB_EVENT_KIND_STEP)
        # What was told before the disk was full is done again from the checkpoint, and not told again.
        assert f"continuing after step {kept}" in note
        assert step == told + 1
        assert caller.upload(rows_text(3).encode(), "more.jsonl").rows == 15
        caller.training.CancelJob(training_pb2.CancelJobRequest(job=job), metadata=caller.metadata)
        caller.finished(job)
