"""The retriever's messages as vector stores see them."""

from typing import Any

from trivium.retriever.v1 import retriever_pb2 as pb

from gateway.peers.metadata_values import of_values
from gateway.peers.ranking import rank
from gateway.vector_stores.nouns import (
    Batch,
    BatchState,
    Collection,
    FileCounts,
    FileStatus,
    Found,
    Hit,
    Listing,
    Order,
    Query,
    StoredFile,
)

_DEFAULT_LIMIT = 20
_DEFAULT_HITS = 10
_ORDERS = {Order.NEWEST_FIRST: pb.LIST_ORDER_NEWEST_FIRST, Order.OLDEST_FIRST: pb.LIST_ORDER_OLDEST_FIRST}
_STATUSES = {
    FileStatus.IN_PROGRESS: (pb.INGESTION_STATE_PENDING, pb.INGESTION_STATE_RUNNING),
    FileStatus.COMPLETED: (pb.INGESTION_STATE_READY,),
    FileStatus.FAILED: (pb.INGESTION_STATE_FAILED,),
}
_STATES = {int(state): status for status, states in _STATUSES.items() for state in states}
_BATCHES = {
    int(pb.BATCH_STATE_RUNNING): BatchState.RUNNING,
    int(pb.BATCH_STATE_COMPLETED): BatchState.COMPLETED,
    int(pb.BATCH_STATE_FAILED): BatchState.FAILED,
    int(pb.BATCH_STATE_CANCELLED): BatchState.CANCELLED,
}


def listed(listing: Listing) -> dict[str, Any]:
    """Fields of a request for a page; states only where a status is stated."""
    fields: dict[str, Any] = {
        "page_size": listing.limit or _DEFAULT_LIMIT,
        "order": _ORDERS[listing.order],
        "after": listing.after,
        "before": listing.before,
    }
    return fields if listing.status is None else {**fields, "states": _STATUSES[listing.status]}


def search_request(collection: str, query: Query) -> pb.SearchRequest:
    """A query; what it does not say is as the collection has it."""
    request = pb.SearchRequest(
        collections=[collection], queries=query.texts, top_k=query.most or _DEFAULT_HITS, with_metadata=True
    )
    if query.narrowed:
        request.filter.ParseFromString(query.narrowed)
    rank(request, query.ranker, query.dense_weight)
    if query.rewrite:
        request.decompose = True
    return request


def found(answer: pb.SearchResponse) -> Found:
    """Passages, and the texts that a generator made of the query."""
    texts = [text for it in answer.expansions if it.kind == pb.EXPANSION_KIND_DECOMPOSITION for text in it.texts]
    return Found(tuple(_hit(item) for item in answer.hits), tuple(texts))


def _hit(hit: pb.Hit) -> Hit:
    return Hit(
        store=hit.collection,
        file=hit.document,
        filename=hit.title,
        version=hit.version,
        chunk=hit.chunk,
        start=hit.start,
        end=hit.end,
        text=hit.text,
        score=hit.score,
        attributes=of_values(hit.metadata),
    )


def collection(message: pb.Collection) -> Collection:
    """A collection."""
    return Collection(
        collection=message.collection,
        title=message.title,
        description=message.description,
        metadata=dict(message.metadata),
        created_at=message.create_time.ToNanoseconds() / 1e9,
        last_active_at=message.last_active_time.ToNanoseconds() / 1e9,
        expire_after_seconds=message.expire_after_seconds,
        expires_at=message.expire_time.ToNanoseconds() / 1e9 if message.HasField("expire_time") else None,
        expired=message.expired,
        etag=message.etag,
    )


def document(message: pb.Document) -> StoredFile:
    """A document as a file of its store."""
    status = _STATES.get(message.state, FileStatus.IN_PROGRESS)
    return StoredFile(
        file=message.document,
        store=message.collection,
        filename=message.title or message.document,
        created_at=message.update_time.ToNanoseconds() / 1e9,
        status=status,
        problem=message.reason,
        usage_bytes=message.source_bytes,
        attributes={**message.metadata, **of_values(message.typed_metadata)},
        # Whatever is stored has a digest.
        refused=status is FileStatus.FAILED and not message.source_sha256,
    )


def batch(message: pb.DocumentBatch) -> Batch:
    """A batch."""
    return Batch(
        batch=message.batch,
        store=message.collection,
        state=_BATCHES.get(message.state, BatchState.RUNNING),
        files=FileCounts(message.pending, message.ready, message.failed, message.gone),
        created_at=message.create_time.ToNanoseconds() / 1e9,
    )
