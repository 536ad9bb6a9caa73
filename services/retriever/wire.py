"""Between protobuf and the domain of the retriever: collections and documents."""

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable

from google.protobuf.timestamp_pb2 import Timestamp
from trivium.common.v1 import transfer_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.context import current
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey, key_for
from services.retriever import collection as collections
from services.retriever import wire_search, wire_values
from services.retriever.collection import Collection, Statistics
from services.retriever.documents.attributes import Value, decoded
from services.retriever.documents.documents import Document, Excerpt, Stored, Version
from services.retriever.documents.intake import Announced, Draft, with_content
from services.retriever.documents.readers import Viewer, manager
from services.retriever.documents.states import State
from services.retriever.documents.watching import Beat
from services.retriever.index.places import Kind
from services.retriever.index.reindexing import Progress
from services.retriever.questions.rows import Progress as QuestionProgress
from services.retriever.reembedding.state import Change

STATES = {
    State.PENDING: pb.INGESTION_STATE_PENDING,
    State.RUNNING: pb.INGESTION_STATE_RUNNING,
    State.READY: pb.INGESTION_STATE_READY,
    State.FAILED: pb.INGESTION_STATE_FAILED,
    State.SUPERSEDED: pb.INGESTION_STATE_SUPERSEDED,
}

_INDEXES = {Kind.EMBEDDED.value: pb.INDEX_KIND_EMBEDDED, Kind.WEAVIATE.value: pb.INDEX_KIND_WEAVIATE}


def tenant() -> str:
    """Whose call this is."""
    return current().tenant_id


def viewer(as_readers: Iterable[str]) -> Viewer:
    """Who looks at documents one by one.  Raises ROLE_MISSING."""
    return manager(current(), as_readers)


def time(seconds: float) -> Timestamp:
    """Unix time in seconds as a timestamp."""
    stamp = Timestamp()
    stamp.FromMicroseconds(int(seconds * 1e6))
    return stamp


def collection(value: Collection) -> pb.Collection:
    """A collection as the API shows it."""
    return pb.Collection(
        name=f"tenants/{value.tenant}/collections/{value.collection}",
        collection=value.collection,
        description=value.description,
        embedding_digest=value.embedding_digest,
        create_time=time(value.created_at),
        etag=value.etag,
        reembedding=_change(value.change),
        index=_INDEXES.get(value.index_kind, pb.INDEX_KIND_UNSPECIFIED),
        search_settings=wire_search.shown_settings(value.search_settings),
        questions=_questions(value.questions),
        answerable_threshold=value.answerable_threshold,
        former_answerable_threshold=value.former_threshold,
        title=value.title,
        metadata=value.metadata,
        expire_after_seconds=value.expire_after_seconds,
        last_active_time=time(value.last_active_at),
        expire_time=None if value.expires_at is None else time(value.expires_at),
        expired=value.expired_at is not None,
        version=value.version,
    )


def collection_draft(request: pb.CreateCollectionRequest) -> collections.Draft:
    """What a new collection is to be."""
    return collections.Draft(
        request.collection, request.description, request.title, dict(request.metadata), request.expire_after_seconds
    )


def collection_change(request: pb.UpdateCollectionRequest) -> collections.Change:
    """What is to be another, under which etag."""
    return collections.Change(
        description=request.description if request.HasField("description") else None,
        title=request.title if request.HasField("title") else None,
        metadata=dict(request.metadata.values) if request.HasField("metadata") else None,
        expire_after_seconds=request.expire_after_seconds if request.HasField("expire_after_seconds") else None,
        settings=wire_search.settings(request.search_settings) if request.HasField("search_settings") else None,
        answerable_threshold=request.answerable_threshold if request.HasField("answerable_threshold") else None,
        etag=request.etag,
    )


def _questions(value: QuestionProgress | None) -> pb.QuestionProgress | None:
    if value is None:
        return None
    return pb.QuestionProgress(chunks=value.chunks, chunks_done=value.done, reason=value.reason)


def _change(value: Change | None) -> pb.Reembedding | None:
    if value is None:
        return None
    return pb.Reembedding(
        model=value.model,
        embedding_digest=value.model_digest,
        running=value.running,
        reason=value.reason,
        documents=value.documents,
        documents_done=value.documents_done,
    )


def index_kind(value: "pb.IndexKind.ValueType") -> Kind | None:
    """Which index is meant; None where it is."""
    return next((Kind(name) for name, number in _INDEXES.items() if number == value), None)


