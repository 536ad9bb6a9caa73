"""``FineTuningService`` on the wire and in the domain, both ways."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.gateway.v1 import fine_tuning_pb2
from trivium.trainer.v1 import training_pb2

from gateway.fine_tuning.checkpoints import Checkpoint
from gateway.fine_tuning.events import Level, Told
from gateway.fine_tuning.order import Asked, Hyperparameters, Method
from gateway.fine_tuning.tuner import Page, Wanted
from gateway.fine_tuning.view import Status, TuningJob

_METHODS = {
    Method.SUPERVISED: fine_tuning_pb2.FINE_TUNING_METHOD_SUPERVISED,
    Method.DPO: fine_tuning_pb2.FINE_TUNING_METHOD_DPO,
}
_OF_METHODS = {int(wire): method for method, wire in _METHODS.items()}
_STATUSES = {status: fine_tuning_pb2.FineTuningStatus.Value(f"FINE_TUNING_STATUS_{status.name}") for status in Status}
_LEVELS = {
    level: fine_tuning_pb2.FineTuningEventLevel.Value(f"FINE_TUNING_EVENT_LEVEL_{level.name}") for level in Level
}


def asked(request: fine_tuning_pb2.CreateFineTuningJobRequest) -> Asked:
    """What a caller asks for."""
    return Asked(
        model=request.model,
        training_file=request.training_file,
        validation_file=request.validation_file,
        method=_OF_METHODS.get(request.method, Method.SUPERVISED),
        hyperparameters=_hyperparameters(request.hyperparameters),
        suffix=request.suffix,
        seed=request.seed if request.HasField("seed") else None,
        metadata=dict(request.metadata),
        settings=settings_of(request.settings),
        base=request.base,
        alias=request.alias,
        request_id=request.request_id,
    )


def _hyperparameters(message: fine_tuning_pb2.FineTuningHyperparameters) -> Hyperparameters:
    given: dict[str, Any] = {field.name: value for field, value in message.ListFields()}
    return Hyperparameters(**given)


def settings_of(message: training_pb2.TrainingSettings) -> dict[str, Any]:
    """The trainer's settings that are set, by their names in the contract."""
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def to_settings(settings: Mapping[str, Any]) -> training_pb2.TrainingSettings:
    """Settings on the wire."""
    return json_format.ParseDict(dict(settings), training_pb2.TrainingSettings())


def wanted(request: fine_tuning_pb2.ListFineTuningJobsRequest) -> Wanted:
    """Which jobs a caller asks for."""
    return Wanted(request.page_size, request.after, dict(request.metadata), request.without_metadata)


def job(value: TuningJob) -> fine_tuning_pb2.FineTuningJob:
    """A job."""
    of, chosen = value.of, value.hyperparameters
    message = fine_tuning_pb2.FineTuningJob(
        job=of.job,
        status=_STATUSES[value.status],
        model=value.model,
        fine_tuned_model=value.fine_tuned_model,
        method=_METHODS[value.method],
        hyperparameters=fine_tuning_pb2.FineTuningHyperparameters(
            n_epochs=chosen.n_epochs,
            batch_size=chosen.batch_size,
            learning_rate_multiplier=chosen.learning_rate_multiplier,
            beta=chosen.beta,
        ),
        training_file=value.training_file,
        validation_file=value.validation_file,
        result_files=value.result_files,
        suffix=value.suffix,
        seed=value.seed,
        metadata=value.metadata,
        trained_tokens=of.trained_tokens,
        create_time=moment(of.create_time),
        end_time=moment(of.end_time),
        estimated_end_time=moment(of.estimated_end_time),
        tenant=value.tenant,
        settings=to_settings(of.settings),
        registry_model=of.model,
        alias=of.alias,
        step=of.step,
        total_steps=of.total_steps,
        waiting_reason=of.waiting_reason,
    )
    if value.error is not None:
        error = fine_tuning_pb2.FineTuningError(
            reason=value.error.reason, message=value.error.message, field=value.error.field
        )
        message.error.CopyFrom(error)
    return message


def jobs(page: Page[TuningJob]) -> fine_tuning_pb2.ListFineTuningJobsResponse:
    """A page of jobs."""
    return fine_tuning_pb2.ListFineTuningJobsResponse(jobs=map(job, page.entries), has_more=page.has_more)


def events(page: Page[Told]) -> fine_tuning_pb2.ListFineTuningEventsResponse:
    """A page of events."""
    return fine_tuning_pb2.ListFineTuningEventsResponse(events=map(_event, page.entries), has_more=page.has_more)


def checkpoints(page: Page[Checkpoint]) -> fine_tuning_pb2.ListFineTuningCheckpointsResponse:
    """A page of checkpoints."""
    found = map(_checkpoint, page.entries)
    return fine_tuning_pb2.ListFineTuningCheckpointsResponse(checkpoints=found, has_more=page.has_more)


def _event(value: Told) -> fine_tuning_pb2.FineTuningEvent:
    return fine_tuning_pb2.FineTuningEvent(
        event=value.event,
        level=_LEVELS[value.level],
        message=value.message,
        create_time=moment(value.create_time),
        metrics=value.metrics,
    )


def _checkpoint(value: Checkpoint) -> fine_tuning_pb2.FineTuningCheckpoint:
    return fine_tuning_pb2.FineTuningCheckpoint(
        checkpoint=value.checkpoint,
        job=value.job,
        step=value.step,
        fine_tuned_model_checkpoint=value.model,
        metrics=value.metrics,
        create_time=moment(value.create_time),
    )


def moment(seconds: float) -> Timestamp | None:
    """A time on the wire; None for 0, which is none."""
    if not seconds:
        return None
    answer = Timestamp()
    answer.FromNanoseconds(round(seconds * 1e9))
    return answer
