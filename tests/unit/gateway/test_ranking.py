"""How passages are ordered, as the retriever is told of it; a search for keywords alone is told of no model."""

from typing import Any

import pytest
from trivium.common.v1 import receipt_pb2
from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1 import retriever_pb2_grpc

from gateway.asking.retrieval import Ranking, Scope
from gateway.generation import CollectionVersion
from gateway.peers.ranking import rank
from gateway.peers.retriever import RemoteRetriever
from tests.unit.gateway.fine_tuning.test_peers import served


class Retriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """Finds nothing, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[pb.SearchRequest] = []

    async def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        self.asked.append(request)
        timings = [pb.SearchTiming(stage=stage, seconds=0.5) for stage in ("embed", "rerank")]
        versions = [receipt_pb2.CollectionVersion(collection=name, version="e1") for name in request.collections]
        return pb.SearchResponse(versions=versions, timings=timings, rerank=pb.RerankOutcome(applied=True, passages=8))

    async def Summarize(self, request: pb.SummarizeRequest, context: Any) -> pb.SummarizeResponse:
        cited = [pb.Citation(document="d1", title="Harbours"), pb.Citation(document="d2")]
        return pb.SummarizeResponse(version="e1", statements=[pb.SummaryStatement(text="Said.", citations=cited)])

    async def Aggregate(self, request: pb.AggregateRequest, context: Any) -> pb.AggregateResponse:
        return pb.AggregateResponse(version="e1")


@pytest.mark.parametrize(
    ("ranker", "dense_weight", "asked"),
    [
        ("", None, pb.SearchRequest()),
        ("auto", None, pb.SearchRequest()),
        ("none", None, pb.SearchRequest(rerank=False)),
        ("sorter@1", None, pb.SearchRequest(rerank_model="sorter@1")),
        ("auto", 0.0, pb.SearchRequest(fusion=pb.FUSION_SCORE, dense_weight=0.0)),
    ],
)
def test_what_is_not_said_is_left_to_the_collection(
    ranker: str, dense_weight: float | None, asked: pb.SearchRequest
) -> None:
    request = pb.SearchRequest()
    rank(request, ranker, dense_weight)
    assert request == asked


async def test_a_question_is_ranked_as_it_asks_and_for_keywords_alone_by_no_model() -> None:
    servicer = Retriever()
    scope = Scope(("c",), ranking=Ranking("sorter@1", 0.5, 0.75))
    async with served(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, servicer) as channel:
        for shallow in (False, True):
            await RemoteRetriever(channel).search(scope, "q", 3, shallow=shallow)
    deep, shallow_one = servicer.asked
    assert (deep.rerank_model, deep.fusion, deep.dense_weight) == ("sorter@1", pb.FUSION_SCORE, 0.75)
    assert (shallow_one.rerank_model, shallow_one.rerank, shallow_one.mode) == ("", False, pb.SEARCH_MODE_SPARSE)


async def test_the_version_of_a_collection_is_told_with_what_was_found_summarised_or_counted_in_it() -> None:
    scope = Scope(("c", "d"))
    async with served(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, Retriever()) as channel:
        ours = RemoteRetriever(channel)
        found = await ours.search(scope, "q", 3)
        assert found.collections == (CollectionVersion("c", "e1"), CollectionVersion("d", "e1"))
        assert (await ours.summarize(scope, "c", "")).version == "e1"
        assert (await ours.count(scope, "c", "", 3)).version == "e1"


async def test_what_a_summary_cites_has_its_title_and_its_id_where_it_has_none() -> None:
    async with served(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, Retriever()) as channel:
        (statement,) = (await RemoteRetriever(channel).summarize(Scope(("c",)), "c", "")).statements
    assert [it.title for it in statement.sources] == ["Harbours", "d2"]


async def test_a_stage_of_a_search_says_how_much_was_before_it() -> None:
    async with served(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, Retriever()) as channel:
        found = await RemoteRetriever(channel).search(Scope(("c",)), "q", 3)
    assert {it.stage: it.input_size for it in found.timings} == {"embed": 1, "rerank": 8}
