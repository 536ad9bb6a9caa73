"""From OpenAI's requests about vector stores to our own API's: names and places change, meaning does not."""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field
from trivium.gateway.v1 import vector_stores_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from gateway.http import bodies
from gateway.http.bodies import Body, Count, Number, Text
from gateway.http.filters import Filter, Value, filter_of, value
from gateway.http.transport import Asked
from services.chassis.errors import Failure, Reason

_ORDERS = {"asc": retriever_pb2.LIST_ORDER_OLDEST_FIRST, "desc": retriever_pb2.LIST_ORDER_NEWEST_FIRST}
_STATUSES = {
    "in_progress": pb.VECTOR_STORE_FILE_STATUS_IN_PROGRESS,
    "completed": pb.VECTOR_STORE_FILE_STATUS_COMPLETED,
    "failed": pb.VECTOR_STORE_FILE_STATUS_FAILED,
}
_CHUNKING = (
    ": chunks are cut where the text's own structure allows it, without overlap, and no longer than the deployment says; "
    "use auto"
)
# OpenAI's own ranker, which its clients name where they mean the one that there is.
_DEFAULT_RANKERS = ("auto", "default-2024-11-15")
_Request = TypeVar(
    "_Request", pb.ListVectorStoresRequest, pb.ListVectorStoreFilesRequest, pb.ListVectorStoreFileBatchFilesRequest
)
Metadata = dict[str, Text]
Attributes = dict[str, Value]


class ExpiresAfter(Body):
    """When a store ends by itself."""

    anchor: Literal["last_active_at"]
    days: Annotated[int, Field(strict=True, ge=1, le=365)]


class Static(Body):
    """Sizes of chunks."""

    max_chunk_size_tokens: Count
    chunk_overlap_tokens: Count


class Chunking(Body):
    """How files are cut."""

    type: Literal["auto", "static"]
    static: Static | None = None


class CreateStore(Body):
    """POST /v1/vector_stores."""

    name: Text | None = None
    description: Text | None = None
    file_ids: list[Text] | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None
    chunking_strategy: Chunking | None = None


class UpdateStore(Body):
    """POST /v1/vector_stores/ID; null takes away what is there, what is not named stays."""

    name: Text | None = None
    description: Text | None = None
    metadata: Metadata | None = None
    expires_after: ExpiresAfter | None = None


class Weights(Body):
    """What vectors weigh beside keywords, in proportion."""

    embedding_weight: Annotated[Number, Field(ge=0, le=1e6)]
    text_weight: Annotated[Number, Field(ge=0, le=1e6)]


class Ranking(Body):
    """How passages are ordered: ``auto``, or what OpenAI calls its default, as the store has it, ``none``, or a reranker."""

    ranker: Text | None = None
    score_threshold: Number | None = None
    hybrid_search: Weights | None = None


class SearchStore(Body):
    """POST /v1/vector_stores/ID/search."""

    query: Text | list[Text]
    filters: Filter | None = None
    max_num_results: Count | None = None
    ranking_options: Ranking | None = None
    rewrite_query: bool | None = None


class CreateFile(Body):
    """POST /v1/vector_stores/ID/files, and one file of a batch."""

    file_id: Text
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class UpdateFile(Body):
    """POST /v1/vector_stores/ID/files/ID."""

    attributes: Attributes | None


class CreateBatch(Body):
    """POST /v1/vector_stores/ID/file_batches: files with attributes of their own, or ids that share them."""

    file_ids: list[Text] | None = None
    files: list[CreateFile] | None = None
    attributes: Attributes | None = None
    chunking_strategy: Chunking | None = None


class Listing(Body):
    """The query of a list."""

    limit: int | None = None
    order: Literal["asc", "desc"] | None = None
    after: str | None = None
    before: str | None = None


class FileListing(Listing):
    """The query of a list of files."""

    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None


def create_store(asked: Asked, request_id: str) -> pb.CreateVectorStoreRequest:
    """A new store, under the id of its request."""
    body = bodies.read(CreateStore, asked.body)
    _require_auto(body.chunking_strategy)
    return pb.CreateVectorStoreRequest(
        name=body.name or "",
        description=body.description or "",
        files=body.file_ids or (),
        metadata=body.metadata or {},
        expire_after_days=body.expires_after.days if body.expires_after else 0,
        request_id=request_id,
    )


def update_store(asked: Asked) -> pb.UpdateVectorStoreRequest:
    """A changed store."""
    body = bodies.read(UpdateStore, asked.body)
    request = pb.UpdateVectorStoreRequest(vector_store=asked.path["store"])
    said = body.model_fields_set
    if "name" in said:
        request.name = body.name or ""
    if "description" in said:
        request.description = body.description or ""
    if "metadata" in said:
        request.metadata.CopyFrom(pb.VectorStoreMetadata(values=body.metadata or {}))
    if "expires_after" in said:
        request.expire_after_days = body.expires_after.days if body.expires_after else 0
    return request


