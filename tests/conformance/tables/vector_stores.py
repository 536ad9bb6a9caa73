"""Vector stores over both transports."""

from collections.abc import Callable, Mapping
from typing import Any

from tests.conformance.runner import Arguments, Operation, by_transport, deleted, many, one, page, record

_OPERATORS = {"eq": "equal", "gte": "greater_or_equal"}
_COUNTS = tuple(f"file_counts.{name}" for name in ("completed", "failed", "cancelled", "total"))
_store = by_transport(
    record("vector_store", "name", "metadata", "expire_after_days", "status", "file_counts.total"),
    lambda it: (
        *record("id", "name", "metadata")(it),
        it["expires_after"]["days"] if it["expires_after"] else 0,
        *record("status", "file_counts.total")(it),
    ),
)
_batch = by_transport(
    lambda it: ({"running": "in_progress"}.get(record("state")(it), record("state")(it)), *record(*_COUNTS)(it)),
    record("status", *_COUNTS),
)
_file = record("file=id", "attributes")
_hit = by_transport(
    record("file", "text", "attributes"), lambda it: (it["file_id"], it["content"][0]["text"], it["attributes"])
)


def _search(arguments: Arguments) -> dict[str, Any]:
    request = {
        "vector_store": arguments["vector_store"],
        "queries": [arguments["query"]],
        "max_num_results": arguments.get("most", 0),
        "ranking_options": {"score_threshold": arguments.get("least", 0.0)},
    }
    if "where" in arguments:
        name, operator, value = arguments["where"]
        condition = {"field": name, "operator": _OPERATORS[operator], "values": [value]}
        request["filter"] = {"condition": condition}
    return request


def _http_search(arguments: Arguments) -> dict[str, Any]:
    body = {"query": arguments["query"], "ranking_options": {"score_threshold": arguments.get("least", 0.0)}}
    if "most" in arguments:
        body["max_num_results"] = arguments["most"]
    if "where" in arguments:
        name, operator, value = arguments["where"]
        body["filters"] = {"type": operator, "key": name, "value": value}
    return {"json": body}


def _http_store(arguments: Arguments) -> dict[str, Any]:
    days, own_id = arguments.get("expire_after_days", 0), arguments.get("request_id", "")
    ends = {"expires_after": {"anchor": "last_active_at", "days": days}} if days else {}
    body = {
        "name": arguments["name"],
        "file_ids": arguments["files"],
        "metadata": arguments.get("metadata", {}),
        **ends,
    }
    return {"json": body, "headers": {"x-trivium-request-id": own_id} if own_id else {}}


def _drafts(arguments: Arguments, name: str) -> list[dict[str, Any]]:
    """Return files with their attributes, each with its id in the field ``name``."""
    return [{name: file, "attributes": attributes} for file, attributes in arguments["files"].items()]


def _operation(rpc: str, route: str, outcome: Callable[[Any], Any], **more: Any) -> Operation:
    return Operation(f"VectorStoreService.{rpc}", route, outcome, **more)


_STORE = "/vector_stores/{vector_store}"
_STATUS = {"status": "filter"}
OPERATIONS: Mapping[str, Operation] = {
    "create": _operation("CreateVectorStore", "POST /vector_stores", one("vector_store", _store), http=_http_store),
    "get": _operation("GetVectorStore", f"GET {_STORE}", one("vector_store", _store)),
    "list": _operation("ListVectorStores", "GET /vector_stores", page("vector_stores", record("vector_store=id"))),
    "update": _operation("UpdateVectorStore", f"POST {_STORE}", one("vector_store", _store)),
    "delete": _operation("DeleteVectorStore", f"DELETE {_STORE}", deleted),
    "search": _operation(
        "SearchVectorStore", f"POST {_STORE}/search", many("hits", _hit), message=_search, http=_http_search
    ),
    "create_file": _operation(
        "CreateVectorStoreFile",
        f"POST {_STORE}/files",
        one("file", _file),
        message=lambda it: {
            "vector_store": it["vector_store"],
            "file": {name: it[name] for name in ("file", "attributes")},
        },
        names={"file": "file_id"},
    ),
    "get_file": _operation("GetVectorStoreFile", f"GET {_STORE}/files/{{file}}", one("file", _file)),
    "list_files": _operation(
        "ListVectorStoreFiles", f"GET {_STORE}/files", many("files", record("file=id")), names=_STATUS
    ),
    "update_file": _operation("UpdateVectorStoreFile", f"POST {_STORE}/files/{{file}}", one("file", _file)),
    "delete_file": _operation("DeleteVectorStoreFile", f"DELETE {_STORE}/files/{{file}}", deleted),
    "get_content": _operation(
        "GetVectorStoreFileContent",
        f"GET {_STORE}/files/{{file}}/content",
        by_transport(
            lambda parts: "".join(it.text for it in parts), lambda it: "".join(part["text"] for part in it["data"])
        ),
    ),
    "create_batch": _operation(
        "CreateVectorStoreFileBatch",
        f"POST {_STORE}/file_batches",
        one("batch", record("batch=id")),
        message=lambda it: {"vector_store": it["vector_store"], "files": _drafts(it, "file")},
        http=lambda it: {"json": {"files": _drafts(it, "file_id")}},
    ),
    "get_batch": _operation("GetVectorStoreFileBatch", f"GET {_STORE}/file_batches/{{batch}}", one("batch", _batch)),
    "cancel_batch": _operation(
        "CancelVectorStoreFileBatch", f"POST {_STORE}/file_batches/{{batch}}/cancel", one("batch", _batch)
    ),
    "list_batch_files": _operation(
        "ListVectorStoreFileBatchFiles",
        f"GET {_STORE}/file_batches/{{batch}}/files",
        many("files", _file),
        names=_STATUS,
    ),
}
