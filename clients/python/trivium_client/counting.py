"""Exact counts and lists over a collection.  Part of `documents`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

from trivium_client import corpus_wire, nouns, wire
from trivium_client.filters import Filter
from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceAsyncStub


class Counting:
    """The calls that count and list: from the index, never from a sample."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> RetrieverServiceAsyncStub:
        stub: RetrieverServiceAsyncStub = self._transport.stub("retriever", RetrieverServiceStub)
        return stub

    async def count(
        self,
        keywords: str = "",
        *,
        collection: str,
        match: str = "passage",
        where: Filter | None = None,
        group_by: str = "",
        documents: Sequence[str] = (),
        as_readers: Sequence[str] = (),
    ) -> nouns.Tally:
        """How many documents hold the keywords and pass `where`, in all and by the metadata `group_by`.

        `match` is passage (all keywords in one passage), document (all of them somewhere in it) or any.  `as_readers`
        is as `search` has it.  Raises InvalidRequestError for keywords without a word.
        """
        request = _request(keywords, collection, match, where, documents, as_readers)
        request.group_by, request.page_size = group_by, 1
        stub = self._stub()
        return corpus_wire.tally(await self._transport.call("retriever", stub.Aggregate, request))

    async def matching(
        self,
        keywords: str = "",
        *,
        collection: str,
        match: str = "passage",
        where: Filter | None = None,
        documents: Sequence[str] = (),
        as_readers: Sequence[str] = (),
    ) -> AsyncIterator[nouns.MatchingDocument]:
        """Every document that `count` counts, by id, each with the first characters that match."""
        request = _request(keywords, collection, match, where, documents, as_readers)
        stub = self._stub()
        while True:
            page = await self._transport.call("retriever", stub.Aggregate, request)
            for item in page.matches:
                yield corpus_wire.matching(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _request(
    keywords: str,
    collection: str,
    match: str,
    where: Filter | None,
    documents: Sequence[str],
    as_readers: Sequence[str],
) -> pb.AggregateRequest:
    fields: dict[str, Any] = {} if where is None else {"filter": where._message}
    return pb.AggregateRequest(
        collection=collection,
        keywords=keywords,
        match=wire.number(pb.KeywordMatch, match, "match"),
        documents=documents,
        as_readers=as_readers,
        **fields,
    )
