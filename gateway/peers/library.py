"""The retriever over its stub, as vector stores use it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

import grpc
from trivium.common.v1 import transfer_pb2
from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1 import retriever_pb2_grpc

from gateway.files.nouns import Holders
from gateway.peers import failures
from gateway.peers.library_messages import batch, collection, document, found, listed, search_request
from gateway.peers.metadata_values import to_values
from gateway.peers.source import Source
from gateway.vector_stores.nouns import (
    Attributes,
    Batch,
    Collection,
    FileCounts,
    FileDraft,
    FileFacts,
    Found,
    Holdings,
    Listing,
    Query,
    Refusal,
    StoredFile,
)

NAME = "retriever"
# The retriever's names of fields that our own API calls otherwise.
_FIELDS = {
    "collection": "vector_store",
    "collections": "vector_store",
    "document": "file",
    "rerank_model": "ranking_options.ranker",
    "title": "name",
    "typed_metadata": "attributes",
}


class RemoteLibrary:
    """Implements :class:`gateway.vector_stores.peers.Library`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: retriever_pb2_grpc.RetrieverServiceAsyncStub = retriever_pb2_grpc.RetrieverServiceStub(channel)

    async def create(
        self,
        name: str,
        title: str,
        description: str,
        metadata: Mapping[str, str],
        expire_after_seconds: int,
        request_id: str,
    ) -> Collection:
        """As the Protocol says."""
        request = pb.CreateCollectionRequest(
            collection=name,
            title=title,
            description=description,
            metadata=metadata,
            expire_after_seconds=expire_after_seconds,
            request_id=request_id,
        )
        with failures.of(NAME, _FIELDS):
            return collection((await self._stub.CreateCollection(request)).collection)

    async def collection(self, name: str) -> Collection:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            return collection((await self._stub.GetCollection(pb.GetCollectionRequest(collection=name))).collection)

    async def collections(self, listing: Listing) -> tuple[list[Collection], bool]:
        """As the Protocol says."""
        request = pb.ListCollectionsRequest(**listed(listing))
        with failures.of(NAME, {**_FIELDS, "collection": "after"}):
            page = await self._stub.ListCollections(request)
        return [collection(item) for item in page.collections], bool(page.next_page_token)

    async def holders(self, document_id: str) -> Holders:
        """As :class:`gateway.files.peers.Stores`."""
        stores: list[str] = []
        token, more, hidden = "", True, False
        while more:
            request = pb.ListCollectionsRequest(document=document_id, page_token=token)
            with failures.of(NAME, _FIELDS):
                page = await self._stub.ListCollections(request)
            stores += [held.collection for held in page.collections]
            hidden = hidden or page.hidden
            token, more = page.next_page_token, bool(page.next_page_token)
        return Holders(tuple(stores), hidden)

    async def change(
        self,
        name: str,
        title: str | None,
        description: str | None,
        metadata: Mapping[str, str] | None,
        expire_after_seconds: int | None,
    ) -> Collection:
        """As the Protocol says."""
        request = pb.UpdateCollectionRequest(
            collection=name,
            title=title,
            description=description,
            metadata=None if metadata is None else pb.CollectionMetadata(values=metadata),
            expire_after_seconds=expire_after_seconds,
        )
        with failures.of(NAME, _FIELDS):
            return collection((await self._stub.UpdateCollection(request)).collection)

    async def keep(self, name: str, etag: str) -> None:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            await self._stub.UpdateCollection(pb.UpdateCollectionRequest(collection=name, etag=etag))

    async def remove(self, name: str, etag: str = "") -> None:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            await self._stub.DeleteCollection(pb.DeleteCollectionRequest(collection=name, etag=etag))

    async def holdings(self, name: str) -> Holdings:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            counts = await self._stub.GetStatistics(pb.GetStatisticsRequest(collection=name))
        ready = counts.documents - counts.pending - counts.failed
        return Holdings(FileCounts(counts.pending, ready, counts.failed), counts.source_bytes)

    async def search(self, name: str, query: Query) -> Found:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            return found(await self._stub.Search(search_request(name, query)))

    async def put(self, name: str, draft: FileDraft, facts: FileFacts, content: AsyncIterator[bytes]) -> StoredFile:
        """As the Protocol says."""
        header = pb.DocumentHeader(
            collection=name,
            document=draft.file,
            title=facts.filename,
            media_type=facts.media_type,
            filename=facts.filename,
            typed_metadata=to_values(draft.attributes),
        )
        source = Source(content)
        with source.told(), failures.of(NAME, _FIELDS):
            answer = await self._stub.UploadDocument(_upload(header, facts, source))
        return document(answer.document)

    async def document(self, name: str, document_id: str) -> StoredFile:
        """As the Protocol says."""
        request = pb.GetDocumentRequest(collection=name, document=document_id)
        with failures.of(NAME, _FIELDS):
            return document((await self._stub.GetDocument(request)).document)

    async def documents(self, name: str, listing: Listing) -> tuple[list[StoredFile], bool]:
        """As the Protocol says."""
        request = pb.ListDocumentsRequest(collection=name, **listed(listing))
        with failures.of(NAME, {**_FIELDS, "document": "after"}):
            page = await self._stub.ListDocuments(request)
        return [document(item) for item in page.documents], bool(page.next_page_token)

    async def describe(self, name: str, document_id: str, attributes: Attributes) -> StoredFile:
        """As the Protocol says."""
        request = pb.UpdateDocumentRequest(collection=name, document=document_id, typed_metadata=to_values(attributes))
        with failures.of(NAME, _FIELDS):
            return document((await self._stub.UpdateDocument(request)).document)

    async def remove_document(self, name: str, document_id: str) -> None:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            await self._stub.DeleteDocument(pb.DeleteDocumentRequest(collection=name, document=document_id))

    async def text(self, name: str, document_id: str) -> AsyncGenerator[tuple[str, str]]:
        """As the Protocol says."""
        version, start, whole = "", 0, 1
        while start < whole:
            request = pb.GetDocumentTextRequest(collection=name, document=document_id, version=version, start=start)
            with failures.of(NAME, _FIELDS):
                piece = await self._stub.GetDocumentText(request)
            yield piece.text, piece.version
            # What goes on is of the version that it began with.
            version, start, whole = piece.version, start + len(piece.text), piece.characters

    async def remember(self, name: str, documents: Sequence[str], refused: Sequence[Refusal]) -> Batch:
        """As the Protocol says."""
        request = pb.CreateDocumentBatchRequest(
            collection=name,
            documents=documents,
            refused=[pb.RefusedDocument(document=it.file, reason=it.problem) for it in refused],
        )
        with failures.of(NAME, _FIELDS):
            return batch((await self._stub.CreateDocumentBatch(request)).batch)

    async def batch(self, name: str, batch_id: str) -> Batch:
        """As the Protocol says."""
        request = pb.GetDocumentBatchRequest(collection=name, batch=batch_id)
        with failures.of(NAME, _FIELDS):
            return batch((await self._stub.GetDocumentBatch(request)).batch)

    async def cancel(self, name: str, batch_id: str) -> Batch:
        """As the Protocol says."""
        request = pb.CancelDocumentBatchRequest(collection=name, batch=batch_id)
        with failures.of(NAME, _FIELDS):
            return batch((await self._stub.CancelDocumentBatch(request)).batch)

    async def batch_documents(self, name: str, batch_id: str, listing: Listing) -> tuple[list[StoredFile], bool]:
        """As the Protocol says."""
        request = pb.ListBatchDocumentsRequest(collection=name, batch=batch_id, **listed(listing))
        with failures.of(NAME, {**_FIELDS, "document": "after"}):
            page = await self._stub.ListBatchDocuments(request)
        return [document(item) for item in page.documents], bool(page.next_page_token)


async def _upload(
    header: pb.DocumentHeader, facts: FileFacts, source: Source
) -> AsyncGenerator[pb.UploadDocumentRequest]:
    announced = transfer_pb2.UploadHeader(filename=facts.filename, size_bytes=facts.size_bytes, sha256=facts.sha256)
    yield pb.UploadDocumentRequest(header=pb.DocumentUploadHeader(document=header, upload=announced))
    async for chunk in source.chunks():
        yield pb.UploadDocumentRequest(chunk=chunk)
