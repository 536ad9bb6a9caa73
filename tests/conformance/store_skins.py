"""The two doors to vector stores behind one face, so that one case runs over both: outcomes are in neither door's words."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grpc
from trivium.gateway.v1 import vector_stores_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from services.chassis.status import from_rpc_error
from tests.front import Visitor

Outcome = Any
_STATUS = {1: "in_progress", 2: "completed", 3: "expired"}
_FILE = {1: "in_progress", 2: "completed", 3: "failed"}
_BATCH = {1: "in_progress", 2: "completed", 3: "failed", 4: "cancelled"}
_OPERATORS = {"eq": 1, "gte": 6}


class Refused(str):
    """A refusal: the catalogue's reason in lower case."""

    __slots__ = ()


class StoreSkin(Protocol):
    """One door."""

    def create(self, name: str, files: list[str], metadata: Mapping[str, str], days: int, own_id: str = "") -> Outcome:
        """A new store, under an id of the caller's own where there is one: its id, then what it is."""

    def get(self, store: str) -> Outcome:
        """What a store is."""

    def rename(self, store: str, name: str) -> Outcome:
        """What it is with another name."""

    def search(self, store: str, query: str, most: int, where: tuple[str, str, Any] | None, least: float) -> Outcome:
        """Passages: file, text and attributes of each."""

    def put(self, store: str, file: str, attributes: Mapping[str, Any]) -> Outcome:
        """A file in a store."""

    def files(self, store: str, status: str) -> Outcome:
        """The files of a store."""

    def content(self, store: str, file: str) -> Outcome:
        """The text of one."""

    def file(self, store: str, file: str) -> Outcome:
        """One file of a store, with its attributes."""

    def describe(self, store: str, file: str, attributes: Mapping[str, Any]) -> Outcome:
        """The same with other attributes."""

    def take_out(self, store: str, file: str) -> Outcome:
        """Whether it is there no more."""

    def stores(self, most: int) -> Outcome:
        """The newest stores, and whether there are more."""

    def put_together(self, store: str, files: Mapping[str, Mapping[str, Any]]) -> Outcome:
        """A batch of files, each with attributes; its id."""

    def batch(self, store: str, batch: str) -> Outcome:
        """What a batch is: how far, and how many of its files are, have failed, were cancelled, and there are."""

    def batch_files(self, store: str, batch: str, status: str) -> Outcome:
        """The files of a batch, with attributes."""

    def cancel(self, store: str, batch: str) -> Outcome:
        """What it is after what can be cancelled was."""

    def remove(self, store: str) -> Outcome:
        """Whether it was deleted."""


def _value(given: Any) -> retriever_pb2.MetadataValue:
    if isinstance(given, bool):
        return retriever_pb2.MetadataValue(flag=given)
    if isinstance(given, str):
        return retriever_pb2.MetadataValue(text=given)
    return retriever_pb2.MetadataValue(number=given)


def _plain(values: Mapping[str, retriever_pb2.MetadataValue]) -> dict[str, Any]:
    return {name: getattr(value, str(value.WhichOneof("value"))) for name, value in values.items()}


