"""A search says whether the collection seems to hold the answer, and a collection sets from which score on."""

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.contract.retriever.guide import GUIDE
from tests.stack import refused

KNOWN = "What does a mooring cost a night?"
UNKNOWN = "Which players won the Nordic chess championship of 1987?"


@pytest.fixture
def guided(reader):
    """A reader whose collection holds the handbook."""
    reader.add("guide.md", GUIDE)
    return reader


def asked(reader, query, **fields):
    request = pb.SearchRequest(**{"collections": [reader.collection], "queries": [query], **fields})
    return reader.api.Search(request)


def test_a_search_says_whether_the_answer_seems_to_be_there(guided):
    known, unknown = asked(guided, KNOWN).answerability, asked(guided, UNKNOWN).answerability
    assert known.answerable
    assert not unknown.answerable
    assert 1 >= known.score >= known.threshold > unknown.score >= 0


def test_it_is_of_the_question_and_not_of_what_becomes_of_the_order(guided):
    plain = asked(guided, KNOWN).answerability
    for fields in ({"top_k": 1}, {"page_size": 1}, {"dense_weight": 0.0}, {"rerank": True}, {"expand_sections": True}):
        assert asked(guided, KNOWN, **fields).answerability == plain
    assert asked(guided, KNOWN, queries=[UNKNOWN, KNOWN]).answerability == plain


def test_it_is_on_the_first_page_of_searches_that_see_both_lists(guided):
    first = asked(guided, KNOWN, page_size=1)
    rest = asked(guided, KNOWN, page_size=1, page_token=first.next_page_token)
    assert first.HasField("answerability")
    assert not rest.HasField("answerability")
    for mode in (pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_SPARSE):
        assert not asked(guided, KNOWN, mode=mode).HasField("answerability")


def test_an_empty_collection_answers_nothing(reader):
    answer = asked(reader, KNOWN).answerability
    assert not answer.answerable
    assert answer.score < 0.01


def test_what_the_caller_may_not_read_is_no_answer(reader):
    reader.add("guide.md", GUIDE, readers=["somebody"])
    assert asked(reader, KNOWN, as_readers=["somebody"]).answerability.answerable
    assert not asked(reader, KNOWN, as_readers=["nobody"]).answerability.answerable


def test_a_collection_sets_its_threshold_and_keeps_it(guided):
    def update(**fields):
        request = pb.UpdateCollectionRequest(collection=guided.collection, description="d", **fields)
        return guided.api.UpdateCollection(request).collection

    default = guided.api.GetCollection(pb.GetCollectionRequest(collection=guided.collection)).collection
    assert default.answerable_threshold == asked(guided, KNOWN).answerability.threshold
    assert update(answerable_threshold=1.0).answerable_threshold == 1.0
    assert not asked(guided, KNOWN).answerability.answerable
    assert update().answerable_threshold == 1.0
    # Nought is a threshold like any other: everything counts as found.
    assert update(answerable_threshold=0.0).answerable_threshold == 0.0
    assert asked(guided, UNKNOWN).answerability.answerable
    with refused("REQUEST_INVALID"):
        update(answerable_threshold=1.5)


def test_of_several_collections_the_least_threshold_counts(guided):
    guided.create("other")
    guided.api.UpdateCollection(pb.UpdateCollectionRequest(collection="other", answerable_threshold=0.125))
    answer = asked(guided, KNOWN, collections=[guided.collection, "other"]).answerability
    assert answer.threshold == 0.125


def test_a_search_tells_what_the_collections_want_made_of_a_question_that_is_not(guided):
    def told(*collections):
        return asked(guided, UNKNOWN, collections=collections).answerability.abstention

    def wants(policy, collection):
        settings = pb.SearchSettings(abstention=policy)
        changed = guided.api.UpdateCollection(
            pb.UpdateCollectionRequest(collection=collection, search_settings=settings)
        )
        assert changed.collection.search_settings.abstention == policy

    one, other = guided.collection, f"{guided.collection}-other"
    guided.api.CreateCollection(pb.CreateCollectionRequest(collection=other))
    assert told(one) == pb.ABSTENTION_POLICY_UNSPECIFIED
    wants(pb.ABSTENTION_POLICY_OFF, one)
    assert told(one, other) == pb.ABSTENTION_POLICY_OFF
    wants(pb.ABSTENTION_POLICY_STRICT, other)
    assert told(one, other) == pb.ABSTENTION_POLICY_STRICT
