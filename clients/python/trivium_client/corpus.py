"""What is said of a whole collection: exact counts and lists, and summaries.  Part of `documents`."""

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


class Corpus:
    """The calls about all of a collection: counts and lists from the index, never from a sample, and summaries."""

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

    async def summarize(
        self,
        collection: str,
        *,
        focus: str = "",
        mode: str = "",
        max_tokens: int = 0,
        where: Filter | None = None,
        documents: Sequence[str] = (),
        as_readers: Sequence[str] = (),
    ) -> nouns.Summary:
        """What a collection says, or what it says to the `focus`, each statement with its citations.

        `mode` is extractive (sentences as they are written) or abstractive (worded by the generator); empty is the
        deployment's.  Cut off by a deadline, it goes on where it was when it is called again.
        """
        fields: dict[str, Any] = {} if where is None else {"filter": where._message}
        request = pb.SummarizeRequest(
            collection=collection,
            focus=focus,
            mode=wire.number(pb.SummaryMode, mode, "mode"),
            max_tokens=max_tokens,
            documents=documents,
            as_readers=as_readers,
            **fields,
        )
        return corpus_wire.summary(await self._transport.call("retriever", self._stub().Summarize, request))


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
