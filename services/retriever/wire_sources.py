"""Between protobuf and the domain of the retriever, for sources; part of ``wire``."""

from collections.abc import Sequence

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.retriever.v1 import retriever_pb2 as pb

from services.retriever import wire
from services.retriever.sources.sources import ObjectFailure, Order, Source, SourceState

_STATES = {
    SourceState.QUEUED: pb.SOURCE_STATE_QUEUED,
    SourceState.RUNNING: pb.SOURCE_STATE_RUNNING,
    SourceState.READY: pb.SOURCE_STATE_READY,
    SourceState.FAILED: pb.SOURCE_STATE_FAILED,
    SourceState.CANCELLED: pb.SOURCE_STATE_CANCELLED,
    SourceState.DELETING: pb.SOURCE_STATE_DELETING,
}


def order(request: pb.IngestSourceRequest) -> Order:
    """What is to be read."""
    return Order(
        request.collection, request.uri, request.prune, request.refresh_seconds, tuple(request.readers), wire.viewer(())
    )


def source(value: Source) -> pb.Source:
    """A source as the API shows it."""
    return pb.Source(
        source=value.source,
        collection=value.collection,
        uri=value.uri,
        state=_STATES[SourceState(value.state)],
        reason=value.reason,
        prune=value.prune,
        refresh_seconds=value.refresh_seconds,
        found=value.found,
        stored=value.stored,
        unchanged=value.unchanged,
        failed=value.failed,
        deleted=value.deleted,
        fetched_bytes=value.fetched_bytes,
        create_time=_time(value.created_at),
        read_time=_time(value.read_at),
        due_time=_time(value.due_at),
        readers=value.readers,
    )


def source_with_failures(value: Source, failures: Sequence[ObjectFailure]) -> pb.GetSourceResponse:
    """A source, and what of it is no document."""
    return pb.GetSourceResponse(
        source=source(value), failures=[pb.SourceFailure(uri=item.uri, reason=item.reason) for item in failures]
    )


def _time(seconds: float | None) -> Timestamp | None:
    if seconds is None:
        return None
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp
