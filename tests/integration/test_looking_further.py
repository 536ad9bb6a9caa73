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
# A base this small may fail to reword one question, but it has never failed for all of them.
QUESTIONS = (
    "What must I pay for a boy with a bicycle?",
    "How much does a day on the ferry cost for two adults with a dog, and what happens in fog?",
    "What do boats do when nothing can be seen, and how often do they sound a blast?",
)
_SECONDS = 240.0


@pytest.fixture(scope="module")
def library(suite: Suite) -> Iterator[Api]:
    """The retriever with a collection about a ferry."""
    ingest(suite, COLLECTION)
    with grpc.insecure_channel(suite.addresses["retriever"]) as channel:
        yield Api(retriever_pb2_grpc.RetrieverServiceStub(channel), suite.api_key)


def searched(library: Api, question: str = QUESTIONS[0], **fields: Any) -> pb.SearchResponse:
    request = pb.SearchRequest(collections=[COLLECTION], queries=[question], **fields)
    answer: pb.SearchResponse = library.Search(request, timeout=_SECONDS)
    return answer


def test_the_engine_writes_a_passage_and_a_questions_parts_within_the_time_of_a_search(library: Api) -> None:
    kinds = [pb.EXPANSION_KIND_HYDE, pb.EXPANSION_KIND_DECOMPOSITION]
    applied = set()
    for question in QUESTIONS:
        plain = searched(library, question)
        assert not plain.expansions
        further = searched(library, question, hyde=pb.HYDE_USE_ALWAYS, decompose=True)
        assert [outcome.kind for outcome in further.expansions] == kinds
        for outcome in further.expansions:
            assert outcome.applied == bool(outcome.texts)
            # The suite leaves it more time than it takes on any machine.
            assert outcome.applied or "nothing of use" in outcome.reason
        applied |= {outcome.kind for outcome in further.expansions if outcome.applied}
        assert {hit.chunk for hit in plain.hits} <= {hit.chunk for hit in further.hits}
        assert "expand" in {timing.stage for timing in further.timings}
        if applied == set(kinds):
            break
    assert applied == set(kinds)


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
