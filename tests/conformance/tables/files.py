"""Files, batches and embeddings over both transports."""

import base64
import struct
from collections.abc import Mapping
from typing import Any

from trivium.files.v1 import batch_pb2

from tests.adapters import digest
from tests.conformance.runner import Arguments, Case, Operation, Rejection, by_transport, deleted, one, page, record
from tests.conformance.tables.stock import Stock

_FILE = ("filename", "purpose", "size_bytes=bytes")


def _parts(arguments: Arguments) -> list[dict[str, Any]]:
    content = arguments["content"]
    header = {"filename": arguments["filename"], "purpose": f"PURPOSE_{arguments['purpose'].upper()}"}
    end = {"size_bytes": len(content), "sha256": digest(content)}
    return [{"header": header}, *([{"chunk": {"data": content}}] if content else []), {"end": end}]


def _form(arguments: Arguments) -> dict[str, Any]:
    return {"files": {"file": (arguments["filename"], arguments["content"])}, "data": {"purpose": arguments["purpose"]}}


def _http_batch(arguments: Arguments) -> dict[str, Any]:
    order = {"endpoint": "/v1/completions", "completion_window": "24h", "metadata": arguments["metadata"]}
    return {"json": {"input_file_id": arguments["input_file"], **order}}


_batch = by_transport(
    lambda it: (
        it.input_file,
        {batch_pb2.BATCH_ENDPOINT_COMPLETIONS: "/v1/completions"}[it.endpoint],
        dict(it.metadata),
        it.completion_window_seconds,
    ),
    lambda it: (it["input_file_id"], it["endpoint"], it["metadata"] or {}, {"24h": 24 * 3600}[it["completion_window"]]),
)


def _http_texts(arguments: Arguments) -> dict[str, Any]:
    short = {"dimensions": arguments["dimensions"]} if "dimensions" in arguments else {}
    texts = {"model": arguments["model"], "input": arguments["texts"], "encoding_format": "base64"}
    return {"json": texts | short}


def _vectors(answer: Any) -> tuple[list[tuple[float, ...]], int]:
    rows, width = answer.embeddings.shape
    numbers = struct.unpack(f"<{rows * width}f", answer.embeddings.data)
    return [numbers[row * width : (row + 1) * width] for row in range(rows)], sum(answer.token_counts)


def _http_vectors(answer: Any) -> tuple[list[tuple[float, ...]], int]:
    raw = [base64.b64decode(it["embedding"]) for it in answer["data"]]
    return [struct.unpack(f"<{len(it) // 4}f", it) for it in raw], answer["usage"]["prompt_tokens"]


_LIMIT = {"page_size": "limit"}
_content = by_transport(lambda parts: b"".join(it.chunk.data for it in parts), bytes)
OPERATIONS: Mapping[str, Operation] = {
    "create_file": Operation(
        "FileService.CreateFile", "POST /files", one("file", record(*_FILE)), message=_parts, http=_form
    ),
    "get_file": Operation("FileService.GetFile", "GET /files/{file}", one("file", record("file=id", *_FILE))),
    "list_files": Operation("FileService.ListFiles", "GET /files", page("files", record("file=id")), names=_LIMIT),
    "read_file": Operation("FileService.ReadFile", "GET /files/{file}/content", _content),
    "delete_file": Operation("FileService.DeleteFile", "DELETE /files/{file}", deleted),
    "create_batch": Operation(
        "BatchService.CreateBatch",
        "POST /batches",
        one("batch", _batch),
        message=lambda arguments: {"endpoint": "completions", **arguments},
        http=_http_batch,
    ),
    "get_batch": Operation("BatchService.GetBatch", "GET /batches/{batch}", one("batch", _batch)),
    "list_batches": Operation(
        "BatchService.ListBatches", "GET /batches", page("batches", record("batch=id")), names=_LIMIT
    ),
    "cancel_batch": Operation("BatchService.CancelBatch", "POST /batches/{batch}/cancel", one("batch", _batch)),
    "create_embeddings": Operation(
        "EmbeddingService.CreateEmbeddings",
        "POST /embeddings",
        by_transport(_vectors, _http_vectors),
        message=lambda arguments: {"request": arguments},
        http=_http_texts,
    ),
}


def cases(stock: Stock, content: bytes) -> list[Case]:
    """Return the cases, over a file of requests with this content and its batch."""
    never, gone = {"file": "file-never"}, Rejection("file_not_found")
    invalid = Rejection("request_invalid")
    file, listed = {"file": stock.file}, {"purpose": "batch", "after": ""}
    new = {"content": b"x" * 700_000, "filename": "notes.txt", "purpose": "user_data"}
    told = (stock.file, "/v1/completions", {"of": "both"}, 24 * 3600)
    order = {"input_file": stock.file, "metadata": {"of": "both"}}
    no_batch, batch_gone = {"batch": "batch_never"}, Rejection("batch_not_found")
    texts = {"texts": ["A day ticket is 9 crowns.", "Fog."], "model": stock.encoder}
    return [
        Case(
            "a file has the fields that were sent",
            "get_file",
            file,
            (stock.file, "requests.jsonl", "batch", len(content)),
        ),
        Case("a file is read to its last byte", "read_file", file, content),
        Case("a file is stored whole", "create_file", new, ("notes.txt", "user_data", 700_000)),
        Case("an empty file is stored", "create_file", {**new, "content": b"", "filename": "e"}, ("e", "user_data", 0)),
        Case("files are listed by purpose", "list_files", {**listed, "page_size": 1}, ([stock.file], False)),
        Case("a page of too many files is refused", "list_files", {**listed, "page_size": 10_001}, invalid),
        Case("a missing file is not found", "get_file", never, gone),
        Case("a missing file has no content", "read_file", never, gone),
        Case("a missing file cannot be deleted", "delete_file", never, gone),
        Case("a batch has the fields that were ordered", "get_batch", {"batch": stock.batch}, told),
        Case("a batch is begun over a file", "create_batch", order, told),
        Case("a batch needs a file that is there", "create_batch", {**order, "input_file": "file-never"}, gone),
        Case(
            "too many notes are refused",
            "create_batch",
            {**order, "metadata": {str(n): "" for n in range(17)}},
            invalid,
        ),
        Case("batches are listed", "list_batches", {"page_size": 100}, lambda it: stock.batch in it[0]),
        Case("a page of too many batches is refused", "list_batches", {"page_size": 101}, invalid),
        Case("a missing batch is not found", "get_batch", no_batch, batch_gone),
        Case("a missing batch cannot be cancelled", "cancel_batch", no_batch, batch_gone),
        Case(
            "texts become vectors",
            "create_embeddings",
            texts,
            lambda it: [len(row) for row in it[0]] == [384] * 2 and it[1] > 4,
        ),
        Case("an empty text is refused", "create_embeddings", {**texts, "texts": ["x", " "]}, Rejection("text_empty")),
        Case(
            "an encoder that there is not is refused",
            "create_embeddings",
            {**texts, "model": "never"},
            Rejection("embedding_model_not_found"),
        ),
        Case(
            "more dimensions than a vector has are refused",
            "create_embeddings",
            {**texts, "dimensions": 8000},
            Rejection("field_invalid"),
        ),
    ]