def search_store(asked: Asked) -> pb.SearchVectorStoreRequest:
    """A search."""
    body = bodies.read(SearchStore, asked.body)
    return pb.SearchVectorStoreRequest(
        vector_store=asked.path["store"],
        queries=[body.query] if isinstance(body.query, str) else body.query,
        filter=filter_of(body.filters) if body.filters else None,
        max_num_results=_positive(body.max_num_results, "max_num_results"),
        ranking_options=ranking(body.ranking_options),
        rewrite_query=body.rewrite_query or False,
    )


def ranking(given: Ranking | None, where: str = "ranking_options") -> pb.RankingOptions | None:
    """How passages are ordered, where that was said.  Raises FIELD_INVALID for weights of nothing."""
    if given is None:
        return None
    ranker = "" if given.ranker in _DEFAULT_RANKERS else given.ranker or ""
    options = pb.RankingOptions(ranker=ranker, score_threshold=given.score_threshold or 0.0)
    weights = given.hybrid_search
    if weights is not None:
        whole = weights.embedding_weight + weights.text_weight
        if not whole:
            raise Failure(Reason.FIELD_INVALID, field=f"{where}.hybrid_search", problem="must weigh one of the two")
        options.dense_weight = weights.embedding_weight / whole
    return options


def create_file(asked: Asked) -> pb.CreateVectorStoreFileRequest:
    """A file that is put into a store."""
    draft = _draft(bodies.read(CreateFile, asked.body))
    return pb.CreateVectorStoreFileRequest(vector_store=asked.path["store"], file=draft)


def update_file(asked: Asked) -> pb.UpdateVectorStoreFileRequest:
    """Other attributes of a file; null is none."""
    body = bodies.read(UpdateFile, asked.body)
    return pb.UpdateVectorStoreFileRequest(
        vector_store=asked.path["store"], file=asked.path["file"], attributes=_values(body.attributes)
    )


def create_batch(asked: Asked) -> pb.CreateVectorStoreFileBatchRequest:
    """Files that are put into a store as one."""
    body = bodies.read(CreateBatch, asked.body)
    if (body.files is None) == (body.file_ids is None):
        raise Failure(Reason.FIELD_INVALID, field="file_ids", problem="exactly one of file_ids and files is needed")
    _require_auto(body.chunking_strategy)
    if body.files is not None and body.attributes is not None:
        why = " beside files, which have attributes of their own"
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="attributes", why=why)
    drafts = [_draft(it) for it in body.files or ()]
    drafts += [pb.VectorStoreFileDraft(file=file, attributes=_values(body.attributes)) for file in body.file_ids or ()]
    return pb.CreateVectorStoreFileBatchRequest(vector_store=asked.path["store"], files=drafts)


def list_stores(asked: Asked) -> pb.ListVectorStoresRequest:
    """A page of stores."""
    return _paged(pb.ListVectorStoresRequest(), bodies.checked(Listing, asked.query))


def list_files(asked: Asked) -> pb.ListVectorStoreFilesRequest:
    """A page of files."""
    said = bodies.checked(FileListing, asked.query)
    return _paged(pb.ListVectorStoreFilesRequest(vector_store=asked.path["store"], status=_status(said)), said)


def list_batch_files(asked: Asked) -> pb.ListVectorStoreFileBatchFilesRequest:
    """A page of a batch's files."""
    said = bodies.checked(FileListing, asked.query)
    request = pb.ListVectorStoreFileBatchFilesRequest(
        vector_store=asked.path["store"], batch=asked.path["batch"], status=_status(said)
    )
    return _paged(request, said)


def _paged(request: _Request, said: Listing) -> _Request:
    request.limit = _positive(said.limit, "limit")
    request.order = _ORDERS[said.order or "desc"]
    request.after, request.before = said.after or "", said.before or ""
    return request


def _positive(given: int | None, field: str) -> int:
    """The count, 0 where none was said.  Raises FIELD_INVALID: here 0 would mean the default."""
    if given == 0:
        raise Failure(Reason.FIELD_INVALID, field=field, problem="must be at least 1")
    return bodies.int32(given, field)


def _status(said: FileListing) -> "pb.VectorStoreFileStatus.ValueType":
    if said.filter == "cancelled":
        why = " cancelled: files that were cancelled are in the store no more"
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="filter", why=why)
    return _STATUSES[said.filter] if said.filter else pb.VECTOR_STORE_FILE_STATUS_UNSPECIFIED


def _draft(body: CreateFile) -> pb.VectorStoreFileDraft:
    _require_auto(body.chunking_strategy)
    return pb.VectorStoreFileDraft(file=body.file_id, attributes=_values(body.attributes))


def _values(attributes: Mapping[str, bool | float | str] | None) -> dict[str, retriever_pb2.MetadataValue]:
    return {name: value(given) for name, given in (attributes or {}).items()}


def _require_auto(given: Chunking | None) -> None:
    if given is not None and (given.type != "auto" or given.static is not None):
        raise Failure(Reason.PARAMETER_UNSUPPORTED, field="chunking_strategy.static", why=_CHUNKING)
