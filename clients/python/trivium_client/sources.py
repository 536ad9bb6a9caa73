"""Documents that the server fetches itself: from URLs and S3 prefixes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

from trivium_client import nouns, wire
from trivium_client.transport import Transport, new_request_id

if TYPE_CHECKING:
    from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceAsyncStub

_BETWEEN_SECONDS = 0.3


class Sources:
    """Sources of collections: added at once, read by the server in the background, also after a restart."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> RetrieverServiceAsyncStub:
        stub: RetrieverServiceAsyncStub = self._transport.stub("retriever", RetrieverServiceStub)
        return stub

    async def add(
        self,
        uri: str,
        *,
        collection: str,
        prune: bool = False,
        refresh_seconds: int = 0,
        readers: Sequence[str] = (),
    ) -> nouns.Source:
        """Have a URL, or all below s3://BUCKET/PREFIX, read into a collection; one that is there is read again.

        `prune` deletes documents whose objects are gone, `refresh_seconds` has it read again and again,
        `readers` alone may read what comes (empty: everybody of the tenant).  Raises PreconditionError for what the deployment does not open, NotFoundError for a missing collection.
        """
        request = pb.IngestSourceRequest(
            collection=collection,
            uri=uri,
            prune=prune,
            refresh_seconds=refresh_seconds,
            request_id=new_request_id(),
            readers=readers,
        )
        response = await self._transport.call("retriever", self._stub().IngestSource, request)
        return _source(response.source)

    async def get(self, source: str) -> nouns.Source:
        """One source, with what could not be stored.  Raises NotFoundError."""
        request = pb.GetSourceRequest(source=source)
        response = await self._transport.call("retriever", self._stub().GetSource, request)
        failures = tuple(nouns.SourceFailure(item.uri, item.reason) for item in response.failures)
        return _source(response.source, failures)

    async def list(self, collection: str) -> AsyncIterator[nouns.Source]:
        """Every source of a collection, in the order of their making."""
        request = pb.ListSourcesRequest(collection=collection)
        while True:
            page = await self._transport.call("retriever", self._stub().ListSources, request)
            for item in page.sources:
                yield _source(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def wait(self, source: str, told: Callable[[nouns.Source], None] | None = None) -> nouns.Source:
        """Wait until a source is no longer under way; `told` hears how far it is.  Raises NotFoundError."""
        while True:
            found = await self.get(source)
            if told is not None:
                told(found)
            if not found.under_way:
                return found
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def cancel(self, source: str) -> nouns.Source:
        """Stop reading it, now and later; what it brought stays."""
        request = pb.CancelSourceRequest(source=source)
        response = await self._transport.call("retriever", self._stub().CancelSource, request)
        return _source(response.source)

    async def delete(self, source: str, *, documents: bool = False) -> int:
        """Forget it; with `documents` what it brought is deleted in the background, and their number returned."""
        request = pb.DeleteSourceRequest(source=source, delete_documents=documents)
        response = await self._transport.call("retriever", self._stub().DeleteSource, request)
        return response.documents


def _source(message: pb.Source, failures: tuple[nouns.SourceFailure, ...] = ()) -> nouns.Source:
    return nouns.Source(
        source=message.source,
        collection=message.collection,
        uri=message.uri,
        state=wire.word(pb.SourceState, message.state),
        reason=message.reason,
        found=message.found,
        stored=message.stored,
        unchanged=message.unchanged,
        failed=message.failed,
        deleted=message.deleted,
        fetched_bytes=message.fetched_bytes,
        prune=message.prune,
        refresh_seconds=message.refresh_seconds,
        create_time=wire.time(message.create_time),
        read_time=wire.time(message.read_time),
        due_time=wire.time(message.due_time),
        readers=tuple(message.readers),
        failures=failures,
    )
