"""/v1/batches: create, retrieve, list, cancel."""

import json
from collections.abc import AsyncGenerator
from typing import Any, Literal

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import Field
from trivium.files.v1 import batch_pb2
from trivium.gateway.v1 import batches_pb2 as pb

from gateway.http import queries
from gateway.http.answers import NoQuery
from gateway.http.fine_tuning_answers import Nothing
from gateway.http.parsing import Strict, parse
from gateway.http.routes import Route
from gateway.http.transport import Asked
from gateway.servicers import Servicers
from services.chassis.errors import Failure, Reason
from services.chassis.interceptors.call import ServicerContext

_ENDPOINTS = {
    "/v1/chat/completions": batch_pb2.BATCH_ENDPOINT_CHAT_COMPLETIONS,
    "/v1/completions": batch_pb2.BATCH_ENDPOINT_COMPLETIONS,
    "/v1/embeddings": batch_pb2.BATCH_ENDPOINT_EMBEDDINGS,
    "/v1/responses": batch_pb2.BATCH_ENDPOINT_RESPONSES,
}
_ENDPOINTS_BACK = {number: path for path, number in _ENDPOINTS.items()}
_DAY_SECONDS = 24 * 3600
_MOST = 100


_Path = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]


class OutputExpiry(Strict):
    """When the files of answers go by themselves."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2592000)


class BatchOrder(Strict):
    """The body of a new batch."""

    input_file_id: str
    endpoint: _Path
    completion_window: Literal["24h"]
    metadata: dict[str, str] | None = None
    output_expires_after: OutputExpiry | None = None


class BatchesQuery(Strict):
    """How many batches, behind which."""

    limit: int = Field(20, ge=1, le=_MOST)
    after: str = ""


class BatchProblem(Strict):
    """Something wrong with the input."""

    code: str
    message: str
    line: int | None
    param: str | None


class BatchProblems(Strict):
    """All that is said of the input."""

    object: Literal["list"]
    data: list[BatchProblem]


class BatchCounts(Strict):
    """How many requests are how far."""

    total: int
    completed: int
    failed: int


class BatchUsage(Strict):
    """Tokens of all answers together."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class BatchShown(Strict):
    """A batch."""

    id: str
    object: Literal["batch"]
    endpoint: _Path
    errors: BatchProblems | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    cancelling_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelled_at: int | None
    request_counts: BatchCounts
    metadata: dict[str, str] | None
    model: str | None
    usage: BatchUsage


class BatchesShown(Strict):
    """A page of batches."""

    object: Literal["list"]
    data: list[BatchShown]
    first_id: str | None
    last_id: str | None
    has_more: bool


class _Exchange:
    """What all of these share."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent: dict[str, str] = {"input_file": "input_file_id", "page_size": "limit"}
        self._servicer = servicers.batches


class CreateExchange(_Exchange):
    """A new batch."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        body = parse(BatchOrder, asked.body)
        return pb.CreateBatchRequest(
            input_file=body.input_file_id,
            endpoint=_ENDPOINTS[body.endpoint],
            completion_window_seconds=_DAY_SECONDS,
            metadata=body.metadata or {},
            output_expires_after_seconds=body.output_expires_after.seconds if body.output_expires_after else 0,
            request_id=self.request_id,
        )

    async def answer(self, message: pb.CreateBatchRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield json.dumps(rendered((await self._servicer.CreateBatch(message, context)).batch)).encode()


class GetExchange(_Exchange):
    """One batch."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        return pb.GetBatchRequest(batch=asked.path["batch"])

    async def answer(self, message: pb.GetBatchRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield json.dumps(rendered((await self._servicer.GetBatch(message, context)).batch)).encode()


class ListExchange(_Exchange):
    """A page of batches."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query, "limit", "after")
        return pb.ListBatchesRequest(page_size=queries.limit(asked.query), after=asked.query.get("after", ""))

    async def answer(self, message: pb.ListBatchesRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        found = await self._servicer.ListBatches(message, context)
        yield json.dumps(queries.page([rendered(each) for each in found.batches], has_more=found.has_more)).encode()


class CancelExchange(_Exchange):
    """An early end."""

    def parse(self, asked: Asked) -> Message:
        """As Exchange."""
        queries.only(asked.query)
        if asked.body.strip() not in (b"", b"{}"):
            raise Failure(Reason.PARAMETER_UNSUPPORTED, field="body", why=" here: the path says all")
        return pb.CancelBatchRequest(batch=asked.path["batch"])

    async def answer(self, message: pb.CancelBatchRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        yield json.dumps(rendered((await self._servicer.CancelBatch(message, context)).batch)).encode()


def rendered(batch: batch_pb2.Batch) -> dict[str, Any]:
    """A batch as OpenAI shows one."""
    state = batch_pb2.BatchState.Name(batch.state).removeprefix("BATCH_STATE_").lower()
    ends: dict[str, int | None] = {f"{name}_at": None for name in ("completed", "failed", "expired", "cancelled")}
    if batch.HasField("end_time"):
        ends[f"{state}_at"] = batch.end_time.seconds
    problems = [
        {"code": each.code, "message": each.message, "line": each.line or None, "param": each.param or None}
        for each in batch.problems
    ]
    usage = batch.usage
    return {
        "id": batch.batch,
        "object": "batch",
        "endpoint": _ENDPOINTS_BACK[batch.endpoint],
        "errors": {"object": "list", "data": problems} if problems else None,
        "input_file_id": batch.input_file,
        "completion_window": f"{batch.completion_window_seconds // 3600}h",
        "status": state,
        "output_file_id": batch.output_file or None,
        "error_file_id": batch.error_file or None,
        "created_at": batch.create_time.seconds,
        "in_progress_at": _maybe(batch, "start_time"),
        "expires_at": batch.expire_time.seconds,
        "finalizing_at": _maybe(batch, "finalize_time"),
        "cancelling_at": _maybe(batch, "cancel_time"),
        **ends,
        "request_counts": {"total": batch.total, "completed": batch.completed, "failed": batch.failed},
        "metadata": dict(batch.metadata) or None,
        "model": batch.model or None,
        "usage": {
            "input_tokens": usage.prompt_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_prompt_tokens},
            "output_tokens": usage.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        },
    }


def _maybe(batch: batch_pb2.Batch, field: str) -> int | None:
    stamp: Timestamp = getattr(batch, field)
    return stamp.seconds if batch.HasField(field) else None  # type: ignore[arg-type]  # one of the fields above


_RPCS = pb.DESCRIPTOR.services_by_name["BatchService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        "/v1/batches",
        CreateExchange,
        rpc=_RPCS["CreateBatch"],
        summary="Begin a batch.",
        body=BatchOrder,
        query=NoQuery,
        answer=BatchShown,
    ),
    Route(
        "GET",
        "/v1/batches",
        ListExchange,
        rpc=_RPCS["ListBatches"],
        summary="The batches.",
        query=BatchesQuery,
        answer=BatchesShown,
    ),
    Route(
        "GET",
        "/v1/batches/{batch}",
        GetExchange,
        rpc=_RPCS["GetBatch"],
        summary="One batch.",
        query=NoQuery,
        answer=BatchShown,
    ),
    Route(
        "POST",
        "/v1/batches/{batch}/cancel",
        CancelExchange,
        rpc=_RPCS["CancelBatch"],
        summary="End a batch early.",
        query=NoQuery,
        body=Nothing,
        answer=BatchShown,
    ),
)