class GrpcStores:
    """``trivium.gateway.v1.VectorStoreService``."""

    def __init__(self, visitor: Visitor) -> None:
        self._stub = visitor.stores

    def create(self, name: str, files: list[str], metadata: Mapping[str, str], days: int, own_id: str = "") -> Outcome:
        """As StoreSkin."""
        request = pb.CreateVectorStoreRequest(
            name=name, files=files, metadata=metadata, expire_after_days=days, request_id=own_id
        )
        return self._asked(lambda: _store(self._stub.CreateVectorStore(request).vector_store))

    def get(self, store: str) -> Outcome:
        """As StoreSkin."""
        request = pb.GetVectorStoreRequest(vector_store=store)
        return self._asked(lambda: _store(self._stub.GetVectorStore(request).vector_store))

    def rename(self, store: str, name: str) -> Outcome:
        """As StoreSkin."""
        request = pb.UpdateVectorStoreRequest(vector_store=store, name=name)
        return self._asked(lambda: _store(self._stub.UpdateVectorStore(request).vector_store))

    def search(self, store: str, query: str, most: int, where: tuple[str, str, Any] | None, least: float) -> Outcome:
        """As StoreSkin."""
        request = pb.SearchVectorStoreRequest(
            vector_store=store,
            queries=[query],
            max_num_results=most,
            ranking_options=pb.RankingOptions(score_threshold=least),
        )
        if where:
            name, operator, value = where
            condition = retriever_pb2.FilterCondition(field=name, operator=_OPERATORS[operator], values=[_value(value)])  # type: ignore[arg-type]  # numbers of the enum
            request.filter.condition.CopyFrom(condition)
        return self._asked(
            lambda: [(it.file, it.text, _plain(it.attributes)) for it in self._stub.SearchVectorStore(request).hits]
        )

    def put(self, store: str, file: str, attributes: Mapping[str, Any]) -> Outcome:
        """As StoreSkin."""
        draft = pb.VectorStoreFileDraft(file=file, attributes={name: _value(it) for name, it in attributes.items()})
        request = pb.CreateVectorStoreFileRequest(vector_store=store, file=draft)
        return self._asked(lambda: _file(self._stub.CreateVectorStoreFile(request).file))

    def files(self, store: str, status: str) -> Outcome:
        """As StoreSkin."""
        number: Any = {name: number for number, name in _FILE.items()}[status]
        request = pb.ListVectorStoreFilesRequest(vector_store=store, status=number)
        return self._asked(lambda: [_file(it)[0] for it in self._stub.ListVectorStoreFiles(request).files])

    def content(self, store: str, file: str) -> Outcome:
        """As StoreSkin."""
        request = pb.GetVectorStoreFileContentRequest(vector_store=store, file=file)
        return self._asked(lambda: "".join(it.text for it in self._stub.GetVectorStoreFileContent(request)))

    def file(self, store: str, file: str) -> Outcome:
        """As StoreSkin."""
        request = pb.GetVectorStoreFileRequest(vector_store=store, file=file)
        return self._asked(lambda: _file(self._stub.GetVectorStoreFile(request).file))

    def describe(self, store: str, file: str, attributes: Mapping[str, Any]) -> Outcome:
        """As StoreSkin."""
        values = {name: _value(it) for name, it in attributes.items()}
        request = pb.UpdateVectorStoreFileRequest(vector_store=store, file=file, attributes=values)
        return self._asked(lambda: _file(self._stub.UpdateVectorStoreFile(request).file))

    def take_out(self, store: str, file: str) -> Outcome:
        """As StoreSkin."""
        request = pb.DeleteVectorStoreFileRequest(vector_store=store, file=file)
        return self._asked(lambda: self._stub.DeleteVectorStoreFile(request) is not None)

    def stores(self, most: int) -> Outcome:
        """As StoreSkin."""
        request = pb.ListVectorStoresRequest(limit=most)

        def listed() -> Outcome:
            page = self._stub.ListVectorStores(request)
            return [it.vector_store for it in page.vector_stores], page.has_more

        return self._asked(listed)

    def put_together(self, store: str, files: Mapping[str, Mapping[str, Any]]) -> Outcome:
        """As StoreSkin."""
        drafts = [
            pb.VectorStoreFileDraft(file=file, attributes={name: _value(it) for name, it in attributes.items()})
            for file, attributes in files.items()
        ]
        request = pb.CreateVectorStoreFileBatchRequest(vector_store=store, files=drafts)
        return self._asked(lambda: self._stub.CreateVectorStoreFileBatch(request).batch.batch)

    def batch(self, store: str, batch: str) -> Outcome:
        """As StoreSkin."""
        request = pb.GetVectorStoreFileBatchRequest(vector_store=store, batch=batch)
        return self._asked(lambda: _batch(self._stub.GetVectorStoreFileBatch(request).batch))

    def batch_files(self, store: str, batch: str, status: str) -> Outcome:
        """As StoreSkin."""
        number: Any = {name: number for number, name in _FILE.items()}[status]
        request = pb.ListVectorStoreFileBatchFilesRequest(vector_store=store, batch=batch, status=number)
        return self._asked(lambda: [_file(it) for it in self._stub.ListVectorStoreFileBatchFiles(request).files])

    def cancel(self, store: str, batch: str) -> Outcome:
        """As StoreSkin."""
        request = pb.CancelVectorStoreFileBatchRequest(vector_store=store, batch=batch)
        return self._asked(lambda: _batch(self._stub.CancelVectorStoreFileBatch(request).batch))

    def remove(self, store: str) -> Outcome:
        """As StoreSkin."""
        request = pb.DeleteVectorStoreRequest(vector_store=store)
        return self._asked(lambda: self._stub.DeleteVectorStore(request) is not None)

    def _asked(self, call: Callable[[], Outcome]) -> Outcome:
        try:
            return call()
        except grpc.RpcError as error:
            return Refused(from_rpc_error(error).reason.lower())


def _store(it: pb.VectorStore) -> Outcome:
    return it.vector_store, it.name, dict(it.metadata), it.expire_after_days, _STATUS[it.status], it.file_counts.total


