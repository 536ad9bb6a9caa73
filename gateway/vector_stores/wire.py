"""``trivium.gateway.v1.VectorStoreService`` and the domain, both ways."""

from typing import Protocol

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.gateway.v1 import vector_stores_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from gateway.peers.metadata_values import of_values, to_values
from gateway.vector_stores.nouns import (
    Attributes,
    Batch,
    BatchState,
    FileCounts,
    FileDraft,
    FileStatus,
    Found,
    Hit,
    Listing,
    Order,
    Query,
    Store,
    StoreChange,
    StoredFile,
    StoreDraft,
    StoreStatus,
)
from gateway.vector_stores.stores import days_of

_STORE = {
    StoreStatus.IN_PROGRESS: pb.VECTOR_STORE_STATUS_IN_PROGRESS,
    StoreStatus.COMPLETED: pb.VECTOR_STORE_STATUS_COMPLETED,
    StoreStatus.EXPIRED: pb.VECTOR_STORE_STATUS_EXPIRED,
}
_FILE = {
    FileStatus.IN_PROGRESS: pb.VECTOR_STORE_FILE_STATUS_IN_PROGRESS,
    FileStatus.COMPLETED: pb.VECTOR_STORE_FILE_STATUS_COMPLETED,
    FileStatus.FAILED: pb.VECTOR_STORE_FILE_STATUS_FAILED,
}
_STATUSES = {int(number): status for status, number in _FILE.items()}
_BATCH = {
    BatchState.RUNNING: retriever_pb2.BATCH_STATE_RUNNING,
    BatchState.COMPLETED: retriever_pb2.BATCH_STATE_COMPLETED,
    BatchState.FAILED: retriever_pb2.BATCH_STATE_FAILED,
    BatchState.CANCELLED: retriever_pb2.BATCH_STATE_CANCELLED,
}


class Page(Protocol):
    """What every request for a page has."""

    @property
    def limit(self) -> int:
        """Most entries."""

    @property
    def order(self) -> "retriever_pb2.ListOrder.ValueType":
        """By age, in which direction."""

    @property
    def after(self) -> str:
        """Id of an entry."""

    @property
    def before(self) -> str:
        """Id of an entry."""


def listing(request: Page, status: int = pb.VECTOR_STORE_FILE_STATUS_UNSPECIFIED) -> Listing:
    """Which page is wanted."""
    oldest = request.order == retriever_pb2.LIST_ORDER_OLDEST_FIRST
    order = Order.OLDEST_FIRST if oldest else Order.NEWEST_FIRST
    return Listing(request.limit, order, request.after, request.before, _STATUSES.get(status))


def draft(request: pb.CreateVectorStoreRequest) -> StoreDraft:
    """What a new store is to be."""
    return StoreDraft(
        request.name,
        request.description,
        dict(request.metadata),
        request.expire_after_days,
        tuple(request.files),
    )


def change(request: pb.UpdateVectorStoreRequest) -> StoreChange:
    """What is to be another."""
    return StoreChange(
        name=request.name if request.HasField("name") else None,
        description=request.description if request.HasField("description") else None,
        metadata=dict(request.metadata.values) if request.HasField("metadata") else None,
        expire_after_days=request.expire_after_days if request.HasField("expire_after_days") else None,
    )


def query(request: pb.SearchVectorStoreRequest) -> Query:
    """What is looked for."""
    ranking = request.ranking_options
    return Query(
        texts=tuple(request.queries),
        narrowed=request.filter.SerializeToString() if request.HasField("filter") else b"",
        most=request.max_num_results,
        ranker=ranking.ranker,
        score_threshold=ranking.score_threshold,
        dense_weight=ranking.dense_weight if ranking.HasField("dense_weight") else None,
        rewrite=request.rewrite_query,
    )


def file_draft(message: pb.VectorStoreFileDraft) -> FileDraft:
    """A file that is to be put into a store."""
    return FileDraft(message.file, of_values(message.attributes))


def attributes(request: pb.UpdateVectorStoreFileRequest) -> Attributes:
    """What a file is to be described by."""
    return of_values(request.attributes)


def store(value: Store) -> pb.VectorStore:
    """A store as the API shows it."""
    about = value.collection
    return pb.VectorStore(
        vector_store=about.collection,
        name=about.title,
        description=about.description,
        create_time=_time(about.created_at),
        status=_STORE[value.status],
        file_counts=_counts(value.holdings.files),
        usage_bytes=value.holdings.source_bytes,
        metadata=about.metadata,
        expire_after_days=days_of(about.expire_after_seconds),
        last_active_time=_time(about.last_active_at),
        expire_time=None if about.expires_at is None else _time(about.expires_at),
    )


def file(value: StoredFile) -> pb.VectorStoreFile:
    """A file of a store as the API shows it."""
    return pb.VectorStoreFile(
        file=value.file,
        vector_store=value.store,
        filename=value.filename,
        create_time=_time(value.created_at),
        status=_FILE[value.status],
        problem=value.problem,
        usage_bytes=value.usage_bytes,
        attributes=to_values(value.attributes),
        refused=value.refused,
    )


def batch(value: Batch) -> pb.VectorStoreFileBatch:
    """A batch as the API shows it."""
    return pb.VectorStoreFileBatch(
        batch=value.batch,
        vector_store=value.store,
        state=_BATCH[value.state],
        file_counts=_counts(value.files),
        create_time=_time(value.created_at),
    )


def found(request: pb.SearchVectorStoreRequest, value: Found) -> pb.SearchVectorStoreResponse:
    """Passages as the API shows them."""
    return pb.SearchVectorStoreResponse(
        search_queries=[*request.queries, *value.expansions], hits=[_hit(item) for item in value.hits]
    )


def _hit(value: Hit) -> pb.VectorStoreHit:
    passage = retriever_pb2.Passage(
        collection=value.store,
        document=value.file,
        version=value.version,
        chunk=value.chunk,
        start=value.start,
        end=value.end,
    )
    return pb.VectorStoreHit(
        file=value.file,
        filename=value.filename,
        score=value.score,
        attributes=to_values(value.attributes),
        text=value.text,
        passage=passage,
    )


def _counts(value: FileCounts) -> pb.FileCounts:
    return pb.FileCounts(
        in_progress=value.in_progress,
        completed=value.completed,
        failed=value.failed,
        cancelled=value.cancelled,
        total=value.total,
    )


def _time(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp
