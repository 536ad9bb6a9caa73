"""Vector stores, their files and what is found in them as OpenAI's clients read them."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.gateway.v1 import vector_stores_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

_STORE = {
    pb.VECTOR_STORE_STATUS_IN_PROGRESS: "in_progress",
    pb.VECTOR_STORE_STATUS_COMPLETED: "completed",
    pb.VECTOR_STORE_STATUS_EXPIRED: "expired",
}
_FILE = {
    pb.VECTOR_STORE_FILE_STATUS_IN_PROGRESS: "in_progress",
    pb.VECTOR_STORE_FILE_STATUS_COMPLETED: "completed",
    pb.VECTOR_STORE_FILE_STATUS_FAILED: "failed",
}
_BATCH = {
    retriever_pb2.BATCH_STATE_RUNNING: "in_progress",
    retriever_pb2.BATCH_STATE_COMPLETED: "completed",
    retriever_pb2.BATCH_STATE_FAILED: "failed",
    retriever_pb2.BATCH_STATE_CANCELLED: "cancelled",
}
# What a file is said to be cut by: its own structure, for which OpenAI has no name.
_CHUNKING = {"type": "other"}


def store(message: pb.VectorStore) -> dict[str, Any]:
    """A store."""
    days = message.expire_after_days
    return {
        "id": message.vector_store,
        "object": "vector_store",
        "created_at": message.create_time.seconds,
        "name": message.name,
        "description": message.description or None,
        "usage_bytes": message.usage_bytes,
        "file_counts": _counts(message.file_counts),
        "status": _STORE.get(message.status, "in_progress"),
        "expires_after": {"anchor": "last_active_at", "days": days} if days else None,
        "expires_at": _moment(message.expire_time) if message.HasField("expire_time") else None,
        "last_active_at": message.last_active_time.seconds,
        "metadata": dict(message.metadata),
    }


def file(message: pb.VectorStoreFile) -> dict[str, Any]:
    """A file of a store."""
    failed = message.status == pb.VECTOR_STORE_FILE_STATUS_FAILED
    code = "unsupported_file" if message.refused else "invalid_file"
    return {
        "id": message.file,
        "object": "vector_store.file",
        "created_at": message.create_time.seconds,
        "usage_bytes": message.usage_bytes,
        "vector_store_id": message.vector_store,
        "status": _FILE.get(message.status, "in_progress"),
        "last_error": {"code": code, "message": message.problem} if failed else None,
        "chunking_strategy": _CHUNKING,
        "attributes": attributes(message.attributes),
        "trivium": {"filename": message.filename, "waits_for": message.problem if not failed else ""},
    }


def batch(message: pb.VectorStoreFileBatch) -> dict[str, Any]:
    """Files that were put into a store as one."""
    return {
        "id": message.batch,
        "object": "vector_store.files_batch",
        "created_at": message.create_time.seconds,
        "vector_store_id": message.vector_store,
        "status": _BATCH.get(message.state, "in_progress"),
        "file_counts": _counts(message.file_counts),
    }


def found(message: pb.SearchVectorStoreResponse) -> dict[str, Any]:
    """Passages, all on one page."""
    return {
        "object": "vector_store.search_results.page",
        "search_query": list(message.search_queries),
        "data": [_hit(item) for item in message.hits],
        "has_more": False,
        "next_page": None,
    }


def page(entries: Sequence[dict[str, Any]], more: bool) -> dict[str, Any]:
    """A page of a list."""
    return {
        "object": "list",
        "data": list(entries),
        "first_id": entries[0]["id"] if entries else None,
        "last_id": entries[-1]["id"] if entries else None,
        "has_more": more,
    }


def deleted(identity: str, kind: str) -> dict[str, Any]:
    """What is there no more."""
    return {"id": identity, "object": kind, "deleted": True}


def attributes(values: Mapping[str, retriever_pb2.MetadataValue]) -> dict[str, str | float | bool]:
    """Attributes; labels and moments, which OpenAI has not, as texts."""
    return {name: _value(value) for name, value in sorted(values.items())}


def _value(value: retriever_pb2.MetadataValue) -> str | float | bool:
    kind = value.WhichOneof("value")
    if kind == "number":
        return int(value.number) if value.number.is_integer() else value.number
    if kind == "flag":
        return value.flag
    if kind == "time":
        return value.time.ToJsonString()
    return ", ".join(value.texts.texts) if kind == "texts" else value.text


def _hit(hit: pb.VectorStoreHit) -> dict[str, Any]:
    place = hit.passage
    return {
        "file_id": hit.file,
        "filename": hit.filename,
        "score": hit.score,
        "attributes": attributes(hit.attributes),
        "content": [{"type": "text", "text": hit.text}],
        "trivium": {"version": place.version, "chunk": place.chunk, "start": place.start, "end": place.end},
    }


def _counts(counts: pb.FileCounts) -> dict[str, int]:
    return {
        "in_progress": counts.in_progress,
        "completed": counts.completed,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "total": counts.total,
    }


def _moment(stamp: Timestamp) -> int:
    return stamp.seconds
