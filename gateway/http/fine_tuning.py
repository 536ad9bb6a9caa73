"""/v1/fine_tuning/jobs and what lies below it: OpenAI's encoding of ``FineTuningService``."""

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from trivium.gateway.v1 import fine_tuning_pb2

from gateway.http import queries
from gateway.http.fine_tuning_schemas import CreateJob, to_request
from gateway.http.routes import Route
from gateway.http.schemas import parse
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

_MOST = 500
# What the caller calls our fields, where the names differ.
_SENT = {
    "page_size": "limit",
    "base": "trivium.base",
    "alias": "trivium.alias",
    "request_id": "trivium.request_id",
    "job": "fine_tuning_job_id",
}


class _Exchange:
    """One request, one JSON document."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent: dict[str, str] = dict(_SENT)
        self._servicer = servicers.fine_tuning


class CreateExchange(_Exchange):
    """A new job."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        body = parse(CreateJob, asked.body)
        self.sent |= body.sent
        return to_request(body)

    async def answer(
        self, message: fine_tuning_pb2.CreateFineTuningJobRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield _json(_job((await self._servicer.CreateFineTuningJob(message, context)).job))


class ListExchange(_Exchange):
    """Jobs of the tenant."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        bare = asked.query.get("metadata") == "null"
        written = {
            name.removeprefix("metadata[").removesuffix("]"): value
            for name, value in asked.query.items()
            if name.startswith("metadata[") and name.endswith("]")
        }
        known = ("after", "limit", *(f"metadata[{name}]" for name in written))
        queries.only(asked.query, *known, *(("metadata",) if bare else ()))
        return fine_tuning_pb2.ListFineTuningJobsRequest(
            after=asked.query.get("after", ""),
            page_size=queries.limit(asked.query, _MOST),
            metadata=written,
            without_metadata=bare,
        )

    async def answer(
        self, message: fine_tuning_pb2.ListFineTuningJobsRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        page = await self._servicer.ListFineTuningJobs(message, context)
        yield _json(queries.page([_job(job) for job in page.jobs], has_more=page.has_more))


class GetExchange(_Exchange):
    """One job."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return fine_tuning_pb2.GetFineTuningJobRequest(job=asked.path["job"])

    async def answer(
        self, message: fine_tuning_pb2.GetFineTuningJobRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield _json(_job((await self._servicer.GetFineTuningJob(message, context)).job))


class CancelExchange(_Exchange):
    """The end of a job."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return fine_tuning_pb2.CancelFineTuningJobRequest(job=asked.path["job"])

    async def answer(
        self, message: fine_tuning_pb2.CancelFineTuningJobRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield _json(_job((await self._servicer.CancelFineTuningJob(message, context)).job))


class PauseExchange(_Exchange):
    """A pause of a job."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return fine_tuning_pb2.PauseFineTuningJobRequest(job=asked.path["job"])

    async def answer(
        self, message: fine_tuning_pb2.PauseFineTuningJobRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield _json(_job((await self._servicer.PauseFineTuningJob(message, context)).job))


class ResumeExchange(_Exchange):
    """A paused job goes on."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return fine_tuning_pb2.ResumeFineTuningJobRequest(job=asked.path["job"])

    async def answer(
        self, message: fine_tuning_pb2.ResumeFineTuningJobRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield _json(_job((await self._servicer.ResumeFineTuningJob(message, context)).job))


class EventsExchange(_Exchange):
    """Events of a job."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        return fine_tuning_pb2.ListFineTuningEventsRequest(job=asked.path["job"], **_paging(asked.query))

    async def answer(
        self, message: fine_tuning_pb2.ListFineTuningEventsRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        page = await self._servicer.ListFineTuningEvents(message, context)
        yield _json(queries.page([_event(event) for event in page.events], has_more=page.has_more))


class CheckpointsExchange(_Exchange):
    """Checkpoints of a job."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        return fine_tuning_pb2.ListFineTuningCheckpointsRequest(job=asked.path["job"], **_paging(asked.query))

    async def answer(
        self, message: fine_tuning_pb2.ListFineTuningCheckpointsRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        page = await self._servicer.ListFineTuningCheckpoints(message, context)
        found = [_checkpoint(checkpoint) for checkpoint in page.checkpoints]
        yield _json(queries.page(found, has_more=page.has_more))


def _paging(query: Mapping[str, str]) -> dict[str, Any]:
    queries.only(query, "after", "limit")
    return {"after": query.get("after", ""), "page_size": queries.limit(query, _MOST)}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()


def _job(job: fine_tuning_pb2.FineTuningJob) -> dict[str, Any]:
    method = _name(fine_tuning_pb2.FineTuningMethod, job.method)
    hyperparameters = _plain(job.hyperparameters)
    error = {"code": job.error.reason.lower(), "message": job.error.message, "param": job.error.field or None}
    return {
        "id": job.job,
        "object": "fine_tuning.job",
        "created_at": _unix(job, "create_time"),
        "finished_at": _unix(job, "end_time"),
        "estimated_finish": _unix(job, "estimated_end_time"),
        "model": job.model,
        "fine_tuned_model": job.fine_tuned_model or None,
        "organization_id": job.tenant,
        "status": _name(fine_tuning_pb2.FineTuningStatus, job.status),
        "training_file": job.training_file,
        "validation_file": job.validation_file or None,
        "result_files": list(job.result_files),
        "hyperparameters": hyperparameters,
        "method": {"type": method, method: {"hyperparameters": hyperparameters}},
        "trained_tokens": job.trained_tokens or None,
        "error": error if job.HasField("error") else None,
        "user_provided_suffix": job.suffix or None,
        "seed": job.seed,
        "integrations": [],
        "metadata": dict(job.metadata),
        "trivium": {
            "model": job.registry_model,
            "alias": job.alias or None,
            "settings": _plain(job.settings),
            "step": job.step,
            "total_steps": job.total_steps,
            "waiting_reason": job.waiting_reason or None,
        },
    }


def _event(event: fine_tuning_pb2.FineTuningEvent) -> dict[str, Any]:
    return {
        "id": event.event,
        "object": "fine_tuning.job.event",
        "created_at": _unix(event, "create_time"),
        "level": _name(fine_tuning_pb2.FineTuningEventLevel, event.level),
        "message": event.message,
        "type": "metrics" if event.metrics else "message",
        "data": _metrics(event.metrics),
    }


def _checkpoint(checkpoint: fine_tuning_pb2.FineTuningCheckpoint) -> dict[str, Any]:
    return {
        "id": checkpoint.checkpoint,
        "object": "fine_tuning.job.checkpoint",
        "created_at": _unix(checkpoint, "create_time"),
        "fine_tuned_model_checkpoint": checkpoint.fine_tuned_model_checkpoint,
        "fine_tuning_job_id": checkpoint.job,
        "step_number": checkpoint.step,
        "metrics": _metrics(checkpoint.metrics),
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


_JOBS = "/v1/fine_tuning/jobs"
_JOB = _JOBS + "/{job}"
_BELOW: tuple[tuple[str, str, Callable[[Servicers, str], Any]], ...] = (
    ("POST", "cancel", CancelExchange),
    ("POST", "pause", PauseExchange),
    ("POST", "resume", ResumeExchange),
    ("GET", "events", EventsExchange),
    ("GET", "checkpoints", CheckpointsExchange),
)
ROUTES = (
    Route("POST", _JOBS, CreateExchange),
    Route("GET", _JOBS, ListExchange),
    Route("GET", _JOB, GetExchange),
    *(Route(verb, f"{_JOB}/{name}", exchange) for verb, name, exchange in _BELOW),
)
