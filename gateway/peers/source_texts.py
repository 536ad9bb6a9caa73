"""The texts of documents, at any version that the retriever still keeps, and the versions of their collections."""

import asyncio
from collections.abc import Sequence

import grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from gateway.generation import SourceSpan
from gateway.peers import failures
from gateway.replaying.nouns import Reread
from services.chassis.errors import Failure, Reason

NAME = "retriever"
_GONE = {
    Reason.COLLECTION_NOT_FOUND,
    Reason.DOCUMENT_NOT_FOUND,
    Reason.DOCUMENT_VERSION_NOT_FOUND,
    Reason.SPAN_OUT_OF_RANGE,
}


class RemoteSourceTexts:
    """Implements :class:`gateway.replaying.peers.SourceTexts`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: retriever_pb2_grpc.RetrieverServiceAsyncStub = retriever_pb2_grpc.RetrieverServiceStub(channel)

    async def read(self, span: SourceSpan, as_readers: Sequence[str]) -> Reread:
        """As the Protocol says."""
        named = retriever_pb2.GetDocumentRequest(
            collection=span.collection, document=span.document, as_readers=as_readers
        )
        wanted = retriever_pb2.GetDocumentTextRequest(
            collection=span.collection,
            document=span.document,
            version=span.version,
            start=span.start,
            end=span.end,
            as_readers=as_readers,
        )
        try:
            with failures.of(NAME):
                document, text = await asyncio.gather(self._stub.GetDocument(named), self._stub.GetDocumentText(wanted))
        except Failure as failure:
            if failure.reason not in _GONE:
                raise
            return Reread(span)
        return Reread(span, document.document.title, text.text)

    async def version(self, collection: str) -> str:
        """As the Protocol says."""
        try:
            with failures.of(NAME):
                answer = await self._stub.GetCollection(retriever_pb2.GetCollectionRequest(collection=collection))
        except Failure as failure:
            if failure.reason is not Reason.COLLECTION_NOT_FOUND:
                raise
            return ""
        return "" if answer.collection.expired else answer.collection.version
