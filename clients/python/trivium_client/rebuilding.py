"""What is made anew of a whole collection while it is searched: its index, and its vectors by another model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

from trivium_client import document_wire, nouns, wire
from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceAsyncStub

_BETWEEN_SECONDS = 0.3


class Rebuilding:
    """The part of `Collections` that builds anew."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> RetrieverServiceAsyncStub:
        stub: RetrieverServiceAsyncStub = self._transport.stub("retriever", RetrieverServiceStub)
        return stub

    async def get(self, collection: str) -> nouns.Collection:
        """One collection.  Raises NotFoundError, which names the nearest."""
        request = pb.GetCollectionRequest(collection=collection)
        response = await self._transport.call("retriever", self._stub().GetCollection, request)
        return document_wire.collection(response.collection)

    async def reindex(self, collection: str, to: str = "") -> AsyncGenerator[nouns.IndexBuild]:
        """Build a collection's index anew, in `to` (embedded, weaviate) or where it is, while the old one serves.

        Yields how far it is; the last one has a digest, and serves.  Closing the iterator before stops it, and the old
        one stays.  Raises ValueError for an index that there is none of, NotFoundError, UnavailableError where that
        index is away or not configured, PreconditionError while its vectors are changed.
        """
        kind = wire.number(pb.IndexKind, to, "index")
        request = pb.ReindexRequest(collection=collection, index=kind)
        async for message in self._transport.stream("retriever", self._stub().Reindex, request):
            yield document_wire.index_build(message)

    async def reembed(self, collection: str, model: str) -> nouns.Collection:
        """Have a collection's vectors computed by another model in the background; see `reembedded`.

        It goes by name or digest, one of your own in the registry by MODEL@NUMBER.  The old ones serve until all are there.  The model that serves ends a change that is under way.  Raises
        NotFoundError for a collection or a model that there is none of.
        """
        request = pb.ReembedRequest(collection=collection, model=model)
        response = await self._transport.call("retriever", self._stub().Reembed, request)
        return document_wire.collection(response.collection)

    async def reembedded(
        self, collection: str, told: Callable[[nouns.Reembedding], None] | None = None
    ) -> nouns.Collection:
        """Wait until no change of its model is under way; `told` hears how far it is.

        Afterwards `reembedding` is None where it was changed over or cancelled, and says why where it failed.
        """
        while True:
            found = await self.get(collection)
            if found.reembedding is None or not found.reembedding.running:
                return found
            if told is not None:
                told(found.reembedding)
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def cancel_reembedding(self, collection: str) -> nouns.Collection:
        """End a change of its model, or forget that one failed; the collection stays as it is."""
        request = pb.CancelReembeddingRequest(collection=collection)
        response = await self._transport.call("retriever", self._stub().CancelReembedding, request)
        return document_wire.collection(response.collection)