def _batch(it: pb.VectorStoreFileBatch) -> Outcome:
    counts = it.file_counts
    return _BATCH[it.state], counts.completed, counts.failed, counts.cancelled, counts.total


def _file(it: pb.VectorStoreFile) -> Outcome:
    return it.file, _plain(it.attributes)


class HttpStores:
    """OpenAI's shape."""

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor

    def create(self, name: str, files: list[str], metadata: Mapping[str, str], days: int, own_id: str = "") -> Outcome:
        """As StoreSkin."""
        ends = {"expires_after": {"anchor": "last_active_at", "days": days}} if days else {}
        body = {"name": name, "file_ids": files, "metadata": metadata, **ends}
        return self._asked("POST", "", body, told=self._store, own_id=own_id)

    def get(self, store: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("GET", f"/{store}", told=self._store)

    def rename(self, store: str, name: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("POST", f"/{store}", {"name": name}, told=self._store)

    def search(self, store: str, query: str, most: int, where: tuple[str, str, Any] | None, least: float) -> Outcome:
        """As StoreSkin."""
        body: dict[str, Any] = {"query": query, "ranking_options": {"score_threshold": least}}
        if most:
            body["max_num_results"] = most
        if where:
            name, operator, value = where
            body["filters"] = {"type": operator, "key": name, "value": value}
        return self._asked(
            "POST",
            f"/{store}/search",
            body,
            told=lambda it: [(hit["file_id"], hit["content"][0]["text"], hit["attributes"]) for hit in it["data"]],
        )

    def put(self, store: str, file: str, attributes: Mapping[str, Any]) -> Outcome:
        """As StoreSkin."""
        body = {"file_id": file, "attributes": attributes}
        return self._asked("POST", f"/{store}/files", body, told=self._file)

    def files(self, store: str, status: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("GET", f"/{store}/files", filter=status, told=lambda it: [item["id"] for item in it["data"]])

    def content(self, store: str, file: str) -> Outcome:
        """As StoreSkin."""
        return self._asked(
            "GET", f"/{store}/files/{file}/content", told=lambda it: "".join(part["text"] for part in it["data"])
        )

    def file(self, store: str, file: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("GET", f"/{store}/files/{file}", told=self._file)

    def describe(self, store: str, file: str, attributes: Mapping[str, Any]) -> Outcome:
        """As StoreSkin."""
        return self._asked("POST", f"/{store}/files/{file}", {"attributes": attributes}, told=self._file)

    def take_out(self, store: str, file: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("DELETE", f"/{store}/files/{file}", told=lambda it: it["deleted"])

    def stores(self, most: int) -> Outcome:
        """As StoreSkin."""
        return self._asked("GET", "", limit=str(most), told=lambda it: ([s["id"] for s in it["data"]], it["has_more"]))

    def put_together(self, store: str, files: Mapping[str, Mapping[str, Any]]) -> Outcome:
        """As StoreSkin."""
        body = {"files": [{"file_id": file, "attributes": attributes} for file, attributes in files.items()]}
        return self._asked("POST", f"/{store}/file_batches", body, told=lambda it: it["id"])

    def batch(self, store: str, batch: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("GET", f"/{store}/file_batches/{batch}", told=self._batch)

    def batch_files(self, store: str, batch: str, status: str) -> Outcome:
        """As StoreSkin."""
        return self._asked(
            "GET",
            f"/{store}/file_batches/{batch}/files",
            filter=status,
            told=lambda it: [self._file(item) for item in it["data"]],
        )

    def cancel(self, store: str, batch: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("POST", f"/{store}/file_batches/{batch}/cancel", told=self._batch)

    def remove(self, store: str) -> Outcome:
        """As StoreSkin."""
        return self._asked("DELETE", f"/{store}", told=lambda it: it["deleted"])

    def _store(self, it: dict[str, Any]) -> Outcome:
        days = it["expires_after"]["days"] if it["expires_after"] else 0
        return it["id"], it["name"], it["metadata"], days, it["status"], it["file_counts"]["total"]

    def _file(self, it: dict[str, Any]) -> Outcome:
        return it["id"], it["attributes"]

    def _batch(self, it: dict[str, Any]) -> Outcome:
        counts = it["file_counts"]
        return it["status"], counts["completed"], counts["failed"], counts["cancelled"], counts["total"]

    def _asked(
        self, verb: str, path: str, body: Any = None, *, told: Callable[[Any], Outcome], own_id: str = "", **query: str
    ) -> Outcome:
        answer = self._visitor.ask(verb, f"/vector_stores{path}", body, own_id=own_id, **query)
        return told(answer.json()) if answer.status_code == 200 else Refused(answer.json()["error"]["code"])
