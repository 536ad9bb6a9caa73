"""The routes of vector stores: which request is which call, and how its answer is told."""

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing

from trivium.gateway.v1 import vector_stores_pb2 as pb

from gateway.http.answers import NoQuery
from gateway.http.errors import OWN_ID
from gateway.http.fine_tuning_answers import Nothing
from gateway.http.routes import Route
from gateway.http.transport import Asked
from gateway.http.unary import Unary
from gateway.http.vector_stores import rendering, requests
from gateway.http.vector_stores.answers import (
    BatchShown,
    ContentShown,
    Deleted,
    FileShown,
    FilesShown,
    FoundShown,
    StoreShown,
    StoresShown,
)
from gateway.servicers import Servicers
from services.chassis.interceptors.call import ServicerContext

_STORES = "/v1/vector_stores"
_STORE = _STORES + "/{store}"
_FILES = _STORE + "/files"
_FILE = _FILES + "/{file}"
_BATCHES = _STORE + "/file_batches"
_BATCH = _BATCHES + "/{batch}"
_SENT = (
    ("vector_store", "vector_store_id"),
    ("file", "file_id"),
    ("files", "file_ids"),
    ("filter", "filters"),
    ("queries", "query"),
    ("expire_after_days", "expires_after.days"),
)
# How long a client that asks again and again waits in between; embedding a page takes about as long.
_POLL = (("openai-poll-after-ms", "250"),)