def index_progress(value: Progress) -> pb.ReindexResponse:
    """How far a build is."""
    return pb.ReindexResponse(
        index=_INDEXES[value.kind.value], chunks_done=value.done, chunks=value.total, digest=value.digest
    )


def statistics(value: Statistics) -> pb.GetStatisticsResponse:
    """Counts of a collection."""
    return pb.GetStatisticsResponse(
        documents=value.documents,
        chunks=value.chunks,
        characters=value.characters,
        pending=value.pending,
        failed=value.failed,
        vectors_computed=value.vectors_computed,
        source_bytes=value.source_bytes,
    )


def draft(header: pb.DocumentHeader) -> Draft:
    """What a header asks to be stored."""
    return Draft(
        header.collection,
        header.document,
        header.title,
        header.media_type,
        dict(header.metadata),
        attributes(header),
        tuple(header.readers),
        viewer(()),
        header.filename,
    )


def attributes(message: pb.DocumentHeader | pb.UpdateDocumentRequest) -> dict[str, Value]:
    """Typed metadata as it came."""
    return {name: wire_values.value(it) for name, it in message.typed_metadata.items()}


def put_key(request: pb.PutDocumentRequest) -> IdempotencyKey:
    """The identity of a put: its header's, and its bytes."""
    return with_content(key_for(request.header), hashlib.sha256(request.content).hexdigest())


def upload_key(header: pb.DocumentUploadHeader) -> IdempotencyKey:
    """The identity of an upload: its header's, and the digest of the bytes that it announces."""
    return with_content(key_for(header.document), header.upload.sha256)


async def upload_header(requests: AsyncIterator[pb.UploadDocumentRequest]) -> pb.DocumentUploadHeader:
    """The header that opens an upload.  Raises REQUEST_STREAM_EMPTY, FIELD_INVALID."""
    async for request in requests:
        if request.WhichOneof("part") != "header":
            raise Failure(Reason.FIELD_INVALID, field="header", problem="the first message of an upload is its header")
        return request.header
    raise Failure(Reason.REQUEST_STREAM_EMPTY)


def announced(header: pb.DocumentUploadHeader) -> Announced:
    """What an upload says is coming."""
    upload = header.upload
    return Announced(upload.size_bytes, upload.sha256, upload.resume_offset_bytes)


async def chunks(requests: AsyncIterable[pb.UploadDocumentRequest]) -> AsyncIterator[transfer_pb2.Chunk]:
    """The chunks behind the header.  Raises FIELD_INVALID."""
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise Failure(Reason.FIELD_INVALID, field="chunk", problem="only chunks follow the header")
        yield request.chunk


def document(value: Document) -> pb.Document:
    """A document as the API shows it."""
    return pb.Document(
        collection=value.collection,
        document=value.document,
        title=value.title,
        serving_version=value.serving_version,
        newest_version=value.newest_version,
        state=STATES[State(value.state)],
        reason=value.reason,
        media_type=_media_type(value),
        metadata=dict(value.metadata),
        update_time=time(value.updated_at),
        chunks=value.chunks,
        chunks_embedded=value.chunks_embedded,
        chunks_reused=value.chunks_reused,
        source_sha256=value.source_sha256,
        source_bytes=value.source_bytes,
        notice=value.notice,
        readers=value.readers,
        typed_metadata={name: wire_values.shown(it) for name, it in decoded(value.attributes_json).items()},
    )


def _media_type(value: Document) -> str:
    """With the charset, unless it is the one that holds where none is named."""
    return f"{value.media_type}; charset={value.charset}" if value.charset not in ("", "utf-8") else value.media_type


def put_response(value: Stored) -> pb.PutDocumentResponse:
    """What a put came to."""
    return pb.PutDocumentResponse(document=document(value.document), new_version=value.new_version)


def upload_response(value: Stored) -> pb.UploadDocumentResponse:
    """What an upload came to."""
    return pb.UploadDocumentResponse(document=document(value.document), new_version=value.new_version)


def version(value: Version) -> pb.DocumentVersion:
    """A version as the API shows it."""
    return pb.DocumentVersion(
        version=value.version,
        characters=value.characters,
        source_sha256=value.source_sha256,
        create_time=time(value.created_at),
        state=STATES[State(value.state)],
        pages=value.pages,
    )


def excerpt(value: Excerpt) -> pb.GetDocumentTextResponse:
    """Characters of a version."""
    return pb.GetDocumentTextResponse(text=value.text, version=value.version, characters=value.characters)


def beat(value: Beat) -> pb.WatchIngestionResponse:
    """One message of a watch."""
    return pb.WatchIngestionResponse(document=document(value.document), pending=value.pending)
