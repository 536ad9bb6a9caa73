"""Batches of documents between protobuf and the domain."""

from collections.abc import Iterable

from trivium.retriever.v1 import retriever_pb2 as pb

from services.retriever import wire
from services.retriever.documents.batches import Batch, BatchState, Refused
from services.retriever.documents.states import State

_STATES = {
    BatchState.RUNNING: pb.BATCH_STATE_RUNNING,
    BatchState.COMPLETED: pb.BATCH_STATE_COMPLETED,
    BatchState.FAILED: pb.BATCH_STATE_FAILED,
    BatchState.CANCELLED: pb.BATCH_STATE_CANCELLED,
}


def refused(request: pb.CreateDocumentBatchRequest) -> list[Refused]:
    """What was to be in the batch."""
    return [Refused(it.document, it.reason) for it in request.refused]


def states(given: Iterable["pb.IngestionState.ValueType"]) -> list[State]:
    """States of documents; what is not stated asks for none."""
    return [state for state, number in wire.STATES.items() if number in set(given)]


def batch(value: Batch) -> pb.DocumentBatch:
    """A batch as the API shows it."""
    return pb.DocumentBatch(
        batch=value.batch,
        collection=value.collection,
        state=_STATES[value.state],
        create_time=wire.time(value.created_at),
        pending=value.pending,
        ready=value.ready,
        failed=value.failed,
        gone=value.gone,
    )
