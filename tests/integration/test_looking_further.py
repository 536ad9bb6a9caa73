"""What a generator adds to searches, with the real engine: a written passage, a question's parts, questions of chunks."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1 import retriever_pb2_grpc

from services.ops.supervisor import Suite
from tests.integration.gateway.stock import DOCUMENTS, ingest
from tests.stack import Api, eventually

COLLECTION = "looking-further"
_SECONDS = 240.0


@pytest.fixture(scope="module")
def library(suite: Suite) -> Iterator[Api]:
    """The retriever with a collection about a ferry."""
    ingest(suite, COLLECTION)
    with grpc.insecure_channel(suite.addresses["retriever"]) as channel:
        yield Api(retriever_pb2_grpc.RetrieverServiceStub(channel), suite.api_key)


def searched(library: Api, **fields: Any) -> pb.SearchResponse:
    request = pb.SearchRequest(
        collections=[COLLECTION], queries=["What must I pay for a boy with a bicycle?"], **fields
    )
    answer: pb.SearchResponse = library.Search(request, timeout=_SECONDS)
    return answer


def test_the_engine_writes_a_passage_and_a_questions_parts_within_the_time_of_a_search(library: Api) -> None:
    plain = searched(library)
    assert not plain.expansions
    further = searched(library, hyde=pb.HYDE_USE_ALWAYS, decompose=True)
    passage, parts = further.expansions
    assert (passage.kind, parts.kind) == (pb.EXPANSION_KIND_HYDE, pb.EXPANSION_KIND_DECOMPOSITION)
    # On a busy machine it may be late, and then it says so.
    for outcome in (passage, parts):
        assert outcome.applied == bool(outcome.texts)
        assert outcome.applied or "took more than" in outcome.reason or "nothing of use" in outcome.reason
    assert {hit.chunk for hit in plain.hits} <= {hit.chunk for hit in further.hits}
    assert "expand" in {timing.stage for timing in further.timings}


def test_the_engine_writes_questions_of_every_chunk_in_the_background(library: Api) -> None:
    settings = pb.SearchSettings(questions_per_chunk=2)
    library.UpdateCollection(pb.UpdateCollectionRequest(collection=COLLECTION, search_settings=settings))
    request = pb.GetCollectionRequest(collection=COLLECTION)

    def done() -> bool:
        progress = library.GetCollection(request).collection.questions
        return bool(progress.chunks >= len(DOCUMENTS) and progress.chunks_done == progress.chunks)

    eventually(done, "every chunk has its questions", seconds=_SECONDS)
    answer = searched(library)
    assert [it.kind for it in answer.expansions] == [pb.EXPANSION_KIND_QUESTION_VECTORS]
    assert answer.hits
