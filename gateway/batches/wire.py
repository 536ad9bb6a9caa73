"""Between our messages of batches and those of the service that runs them: the same facts in another package."""

from trivium.files.v1 import batch_pb2
from trivium.gateway.v1 import batches_pb2 as pb


def order(request: pb.CreateBatchRequest) -> batch_pb2.CreateBatchRequest:
    """What a new batch is to be."""
    return batch_pb2.CreateBatchRequest(
        input_file=request.input_file,
        endpoint=request.endpoint,
        completion_window_seconds=request.completion_window_seconds,
        metadata=request.metadata,
        output_expires_after_seconds=request.output_expires_after_seconds,
        request_id=request.request_id,
    )


def wanted(request: pb.ListBatchesRequest) -> batch_pb2.ListBatchesRequest:
    """Which batches a list shows."""
    return batch_pb2.ListBatchesRequest(page_size=request.page_size, after=request.after)


def listed(answer: batch_pb2.ListBatchesResponse) -> pb.ListBatchesResponse:
    """A page of batches."""
    return pb.ListBatchesResponse(batches=answer.batches, has_more=answer.has_more)
