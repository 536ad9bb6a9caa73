"""Between protobuf and the batches of the domain."""

from trivium.files.v1 import batch_pb2 as pb

from services.files.batches.batch import Batch, Endpoint, Order, State
from services.files.wire import time

_ENDPOINTS = {
    Endpoint.CHAT_COMPLETIONS: pb.BATCH_ENDPOINT_CHAT_COMPLETIONS,
    Endpoint.COMPLETIONS: pb.BATCH_ENDPOINT_COMPLETIONS,
    Endpoint.EMBEDDINGS: pb.BATCH_ENDPOINT_EMBEDDINGS,
    Endpoint.RESPONSES: pb.BATCH_ENDPOINT_RESPONSES,
}
_ENDPOINTS_BACK = {number: endpoint for endpoint, number in _ENDPOINTS.items()}
_STATES = {
    State.VALIDATING: pb.BATCH_STATE_VALIDATING,
    State.FAILED: pb.BATCH_STATE_FAILED,
    State.IN_PROGRESS: pb.BATCH_STATE_IN_PROGRESS,
    State.FINALIZING: pb.BATCH_STATE_FINALIZING,
    State.COMPLETED: pb.BATCH_STATE_COMPLETED,
    State.EXPIRED: pb.BATCH_STATE_EXPIRED,
    State.CANCELLING: pb.BATCH_STATE_CANCELLING,
    State.CANCELLED: pb.BATCH_STATE_CANCELLED,
}
_DAY_SECONDS = 24 * 3600
_DEFAULT_SIZE = 20


def order(request: pb.CreateBatchRequest) -> Order:
    """What a new batch is to be."""
    return Order(
        input_file=request.input_file,
        endpoint=_ENDPOINTS_BACK[request.endpoint],
        window_seconds=request.completion_window_seconds or _DAY_SECONDS,
        output_seconds=request.output_expires_after_seconds or 30 * _DAY_SECONDS,
        metadata=dict(request.metadata),
    )


def size(request: pb.ListBatchesRequest) -> int:
    """How many a page shows."""
    return request.page_size or _DEFAULT_SIZE


def batch(value: Batch) -> pb.Batch:
    """A batch as the API shows it."""
    return pb.Batch(
        batch=value.batch,
        endpoint=_ENDPOINTS[value.order.endpoint],
        input_file=value.order.input_file,
        output_file=value.output_file,
        error_file=value.error_file,
        state=_STATES[value.state],
        completion_window_seconds=value.order.window_seconds,
        metadata=value.order.metadata,
        problems=[
            pb.BatchProblem(code=each.code, message=each.message, line=each.line, param=each.param)
            for each in value.problems
        ],
        total=value.total,
        completed=value.completed,
        failed=value.failed,
        usage=pb.BatchUsage(
            prompt_tokens=value.tokens.prompt,
            cached_prompt_tokens=value.tokens.cached,
            completion_tokens=value.tokens.completion,
        ),
        model=value.model,
        create_time=time(value.created_at),
        expire_time=time(value.expires_at),
        start_time=time(value.started_at),
        finalize_time=time(value.finalized_at),
        cancel_time=time(value.cancelled_at),
        end_time=time(value.ended_at),
    )


def listed(found: list[Batch], limit: int) -> pb.ListBatchesResponse:
    """A page of at most ``limit`` of what was found."""
    return pb.ListBatchesResponse(batches=[batch(each) for each in found[:limit]], has_more=len(found) > limit)
