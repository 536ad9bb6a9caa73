"""Protobuf to domain and back: the only file of the service that knows both (and `publisher`, which calls a peer)."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.common.v1 import transfer_pb2
from trivium.trainer.v1 import dataset_pb2, training_pb2

from services.chassis import context, paging
from services.trainer.bases import Chosen
from services.trainer.checkpoints import Checkpoint
from services.trainer.data.datasets import Dataset, Incoming
from services.trainer.data.rows import Format, Problem
from services.trainer.job import Event, EventKind, Job, Order, State
from services.trainer.wire_settings import settings, wire_settings

_FORMATS = {
    dataset_pb2.DATASET_FORMAT_CHAT: Format.CHAT,
    dataset_pb2.DATASET_FORMAT_PROMPT_COMPLETION: Format.PROMPT_COMPLETION,
    dataset_pb2.DATASET_FORMAT_TEXT: Format.TEXT,
    dataset_pb2.DATASET_FORMAT_PREFERENCE: Format.PREFERENCE,
    dataset_pb2.DATASET_FORMAT_UNPAIRED_PREFERENCE: Format.UNPAIRED_PREFERENCE,
    dataset_pb2.DATASET_FORMAT_RECORDS: Format.RECORDS,
}
_WIRE_FORMATS = {ours: theirs for theirs, ours in _FORMATS.items()}
_STATES = {state: training_pb2.JobState.Value(f"JOB_STATE_{state.name}") for state in State}
_KINDS = {kind: training_pb2.JobEventKind.Value(f"JOB_EVENT_KIND_{kind.name}") for kind in EventKind}


def incoming(header: dataset_pb2.DatasetHeader) -> Incoming:
    """What an uploader announces."""
    return Incoming(
        dataset=header.dataset,
        filename=header.upload.filename,
        size_bytes=header.upload.size_bytes,
        sha256=header.upload.sha256,
        offset_bytes=header.upload.resume_offset_bytes,
        format=_FORMATS.get(header.format),
    )


def dataset(value: Dataset) -> dataset_pb2.Dataset:
    """A dataset on the wire."""
    return dataset_pb2.Dataset(
        dataset=value.dataset,
        digest=value.digest,
        filename=value.filename,
        format=_WIRE_FORMATS[value.format],
        rows=value.rows,
        size_bytes=value.size_bytes,
        tokens=value.tokens,
        max_row_tokens=value.max_row_tokens,
        supervised_tokens=value.supervised_tokens,
        create_time=timestamp(value.create_time),
    )


def problem(value: Problem) -> dataset_pb2.DatasetProblem:
    """A problem on the wire."""
    return dataset_pb2.DatasetProblem(line=value.line, field=value.field, message=value.message, fatal=value.fatal)


def upload_status(sha256: str, committed_bytes: int, complete: bool) -> transfer_pb2.UploadStatus:
    """How far an upload has come."""
    return transfer_pb2.UploadStatus(sha256=sha256, committed_bytes=committed_bytes, complete=complete)


def order(request: training_pb2.CreateJobRequest, base: Chosen) -> Order:
    """What is asked for, every default filled in.  Raises NOT_YET_AVAILABLE."""
    return Order(
        model=request.model,
        dataset=request.dataset,
        # Both are settled when the job is queued, in the transaction that finds the dataset.
        dataset_digest="",
        base=base.name,
        base_digest=base.digest,
        settings=settings(request.settings, base.hidden_size),
        alias=request.alias,
        base_version=base.version,
    )


def job(value: Job) -> training_pb2.Job:
    """A job on the wire."""
    answer = training_pb2.Job(
        name=f"tenants/{value.tenant}/jobs/{value.job}",
        job=value.job,
        state=_STATES[value.state],
        model=value.order.model,
        dataset=value.order.dataset,
        dataset_digest=value.order.dataset_digest,
        base=value.order.base,
        base_digest=value.order.base_digest,
        settings=wire_settings(value.order.settings),
        step=value.progress.step,
        total_steps=value.progress.total_steps,
        trained_tokens=value.progress.trained_tokens,
        loss=value.progress.loss,
        version=value.version,
        create_time=timestamp(value.create_time),
        start_time=timestamp(value.start_time),
        end_time=timestamp(value.end_time),
        estimated_end_time=timestamp(value.estimated_end(datetime.now(UTC))),
        alias=value.order.alias,
        attempts=value.attempts,
    )
    if value.error_reason:
        answer.error.CopyFrom(training_pb2.JobError(reason=value.error_reason, message=value.error_message))
    return answer


def event(value: Event) -> training_pb2.WatchJobResponse:
    """An event on the wire."""
    return training_pb2.WatchJobResponse(
        event=training_pb2.JobEvent(
            sequence=value.sequence,
            kind=_KINDS[value.kind],
            state=_STATES[value.state],
            step=value.progress.step,
            total_steps=value.progress.total_steps,
            loss=value.progress.loss,
            learning_rate=value.learning_rate,
            gradient_norm=value.gradient_norm,
            trained_tokens=value.progress.trained_tokens,
            message=value.message,
            create_time=timestamp(value.create_time),
        )
    )


def checkpoint(value: Checkpoint) -> training_pb2.Checkpoint:
    """A checkpoint on the wire."""
    return training_pb2.Checkpoint(
        step=value.progress.step,
        digest=value.digest,
        size_bytes=value.size_bytes,
        create_time=timestamp(value.create_time),
    )


def tenant() -> str:
    """The tenant of the call being served."""
    return context.current().tenant_id


def position(token: str) -> tuple[float, str] | None:
    """Where a page goes on: creation time and id.  Raises PAGE_TOKEN_INVALID."""
    found = paging.decode(token, (str, str))
    return (float(found[0]), str(found[1])) if found else None


def next_token(entries: list[tuple[datetime, str]], size: int) -> str:
    """The token of the page after `entries`; empty when this one was not full."""
    if len(entries) < size:
        return ""
    moment, name = entries[-1]
    # As text: a float would not survive JSON in every language, its shortest form does.
    return paging.encode([repr(moment.timestamp()), name])


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A moment on the wire."""
    if moment is None:
        return None
    answer = Timestamp()
    answer.FromDatetime(moment)
    return answer
