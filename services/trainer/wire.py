"""Protobuf to domain and back: the only file of the service that knows both (and `publisher`, which calls a peer)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.common.v1 import transfer_pb2
from trivium.trainer.v1 import dataset_pb2

from services.chassis import context, paging
from services.chassis.errors import Failure
from services.trainer.data.dataset_rows import Dataset, Incoming
from services.trainer.data.rows import Format, Problem

_FORMATS = {
    dataset_pb2.DATASET_FORMAT_CHAT: Format.CHAT,
    dataset_pb2.DATASET_FORMAT_PROMPT_COMPLETION: Format.PROMPT_COMPLETION,
    dataset_pb2.DATASET_FORMAT_TEXT: Format.TEXT,
    dataset_pb2.DATASET_FORMAT_PREFERENCE: Format.PREFERENCE,
    dataset_pb2.DATASET_FORMAT_UNPAIRED_PREFERENCE: Format.UNPAIRED_PREFERENCE,
    dataset_pb2.DATASET_FORMAT_RECORDS: Format.RECORDS,
}
_WIRE_FORMATS = {ours: theirs for theirs, ours in _FORMATS.items()}


@contextmanager
def below(message: str) -> Iterator[None]:
    """Inside the block failures name fields of a message inside the request; let them name the request's."""
    try:
        yield
    except Failure as failure:
        if failure.field is None:
            raise
        raise renamed(failure, f"{message}.{failure.field}") from failure


def renamed(failure: Failure, field: str) -> Failure:
    """The same failure of a field by another path."""
    variables: dict[str, Any] = {name: value for name, value in failure.variables.items() if name != "field"}
    return Failure(failure.reason, field=field, retry_after_seconds=failure.retry_after_seconds, **variables)


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
        version=value.version,
    )


def problem(value: Problem) -> dataset_pb2.DatasetProblem:
    """A problem on the wire."""
    return dataset_pb2.DatasetProblem(line=value.line, field=value.field, message=value.message, fatal=value.fatal)


def upload_status(sha256: str, committed_bytes: int, complete: bool) -> transfer_pb2.UploadStatus:
    """How far an upload has come."""
    return transfer_pb2.UploadStatus(sha256=sha256, committed_bytes=committed_bytes, complete=complete)


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
