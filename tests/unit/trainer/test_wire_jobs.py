"""What a request says of a job's turn reaches the plan, and what the plan says of it reaches who asks."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.trainer.v1 import training_pb2

from services.chassis.errors import Failure, Reason
from services.trainer.bases import Chosen
from services.trainer.job import Job, Lease, Progress, State
from services.trainer.needs import architecture
from services.trainer.planning import Allowance, Seen, state_of
from services.trainer.scheduling.actions import Verdict
from services.trainer.scheduling.state import Node, Priority
from services.trainer.wire_jobs import job as wire_job
from services.trainer.wire_jobs import order

SHAPE = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "vocab_size": 32, "model_type": "llama"}
BASE = Chosen("tiny", "sha256:b", "", architecture(SHAPE))
DEADLINE = 1_900_000_000.5
UNLIMITED = Allowance()


def ordered(granted: Allowance = UNLIMITED, **fields: object) -> Job:
    """A job of a request."""
    request = training_pb2.CreateJobRequest(model="m", dataset="rows", **fields)  # type: ignore[arg-type]  # of any type
    moment = datetime.fromtimestamp(100.0, UTC)
    return Job(
        "acme", "j", "ada", order(request, BASE, None, granted), State.QUEUED, Progress(total_steps=9), moment, moment
    )


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (training_pb2.PRIORITY_UNSPECIFIED, Priority.NORMAL),
        (training_pb2.PRIORITY_LOW, Priority.LOW),
        (training_pb2.PRIORITY_NORMAL, Priority.NORMAL),
        (training_pb2.PRIORITY_HIGH, Priority.HIGH),
    ],
)
def test_a_requests_class_and_deadline_are_what_is_planned_with(said: training_pb2.Priority, meant: Priority) -> None:
    deadline = Timestamp(seconds=int(DEADLINE), nanos=500_000_000)
    job = ordered(priority=said, deadline=deadline)
    seen = Seen("us", 200.0, (Node("here", 1 << 30, 2, "us"),), (), {job.job}, set(), 2)
    (planned,) = state_of([job], {}, {}, seen).jobs
    assert (planned.priority, planned.deadline) == (meant, DEADLINE)
    (undated,) = state_of([ordered()], {}, {}, seen).jobs
    assert undated.deadline is None


def test_a_class_above_what_the_operator_allows_is_refused_and_one_left_out_is_what_is_allowed() -> None:
    granted = Allowance(highest_priority=Priority.LOW)
    assert ordered(granted).order.priority is Priority.LOW
    assert ordered(granted, priority=training_pb2.PRIORITY_LOW).order.priority is Priority.LOW
    assert ordered(Allowance(highest_priority=Priority.NORMAL)).order.priority is Priority.NORMAL
    with pytest.raises(Failure) as refused:
        ordered(granted, priority=training_pb2.PRIORITY_NORMAL)
    assert (refused.value.reason, refused.value.field) == (Reason.FIELD_INVALID, "priority")
    assert "NORMAL is above LOW" in refused.value.sentence


def test_a_deadline_that_is_no_time_is_refused() -> None:
    with pytest.raises(Failure) as refused:
        ordered(deadline=Timestamp(seconds=1 << 50))
    assert (refused.value.reason, refused.value.variables["field"]) == (Reason.FIELD_INVALID, "deadline")


def test_who_asks_for_a_job_in_line_hears_its_place_why_it_waits_and_when_it_will_begin_and_end() -> None:
    told = wire_job(ordered(), Verdict("j", 3, "another job has the cores", 1000.0, 2000.0))
    assert (told.queue_position, told.waiting_reason) == (3, "another job has the cores")
    assert (told.estimated_start_time.seconds, told.estimated_end_time.seconds) == (1000, 2000)


def test_what_nobody_can_tell_of_a_job_is_left_out() -> None:
    for verdict in (None, Verdict("j", 1, "it waits")):
        told = wire_job(ordered(), verdict)
        assert not told.HasField("estimated_start_time")
        assert not told.HasField("estimated_end_time")


def test_a_job_that_runs_has_an_end_and_no_beginning_that_are_to_come() -> None:
    told = wire_job(replace(ordered(), state=State.RUNNING, lease=Lease("us", 1)), Verdict("j", 0, "", 1.0, 2000.0))
    assert not told.HasField("estimated_start_time")
    assert (told.queue_position, told.estimated_end_time.seconds) == (0, 2000)


def test_of_a_job_that_has_ended_nothing_is_said_to_come() -> None:
    told = wire_job(replace(ordered(), state=State.CANCELLED), Verdict("j", 3, "it waits", 1.0, 2.0))
    assert (told.queue_position, told.waiting_reason) == (0, "")
    assert not told.HasField("estimated_end_time")
