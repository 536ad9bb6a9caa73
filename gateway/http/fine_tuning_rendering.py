"""``FineTuningService`` in OpenAI's JSON."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.gateway.v1 import fine_tuning_pb2


def job(value: fine_tuning_pb2.FineTuningJob) -> dict[str, Any]:
    """A job."""
    method = _name(fine_tuning_pb2.FineTuningMethod, value.method)
    hyperparameters = _plain(value.hyperparameters)
    error = {"code": value.error.reason.lower(), "message": value.error.message, "param": value.error.field or None}
    return {
        "id": value.job,
        "object": "fine_tuning.job",
        "created_at": _unix(value, "create_time"),
        "finished_at": _unix(value, "end_time"),
        "estimated_finish": _unix(value, "estimated_end_time"),
        "model": value.model,
        "fine_tuned_model": value.fine_tuned_model or None,
        "organization_id": value.tenant,
        "status": _name(fine_tuning_pb2.FineTuningStatus, value.status),
        "training_file": value.training_file,
        "validation_file": value.validation_file or None,
        "result_files": list(value.result_files),
        "hyperparameters": hyperparameters,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "trained_tokens": value.trained_tokens or None,
        "error": error if value.HasField("error") else None,
        "user_provided_suffix": value.suffix or None,
        "seed": value.seed,
        "integrations": [],
        "metadata": dict(value.metadata),
        "trivium": {
            "model": value.registry_model,
            "alias": value.alias or None,
            "settings": _plain(value.settings),
            "step": value.step,
            "total_steps": value.total_steps,
            "waiting_reason": value.waiting_reason or None,
        },
    }


def event(value: fine_tuning_pb2.FineTuningEvent) -> dict[str, Any]:
    """An event."""
    return {
        "id": value.event,
        "object": "fine_tuning.job.event",
        "created_at": _unix(value, "create_time"),
        "level": _name(fine_tuning_pb2.FineTuningEventLevel, value.level),
        "message": value.message,
        "type": "metrics" if value.metrics else "message",
        "data": _metrics(value.metrics),
    }


def checkpoint(value: fine_tuning_pb2.FineTuningCheckpoint) -> dict[str, Any]:
    """A checkpoint."""
    return {
        "id": value.checkpoint,
        "object": "fine_tuning.job.checkpoint",
        "created_at": _unix(value, "create_time"),
        "fine_tuned_model_checkpoint": value.fine_tuned_model_checkpoint,
        "fine_tuning_job_id": value.job,
        "step_number": value.step,
        "metrics": _metrics(value.metrics),
    }


def _metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: int(value) if name == "step" else value for name, value in sorted(metrics.items())}


def _plain(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def _name(kind: Any, value: int) -> str:
    """An enumeration's value in OpenAI's words: what follows the name of its type."""
    prefix = kind.Name(0).removesuffix("UNSPECIFIED")
    name: str = kind.Name(value)
    return name.removeprefix(prefix).lower()


def _unix(message: Message, field: str) -> int | None:
    """A time in Unix seconds; None where it is not set."""
    moment: Timestamp = getattr(message, field)
    return moment.seconds if message.HasField(field) else None