class CreateExchange:
    """POST a new store, under the request's own id."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent = {**dict(_SENT), "request_id": OWN_ID}
        self._servicer = servicers.vector_stores

    def parse(self, asked: Asked) -> pb.CreateVectorStoreRequest:
        """As Exchange."""
        return requests.create_store(asked, self.request_id)

    async def answer(self, message: pb.CreateVectorStoreRequest, context: ServicerContext) -> AsyncGenerator[bytes]:
        """As Exchange."""
        made = await self._servicer.CreateVectorStore(message, context)
        yield json.dumps(rendering.store(made.vector_store), ensure_ascii=False).encode()


class ContentExchange:
    """GET the text of a file: one JSON document, whose pieces are told as they are read."""

    stream = False

    def __init__(self, servicers: Servicers, request_id: str) -> None:
        self.request_id = request_id
        self.sent = dict(_SENT)
        self._servicer = servicers.vector_stores

    def parse(self, asked: Asked) -> pb.GetVectorStoreFileContentRequest:
        """As Exchange."""
        return pb.GetVectorStoreFileContentRequest(vector_store=asked.path["store"], file=asked.path["file"])

    async def answer(
        self, message: pb.GetVectorStoreFileContentRequest, context: ServicerContext
    ) -> AsyncGenerator[bytes]:
        """As Exchange."""
        opening = b'{"object": "vector_store.file_content.page", "data": ['
        async with aclosing(self._servicer.GetVectorStoreFileContent(message, context)) as pieces:
            async for piece in pieces:
                part = {"type": "text", "text": piece.text, "trivium": {"version": piece.version}}
                yield opening + json.dumps(part, ensure_ascii=False).encode()
                opening = b", "
        yield b'], "has_more": false, "next_page": null}'


_RPCS = pb.DESCRIPTOR.services_by_name["VectorStoreService"].methods_by_name
ROUTES = (
    Route(
        "POST",
        _STORES,
        CreateExchange,
        rpc=_RPCS["CreateVectorStore"],
        summary="A vector store, with files if some are named.",
        body=requests.CreateStore,
        query=NoQuery,
        answer=StoreShown,
    ),
    Route(
        "GET",
        _STORES,
        Unary(
            requests.list_stores,
            lambda to, message, context: to.vector_stores.ListVectorStores(message, context),
            lambda _, answer: rendering.page([*map(rendering.store, answer.vector_stores)], answer.has_more),
        ),
        rpc=_RPCS["ListVectorStores"],
        summary="The vector stores.",
        query=requests.Listing,
        answer=StoresShown,
    ),
    Route(
        "GET",
        _STORE,
        Unary(
            lambda asked: pb.GetVectorStoreRequest(vector_store=asked.path["store"]),
            lambda to, message, context: to.vector_stores.GetVectorStore(message, context),
            lambda _, answer: rendering.store(answer.vector_store),
            _SENT,
        ),
        rpc=_RPCS["GetVectorStore"],
        summary="One vector store.",
        query=NoQuery,
        answer=StoreShown,
    ),
    Route(
        "POST",
        _STORE,
        Unary(
            requests.update_store,
            lambda to, message, context: to.vector_stores.UpdateVectorStore(message, context),
            lambda _, answer: rendering.store(answer.vector_store),
            _SENT,
        ),
        rpc=_RPCS["UpdateVectorStore"],
        summary="Change a vector store.",
        body=requests.UpdateStore,
        query=NoQuery,
        answer=StoreShown,
    ),
    Route(
        "DELETE",
        _STORE,
        Unary(
            lambda asked: pb.DeleteVectorStoreRequest(vector_store=asked.path["store"]),
            lambda to, message, context: to.vector_stores.DeleteVectorStore(message, context),
            lambda message, _: rendering.deleted(message.vector_store, "vector_store.deleted"),
            _SENT,
        ),
        rpc=_RPCS["DeleteVectorStore"],
        summary="Delete a vector store.",
        query=NoQuery,
        answer=Deleted,
    ),
    Route(
        "POST",
        _STORE + "/search",
        Unary(
            requests.search_store,
            lambda to, message, context: to.vector_stores.SearchVectorStore(message, context),
            lambda _, answer: rendering.found(answer),
            _SENT,
        ),
        limited=True,
        rpc=_RPCS["SearchVectorStore"],
        summary="Find passages in a vector store.",
        body=requests.SearchStore,
        query=NoQuery,
        answer=FoundShown,
    ),
    Route(
        "POST",
        _FILES,
        Unary(
            requests.create_file,
            lambda to, message, context: to.vector_stores.CreateVectorStoreFile(message, context),
            lambda _, answer: rendering.file(answer.file),
            _SENT,
        ),
        rpc=_RPCS["CreateVectorStoreFile"],
        summary="Put a file into a vector store.",
        body=requests.CreateFile,
        query=NoQuery,
        answer=FileShown,
    ),
    Route(
        "GET",
        _FILES,
        Unary(
            requests.list_files,
            lambda to, message, context: to.vector_stores.ListVectorStoreFiles(message, context),
            lambda _, answer: rendering.page([*map(rendering.file, answer.files)], answer.has_more),
            _SENT,
        ),
        rpc=_RPCS["ListVectorStoreFiles"],
        summary="The files of a vector store.",
        query=requests.FileListing,
        answer=FilesShown,
    ),
    Route(
        "GET",
        _FILE,
        Unary(
            lambda asked: pb.GetVectorStoreFileRequest(vector_store=asked.path["store"], file=asked.path["file"]),
            lambda to, message, context: to.vector_stores.GetVectorStoreFile(message, context),
            lambda _, answer: rendering.file(answer.file),
            _SENT,
        ),
        headers=_POLL,
        rpc=_RPCS["GetVectorStoreFile"],
        summary="One file of a vector store.",
        query=NoQuery,
        answer=FileShown,
    ),
    Route(
        "POST",
        _FILE,
        Unary(
            requests.update_file,
            lambda to, message, context: to.vector_stores.UpdateVectorStoreFile(message, context),
            lambda _, answer: rendering.file(answer.file),
            _SENT,
        ),
        rpc=_RPCS["UpdateVectorStoreFile"],
        summary="Give a file of a vector store other attributes.",
        body=requests.UpdateFile,
        query=NoQuery,
        answer=FileShown,
    ),
    Route(
        "DELETE",
        _FILE,
        Unary(
            lambda asked: pb.DeleteVectorStoreFileRequest(vector_store=asked.path["store"], file=asked.path["file"]),
            lambda to, message, context: to.vector_stores.DeleteVectorStoreFile(message, context),
            lambda message, _: rendering.deleted(message.file, "vector_store.file.deleted"),
            _SENT,
        ),
        rpc=_RPCS["DeleteVectorStoreFile"],
        summary="Take a file out of a vector store.",
        query=NoQuery,
        answer=Deleted,
    ),
    Route(
        "GET",
        _FILE + "/content",
        ContentExchange,
        rpc=_RPCS["GetVectorStoreFileContent"],
        summary="The text of a file of a vector store.",
        query=NoQuery,
        answer=ContentShown,
    ),
    Route(
        "POST",
        _BATCHES,
        Unary(
            requests.create_batch,
            lambda to, message, context: to.vector_stores.CreateVectorStoreFileBatch(message, context),
            lambda _, answer: rendering.batch(answer.batch),
            _SENT,
        ),
        rpc=_RPCS["CreateVectorStoreFileBatch"],
        summary="Put files into a vector store as one.",
        body=requests.CreateBatch,
        query=NoQuery,
        answer=BatchShown,
    ),
    Route(
        "GET",
        _BATCH,
        Unary(
            lambda asked: pb.GetVectorStoreFileBatchRequest(
                vector_store=asked.path["store"], batch=asked.path["batch"]
            ),
            lambda to, message, context: to.vector_stores.GetVectorStoreFileBatch(message, context),
            lambda _, answer: rendering.batch(answer.batch),
            _SENT,
        ),
        headers=_POLL,
        rpc=_RPCS["GetVectorStoreFileBatch"],
        summary="One batch of files.",
        query=NoQuery,
        answer=BatchShown,
    ),
    Route(
        "POST",
        _BATCH + "/cancel",
        Unary(
            lambda asked: pb.CancelVectorStoreFileBatchRequest(
                vector_store=asked.path["store"], batch=asked.path["batch"]
            ),
            lambda to, message, context: to.vector_stores.CancelVectorStoreFileBatch(message, context),
            lambda _, answer: rendering.batch(answer.batch),
            _SENT,
        ),
        rpc=_RPCS["CancelVectorStoreFileBatch"],
        summary="Cancel a batch of files.",
        body=Nothing,
        query=NoQuery,
        answer=BatchShown,
    ),
    Route(
        "GET",
        _BATCH + "/files",
        Unary(
            requests.list_batch_files,
            lambda to, message, context: to.vector_stores.ListVectorStoreFileBatchFiles(message, context),
            lambda _, answer: rendering.page([*map(rendering.file, answer.files)], answer.has_more),
            _SENT,
        ),
        rpc=_RPCS["ListVectorStoreFileBatchFiles"],
        summary="The files of a batch.",
        query=requests.FileListing,
        answer=FilesShown,
    ),
)
