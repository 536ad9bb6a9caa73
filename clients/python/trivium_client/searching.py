"""Search in collections.  Part of `documents`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceStub

from trivium_client import document_wire, nouns, wire
from trivium_client.filters import Filter
from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.retriever.v1.retriever_pb2_grpc import RetrieverServiceAsyncStub

_PAGE = 100
_MOST = 1000


class Searching:
    """The calls that find passages."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _stub(self) -> RetrieverServiceAsyncStub:
        stub: RetrieverServiceAsyncStub = self._transport.stub("retriever", RetrieverServiceStub)
        return stub

    async def search(
        self,
        query: str | Sequence[str],
        *,
        collections: str | Sequence[str],
        top_k: int = 10,
        mode: str = "",
        metadata_equals: Mapping[str, str] | None = None,
        where: Filter | None = None,
        documents: Sequence[str] = (),
        as_readers: Sequence[str] = (),
        rerank: bool | None = None,
        rerank_model: str = "",
        hyde: str = "",
        decompose: bool | None = None,
        diversity_lambda: float | None = None,
        collapse_duplicates: bool = False,
        duplicate_similarity: float | None = None,
        section_characters: int = 0,
        feedback: bool = True,
        explain: bool = False,
    ) -> nouns.Findings:
        """Passages, best first; `mode` is hybrid, dense or sparse; several queries are fused by rank.

        What is not said of `mode`, `rerank`, `rerank_model`, `hyde` and `decompose` is as the collections'
        `search_settings` have it.  `where` is a filter (see `field`); `documents` are the ids that alone are searched,
        where there are any.  `as_readers` finds what these ids may read, beside your own: an application names its end
        user and their groups.  `rerank` looks at the best 40 again, as far as the deadline allows: hits without a
        `rerank_score` were not; naming a `rerank_model` (MODEL@NUMBER of an own one, or one of the embedder's) asks for
        that.  `diversity_lambda` below 1 prefers what is unlike (0.5 is a beginning).  `collapse_duplicates` makes one
        hit of passages with the same text, and from a `duplicate_similarity` on of similar ones.  `section_characters`
        widens hits within their sections up to so many.  Without `feedback` it looks once, and not again for what the
        best passages say.  `explain` tells the ranks and scores of each list.
        """
        request = _request(query, collections, mode, metadata_equals, where, documents, as_readers)
        request.top_k = top_k
        request.explain = explain
        request.hyde = wire.number(pb.HydeUse, hyde, "hyde")
        request.rerank_model = rerank_model
        if rerank is not None:
            request.rerank = rerank
        if decompose is not None:
            request.decompose = decompose
        request.feedback = feedback
        request.collapse_duplicates = collapse_duplicates
        if diversity_lambda is not None:
            request.diversity_lambda = diversity_lambda
        if duplicate_similarity is not None:
            request.duplicate_similarity = duplicate_similarity
        if section_characters:
            request.expand_sections, request.section_characters = True, section_characters
        response = await self._transport.call("retriever", self._stub().Search, request)
        return document_wire.findings(response)

    async def tune(
        self,
        collection: str,
        pairs: Sequence[tuple[str, Sequence[str]]],
        *,
        unanswerable: Sequence[str] = (),
        apply: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> nouns.TuningReport:
        """Try ways to search on 10 to 2,000 questions, each with the ids of the documents that answer it.

        With 10 to 2,000 that are `unanswerable` from these documents, the threshold from which on an answer seems to be
        there is fitted too.  With `apply` the collection is searched from then on in the way that the questions bear out.
        `progress` hears (trial, questions asked, questions).  Raises NotFoundError for a document that is not there.
        """
        asked = [pb.TuningPair(question=question, documents=documents) for question, documents in pairs]
        request = pb.TuneRequest(collection=collection, pairs=asked, unanswerable=unanswerable, apply=apply)
        report = pb.TuningReport()
        async for message in self._transport.stream("retriever", self._stub().Tune, request):
            if message.WhichOneof("part") == "report":
                report = message.report
            elif progress is not None:
                progress(message.progress.trial, message.progress.done, message.progress.total)
        return document_wire.tuning_report(report)

    async def search_pages(
        self,
        query: str | Sequence[str],
        *,
        collections: str | Sequence[str],
        most: int = _MOST,
        page_size: int = _PAGE,
        mode: str = "",
        metadata_equals: Mapping[str, str] | None = None,
        where: Filter | None = None,
        documents: Sequence[str] = (),
        as_readers: Sequence[str] = (),
    ) -> AsyncIterator[nouns.Hit]:
        """Hits one by one, up to `most` (1,000), fetched page after page, of the order that the first page saw.

        What is deleted or hidden meanwhile is left out.  Raises PreconditionError or another TriviumError with the
        reason SEARCH_PAGES_EXPIRED when the next page is asked for more than ten minutes after the first.
        """
        request = _request(query, collections, mode, metadata_equals, where, documents, as_readers)
        request.top_k, request.page_size = most, page_size
        while True:
            page = await self._transport.call("retriever", self._stub().Search, request)
            for item in page.hits:
                yield document_wire.hit(item)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def _request(
    query: str | Sequence[str],
    collections: str | Sequence[str],
    mode: str,
    metadata_equals: Mapping[str, str] | None,
    where: Filter | None,
    documents: Sequence[str],
    as_readers: Sequence[str],
) -> pb.SearchRequest:
    fields: dict[str, Any] = {} if where is None else {"filter": where._message}
    return pb.SearchRequest(
        collections=[collections] if isinstance(collections, str) else collections,
        queries=[query] if isinstance(query, str) else query,
        mode=wire.number(pb.SearchMode, mode, "mode"),
        metadata_equals=dict(metadata_equals or {}),
        documents=documents,
        as_readers=as_readers,
        **fields,
    )
