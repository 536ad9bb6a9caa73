"""A tenant's own encoders are nobody else's: by no name, digest, list or search are they told from what never was."""

import re
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from services.chassis.status import from_rpc_error
from tests.own_encoders import Encoders, Person
from tests.stack import eventually

TEXT = "the ferry leaves at nine"
NEVER = "sha256:" + "7" * 64


def _stream(person: Person, model: str) -> Any:
    request = pb.EmbedStreamRequest(request=pb.EmbedRequest(texts=[TEXT], model=model))
    return next(iter(person.embedder.EmbedStream(iter([request]))))


def _search(person: Person, model: str) -> Any:
    return person.reader.search("ferry", mode=retriever_pb2.SEARCH_MODE_SPARSE, rerank_model=model)


def _settings(person: Person, model: str) -> Any:
    settings = retriever_pb2.SearchSettings(rerank=True, rerank_model=model)
    update = retriever_pb2.UpdateCollectionRequest(collection=person.reader.collection, search_settings=settings)
    return person.reader.api.UpdateCollection(update)


CALLS: dict[str, Callable[[Person, str], Any]] = {
    # As a question, whose vector is kept.
    "Embed": lambda person, model: person.embedder.Embed(
        pb.EmbedRequest(texts=[TEXT], model=model, role=pb.TEXT_ROLE_QUERY)
    ),
    "EmbedStream": _stream,
    "CountTokens": lambda person, model: person.embedder.CountTokens(pb.CountTokensRequest(texts=[TEXT], model=model)),
    "Rerank": lambda person, model: person.embedder.Rerank(pb.RerankRequest(query=TEXT, passages=[TEXT], model=model)),
    "GetEmbeddingModel": lambda person, model: person.embedder.GetEmbeddingModel(
        pb.GetEmbeddingModelRequest(model=model)
    ),
    "Reembed": lambda person, model: person.reader.api.Reembed(
        retriever_pb2.ReembedRequest(collection=person.reader.collection, model=model)
    ),
    "Search": _search,
    "UpdateCollection": _settings,
}


def refusal(person: Person, call: str, model: str) -> tuple[Any, ...]:
    """All that is said of a name, but the name itself and the call's own id."""
    with pytest.raises(grpc.RpcError) as caught:
        CALLS[call](person, model)
    failure = from_rpc_error(caught.value)
    told = {name: value for name, value in failure.variables.items() if name not in ("correlation_id", "name")}
    return failure.code, failure.reason, failure.message.replace(model, "NAME"), told


@pytest.fixture(scope="module")
def owner(own_encoders: Encoders) -> Person:
    """Somebody whose embedder and reranker are in memory."""
    made = own_encoders.newcomer()
    made.publish("support", seed=13)
    made.publish("sorter", seed=14, architecture="BertForSequenceClassification")
    CALLS["Embed"](made, "support@1")
    CALLS["Rerank"](made, "sorter@1")
    return made


@pytest.fixture(scope="module")
def stranger(own_encoders: Encoders) -> Person:
    made = own_encoders.newcomer()
    made.reader.add("a.md", "The ferry.")
    return made


def names(owner: Person) -> list[str]:
    """Everything by which the owner may name what they have."""
    listed = owner.embedder.ListEmbeddingModels(pb.ListEmbeddingModelsRequest())
    own = [it for it in (*listed.models, *listed.rerankers) if it.version]
    assert len(own) == 2
    return [name for it in own for name in (it.model, it.version, it.digest)]


@pytest.mark.parametrize("call", CALLS)
def test_a_strangers_encoder_and_one_that_never_was_are_refused_alike(owner, stranger, call):
    for name in names(owner):
        never = NEVER if name.startswith("sha256:") else re.sub("[a-z]", "q", name)
        assert refusal(stranger, call, name) == refusal(stranger, call, never)


def test_nobody_lists_a_strangers_encoder_and_a_service_has_none(own_encoders, owner, stranger):
    listed = stranger.embedder.ListEmbeddingModels(pb.ListEmbeddingModelsRequest())
    assert ([it.model for it in listed.models], list(listed.rerankers)) == (["tiny"], [])
    service = own_encoders.embedder_api(own_encoders.stack.key("service"))
    listed = service.ListEmbeddingModels(pb.ListEmbeddingModelsRequest())
    assert ([it.model for it in listed.models], list(listed.rerankers)) == (["tiny"], [])
    for name in names(owner):
        with pytest.raises(grpc.RpcError) as caught:
            service.Embed(pb.EmbedRequest(texts=[TEXT], model=name))
        assert from_rpc_error(caught.value).reason == "EMBEDDING_MODEL_NOT_FOUND"


def reason(person: Person, model: str) -> str:
    """How an embedding by a model ends; empty when it succeeds."""
    try:
        CALLS["Embed"](person, model)
    except grpc.RpcError as error:
        return from_rpc_error(error).reason
    return ""


def test_of_the_same_bytes_each_has_their_own_and_one_that_is_deleted_stays_the_others(own_encoders):
    one, other = own_encoders.newcomer(), own_encoders.newcomer()
    mine, theirs = one.publish("mine", seed=15), other.publish("theirs", seed=15)
    assert mine.base_digest == theirs.base_digest
    first = CALLS["Embed"](one, mine.base_digest)
    counted = own_encoders.embedder.metric
    tokens, hits = counted("trivium_embedder_tokens"), counted("trivium_embedder_cache_hits")
    second = CALLS["Embed"](other, mine.base_digest)
    assert (first.model, second.model) == ("mine@1", "theirs@1")
    assert first.embeddings == second.embeddings
    # What the one had computed is computed for the other as well.
    assert counted("trivium_embedder_tokens") > tokens
    assert counted("trivium_embedder_cache_hits") == hits
    one.delete(mine)

    eventually(
        lambda: reason(one, mine.base_digest) == "EMBEDDING_MODEL_NOT_FOUND", "the deleted version is served no longer"
    )
    assert CALLS["Embed"](other, mine.base_digest).embeddings == second.embeddings
