"""Jobs on the wire and in the domain: orders in; jobs, their events and checkpoints out."""

import math
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.trainer.v1 import training_pb2

from services.chassis.errors import Failure, Reason
from services.trainer.bases import Chosen
from services.trainer.checkpoints import Checkpoint
from services.trainer.estimates import Estimate
from services.trainer.going_on import Start, going_on
from services.trainer.job import Event, EventKind, Job, Order, State
from services.trainer.planning import Allowance
from services.trainer.scheduling.actions import Verdict
from services.trainer.scheduling.state import Priority
from services.trainer.settings import Settings
from services.trainer.wire import timestamp
from services.trainer.wire_settings import said, settings, wire_settings

STATES = {state: training_pb2.JobState.Value(f"JOB_STATE_{state.name}") for state in State}
_KINDS = {kind: training_pb2.JobEventKind.Value(f"JOB_EVENT_KIND_{kind.name}") for kind in EventKind}
_PRIORITIES = {
    training_pb2.PRIORITY_UNSPECIFIED: None,
    training_pb2.PRIORITY_LOW: Priority.LOW,
    training_pb2.PRIORITY_NORMAL: Priority.NORMAL,
    training_pb2.PRIORITY_HIGH: Priority.HIGH,
}
_WIRE_PRIORITIES = {priority: training_pb2.Priority.Value(f"PRIORITY_{priority.name}") for priority in Priority}


def order(request: training_pb2.CreateJobRequest, base: Chosen, start: Start | None, granted: Allowance) -> Order:
    """What is asked for, every default filled in; base and start are what the request's names mean.

    Raises FIELD_INVALID for what the wire's types allow and cannot be, for what the start has otherwise, and for a class
    that is not ``granted``.
    """
    return Order(
        model=request.model,
        dataset=request.dataset,
        # Digests are settled when the job is queued, in the transaction that finds the datasets.
        dataset_digest="",
        base=base.name,
        base_digest=base.digest,
        settings=_settings(request, base, start),
        alias=request.alias,
        base_version=base.version,
        base_uri=base.uri,
        validation_dataset=request.validation_dataset,
        start_version=start.version if start else "",
        priority=granted.class_of(_PRIORITIES[request.priority]),
        deadline=_deadline(request),
        depends_on=tuple(request.depends_on),
        processes=request.processes or 1,
        recipe=request.recipe,
        labels=tuple(sorted(request.labels.items())),
    )


def _settings(request: training_pb2.CreateJobRequest, base: Chosen, start: Start | None) -> Settings:
    shape = base.architecture
    held_out = bool(request.validation_dataset)
    complete = settings(request.settings, shape.hidden_size, shape.model_type, held_out=held_out)
    return going_on(complete, said(request.settings), start, shape.layer_names) if start else complete


def _deadline(request: training_pb2.CreateJobRequest) -> float:
    """In Unix seconds, 0 for none.  Raises FIELD_INVALID."""
    if not request.HasField("deadline"):
        return 0.0
    try:
        return request.deadline.ToDatetime(UTC).timestamp()
    except (ValueError, OverflowError) as error:
        problem = "it is no time between the years 1 and 9999 with 0 to 999,999,999 nanoseconds"
        raise Failure(Reason.FIELD_INVALID, field="deadline", problem=problem) from error


def job(value: Job, verdict: Verdict | None = None) -> training_pb2.Job:
    """A job on the wire; ``verdict`` says how the last plan saw it."""
    order, measures = value.order, value.measures
    answer = training_pb2.Job(
        name=f"tenants/{value.tenant}/jobs/{value.job}",
        job=value.job,
        state=STATES[value.state],
        model=order.model,
        dataset=order.dataset,
        dataset_digest=order.dataset_digest,
        base=order.base,
        base_digest=order.base_digest,
        settings=wire_settings(order.settings),
        step=value.progress.step,
        total_steps=value.progress.total_steps,
        trained_tokens=value.progress.trained_tokens,
        loss=value.progress.loss,
        version=value.version,
        create_time=timestamp(value.create_time),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
        alias=order.alias,
        attempts=value.attempts,
        validation_dataset=order.validation_dataset,
        validation_dataset_digest=order.validation_dataset_digest,
        start_version=order.start_version,
        priority=_WIRE_PRIORITIES[order.priority],
        deadline=_moment(order.deadline),
        depends_on=order.depends_on,
        processes=order.processes,
        sweep=order.sweep,
        recipe=order.recipe,
        tokens_per_second=measures.tokens_per_second,
        gradient_norm=measures.gradient_norm,
        learning_rate=measures.learning_rate,
        memory_bytes=order.job_bytes,
        evaluation=measures.evaluation,
        best_step=value.progress.best_step,
        warnings=order.warnings,
        labels=dict(order.labels),
    )
    if value.error_reason:
        answer.error.CopyFrom(training_pb2.JobError(reason=value.error_reason, message=value.error_message))
    _queue(answer, value, verdict)
    return answer


def _queue(answer: training_pb2.Job, value: Job, verdict: Verdict | None) -> None:
    ends = value.estimated_end(datetime.now(UTC))
    if verdict is not None and not value.state.finished:
        answer.queue_position = verdict.position
        answer.waiting_reason = verdict.why
        if verdict.estimated_start is not None and value.state is State.QUEUED:
            answer.estimated_start_time.FromDatetime(_time(verdict.estimated_start))
        if verdict.estimated_finish is not None:
            ends = _time(verdict.estimated_finish)
    if ends is not None:
        answer.estimated_end_time.FromDatetime(ends)


def event(value: Event) -> training_pb2.JobEvent:
    """An event on the wire."""
    return training_pb2.JobEvent(
        sequence=value.sequence,
        kind=_KINDS[value.kind],
        state=STATES[value.state],
        step=value.progress.step,
        total_steps=value.progress.total_steps,
        loss=value.progress.loss,
        learning_rate=value.learning_rate,
        gradient_norm=value.gradient_norm,
        trained_tokens=value.progress.trained_tokens,
        message=value.message,
        create_time=timestamp(value.create_time),
        evaluation=value.evaluation,
        tokens_per_second=value.tokens_per_second,
        memory_bytes=value.memory_bytes,
    )


def estimate(value: Estimate) -> training_pb2.EstimateJobResponse:
    """An estimate on the wire."""
    return training_pb2.EstimateJobResponse(
        tokens=value.tokens,
        seconds=value.seconds,
        memory_bytes=value.memory_bytes,
        steps=value.steps,
        trainable_parameters=value.trainable_parameters,
        version_bytes=value.version_bytes,
        memory_parts_bytes=value.memory_parts,
        fits=value.fits,
        warnings=value.warnings,
        tokens_per_second=value.tokens_per_second,
        settings=wire_settings(value.order.settings),
    )


def checkpoint(value: Checkpoint) -> training_pb2.Checkpoint:
    """A checkpoint on the wire."""
    return training_pb2.Checkpoint(
        step=value.progress.step,
        digest=value.digest,
        size_bytes=value.size_bytes,
        create_time=timestamp(value.create_time),
    )


def _moment(seconds: float) -> Timestamp | None:
    return timestamp(_time(seconds)) if seconds else None


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(math.floor(seconds), UTC)
