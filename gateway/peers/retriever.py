"""The retriever over its stub."""

from collections.abc import Iterable

import grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from gateway.asking.retrieval import (
    Answerability,
    Counted,
    Found,
    Policy,
    Scope,
    Source,
    Statement,
    Summarized,
)
from gateway.generation import SourceSpan, StageTiming
from gateway.peers import failures
from gateway.peers.messages import of_collections
from gateway.peers.ranking import rank

NAME = "retriever"
POLICIES = {
    Policy.UNSPECIFIED: retriever_pb2.ABSTENTION_POLICY_UNSPECIFIED,
    Policy.STRICT: retriever_pb2.ABSTENTION_POLICY_STRICT,
    Policy.HEDGE: retriever_pb2.ABSTENTION_POLICY_HEDGE,
    Policy.OFF: retriever_pb2.ABSTENTION_POLICY_OFF,
}
_POLICIES = {int(number): policy for policy, number in POLICIES.items()}
# The retriever's names of fields that our own API calls otherwise.
_FIELDS = {
    "collection": "collections",
    "queries": "question",
    "keywords": "question",
    "focus": "question",
    "rerank_model": "ranking_options.ranker",
}


class RemoteRetriever:
    """Implements :class:`gateway.asking.retrieval.Retriever`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: retriever_pb2_grpc.RetrieverServiceAsyncStub = retriever_pb2_grpc.RetrieverServiceStub(channel)

    async def search(
        self, scope: Scope, query: str, top_k: int, *, shallow: bool = False, within_seconds: float | None = None
    ) -> Found:
        """As the Protocol says."""
        request = retriever_pb2.SearchRequest(
            collections=scope.collections,
            queries=[query],
            top_k=top_k,
            filter=_filter(scope),
            as_readers=scope.as_readers,
        )
        rank(request, scope.ranking.ranker, scope.ranking.dense_weight)
        if shallow:
            request.rerank_model = ""
            request.mode = retriever_pb2.SEARCH_MODE_SPARSE
            request.hyde = retriever_pb2.HYDE_USE_OFF
            request.rerank = request.decompose = request.feedback = False
        with failures.of(NAME, _FIELDS):
            answer = await self._stub.Search(request, timeout=within_seconds)
        reranked = answer.HasField("rerank") and not answer.rerank.applied
        return Found(
            tuple(_source(marker, hit) for marker, hit in enumerate(answer.hits, start=1)),
            tuple(StageTiming(item.stage, item.seconds, _size(item.stage, answer)) for item in answer.timings),
            _answerability(answer.answerability) if answer.HasField("answerability") else None,
            unranked=(answer.rerank.reason or "it did not answer in time") if reranked and answer.hits else "",
            collections=of_collections(answer.versions),
        )

    async def summarize(
        self, scope: Scope, collection: str, focus: str, *, within_seconds: float | None = None
    ) -> Summarized:
        """As the Protocol says."""
        request = retriever_pb2.SummarizeRequest(
            collection=collection, focus=focus, filter=_filter(scope), as_readers=scope.as_readers
        )
        with failures.of(NAME, _FIELDS):
            answer = await self._stub.Summarize(request, timeout=within_seconds)
        statements = tuple(Statement(item.text, _cited(item.citations)) for item in answer.statements)
        return Summarized(statements, answer.version)

    async def count(
        self, scope: Scope, collection: str, keywords: str, most: int, *, within_seconds: float | None = None
    ) -> Counted:
        """As the Protocol says."""
        request = retriever_pb2.AggregateRequest(
            collection=collection,
            keywords=keywords,
            match=retriever_pb2.KEYWORD_MATCH_DOCUMENT,
            filter=_filter(scope),
            as_readers=scope.as_readers,
            page_size=most,
        )
        with failures.of(NAME, _FIELDS):
            answer = await self._stub.Aggregate(request, timeout=within_seconds)
        return Counted(
            collection,
            answer.documents,
            answer.searched,
            tuple(answer.words),
            tuple(item.title or item.document for item in answer.matches),
            tuple(_of_citation(item.first, item.title) if item.HasField("first") else None for item in answer.matches),
            answer.version,
        )


def _filter(scope: Scope) -> retriever_pb2.Filter | None:
    return retriever_pb2.Filter.FromString(scope.narrowed) if scope.narrowed else None


def _size(stage: str, answer: retriever_pb2.SearchResponse) -> int:
    """What a stage had before it: the reranker its passages, every other one the question."""
    return answer.rerank.passages if stage == "rerank" else 1


def _answerability(told: retriever_pb2.Answerability) -> Answerability:
    policy = _POLICIES.get(told.abstention, Policy.UNSPECIFIED)
    return Answerability(told.score, told.threshold, told.answerable, policy)


def _source(marker: int, hit: retriever_pb2.Hit) -> Source:
    span = SourceSpan(hit.collection, hit.document, hit.version, hit.start, hit.end, hit.chunk, marker)
    return Source(span, hit.title, tuple(hit.heading_path), hit.text, hit.score)


def _cited(citations: Iterable[retriever_pb2.Citation]) -> tuple[Source, ...]:
    return tuple(_of_citation(item, item.title) for item in citations)


def _of_citation(item: retriever_pb2.Citation, title: str) -> Source:
    span = SourceSpan(item.collection, item.document, item.version, item.start, item.end, item.chunk)
    return Source(span, title or item.document, (), item.text, 0.0)
