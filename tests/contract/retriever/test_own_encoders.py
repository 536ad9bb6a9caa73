"""A collection is embedded by its tenant's own model, and its searches are reranked by its tenant's own reranker."""

import json

import grpc
import numpy as np
import pytest
from trivium.embedder.v1 import embedder_pb2
from trivium.registry.v1 import registry_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.contract.retriever.desk import Desk
from tests.harness.wording import missing
from tests.own_encoders import Encoders, Person, published
from tests.stack import User, eventually, refused

QUERY = "the ferry leaves at nine"
DOCUMENTS = {
    "a.md": "# Ferry\n\nThe ferry leaves at nine.",
    "b.md": "# Nine\n\nAt nine the.",
    "c.md": "# Ferry\n\nFerry ferry at the ferry.",
    "d.md": "# Leaves\n\nNine leaves leaves.",
}


@pytest.fixture(scope="module")
def person(own_encoders: Encoders) -> Person:
    """Somebody with documents, two embedders and a reranker of their own."""
    made = own_encoders.newcomer()
    for document, content in DOCUMENTS.items():
        made.reader.put(document, content)
    made.reader.settled()
    made.publish("support", seed=3)
    made.publish("support", seed=4, architecture="RobertaModel")
    made.publish("sorter", seed=5, architecture="BertForSequenceClassification")
    return made


def collection(person: Person) -> pb.Collection:
    found: pb.Collection = person.reader.api.GetCollection(
        pb.GetCollectionRequest(collection=person.reader.collection)
    ).collection
    return found


def changed(person: Person, model: str) -> str:
    """Have the collection embedded by a model, wait until it serves; its digest."""
    person.reader.api.Reembed(pb.ReembedRequest(collection=person.reader.collection, model=model))

    def serving() -> pb.Collection | None:
        found = collection(person)
        assert found.reembedding.running or not found.reembedding.reason, found.reembedding.reason
        return None if found.HasField("reembedding") else found

    return str(eventually(serving, "the other model serves").embedding_digest)


def ranked(person: Person, **fields: object) -> list[tuple[str, float]]:
    hits = person.reader.search(QUERY, **{"mode": pb.SEARCH_MODE_DENSE, **fields})
    return sorted((hit.document, hit.dense_score) for hit in hits)


def vectors(person: Person, model: str, *texts: str) -> np.ndarray:
    answer = person.embedder.Embed(embedder_pb2.EmbedRequest(model=model, texts=texts))
    return np.frombuffer(answer.embeddings.data, "<f4").reshape(answer.embeddings.shape)


def test_a_collection_goes_to_an_own_model_and_to_another_and_back_and_answers_as_before(person):
    first = collection(person).embedding_digest
    by_first = ranked(person)
    digests, answers = [], []
    for name in ("support@1", "support@2"):
        digests.append(changed(person, name))
        answers.append(ranked(person))
        meant = person.embedder.GetEmbeddingModel(embedder_pb2.GetEmbeddingModelRequest(model=name)).model
        assert (meant.digest, meant.model, meant.dimensions, meant.loaded) == (digests[-1], name, 8, True)
        # What the search compared is what this very model says.
        asked = vectors(person, name, QUERY)[0]
        assert dict(answers[-1])["a.md"] == pytest.approx(
            float(asked @ vectors(person, name, "Ferry\nThe ferry leaves at nine.")[0]), abs=2e-3
        )
    assert len({first, *digests}) == 3
    assert changed(person, digests[0]) == digests[0]
    assert ranked(person) == answers[0]
    assert changed(person, first) == first
    assert ranked(person) == by_first


def test_an_alias_names_a_model_and_the_collection_keeps_the_digest_that_it_meant(person):
    two, one = (it for it in listed(person).models if it.version)
    assert [two.model, one.model] == ["support@2", "support@1"]
    person.registry.point("support", one.version)
    assert changed(person, "support") == one.digest
    person.registry.point("support", two.version)
    assert collection(person).embedding_digest == one.digest
    person.reader.add("e.md", "# Nine\n\nLeaves at nine.")
    assert {document for document, _ in ranked(person)} >= {"e.md"}
    person.reader.delete("e.md")


def listed(person: Person) -> embedder_pb2.ListEmbeddingModelsResponse:
    answer: embedder_pb2.ListEmbeddingModelsResponse = person.embedder.ListEmbeddingModels(
        embedder_pb2.ListEmbeddingModelsRequest()
    )
    return answer


def test_own_models_are_listed_beside_the_deployments_by_what_they_are_for(person):
    answer = listed(person)
    assert [it.model for it in answer.models] == ["tiny", "support@2", "support@1"]
    assert [it.model for it in answer.rerankers] == ["sorter@1"]
    assert (answer.own_problem, answer.models[0].version) == ("", "")
    alone = person.embedder.ListEmbeddingModels(embedder_pb2.ListEmbeddingModelsRequest(deployment_only=True))
    assert ([it.model for it in alone.models], list(alone.rerankers)) == (["tiny"], [])


def test_a_search_is_reranked_by_the_reranker_that_it_names_or_that_the_collection_has(person):
    asked = person.reader.answer(QUERY, mode=pb.SEARCH_MODE_SPARSE, rerank_model="sorter@1")
    assert asked.rerank.applied
    texts = [f"{' › '.join(hit.heading_path)}\n{hit.text}" for hit in asked.hits]
    scores = person.embedder.Rerank(embedder_pb2.RerankRequest(query=QUERY, passages=texts, model="sorter@1")).scores
    assert [hit.rerank_score for hit in asked.hits] == pytest.approx(list(scores), abs=1e-6)
    plain = person.reader.answer(QUERY, mode=pb.SEARCH_MODE_SPARSE, rerank=True)
    assert {hit.rerank_score for hit in plain.hits} != {hit.rerank_score for hit in asked.hits}
    with refused("EMBEDDING_MODEL_NOT_FOUND"):
        person.reader.search(QUERY, rerank_model="sorter@2")
    assert not person.reader.answer(QUERY, rerank_model="sorter@2", rerank=False).HasField("rerank")
    update = pb.UpdateCollectionRequest(
        collection=person.reader.collection,
        search_settings=pb.SearchSettings(rerank=True, rerank_model="sorter@1"),
    )
    stored = person.reader.api.UpdateCollection(update).collection
    assert stored.search_settings.rerank_model == "sorter@1"
    by_stored = person.reader.answer(QUERY, mode=pb.SEARCH_MODE_SPARSE)
    assert [hit.rerank_score for hit in by_stored.hits] == [hit.rerank_score for hit in asked.hits]
    with refused("FIELD_INVALID"):
        changed(person, "sorter@1")
    (sorter,) = listed(person).rerankers
    person.delete(person.registry.api.GetVersion(registry_pb2.GetVersionRequest(version=sorter.version)).version)

    def without() -> pb.SearchResponse | None:
        answer = person.reader.answer(QUERY, mode=pb.SEARCH_MODE_SPARSE)
        return None if answer.rerank.applied else answer

    # A search does not fail for a reranker that is there no more.
    answer = eventually(without, "the deleted reranker is believed in no longer")
    assert "trivium models restore sorter@1" in answer.rerank.reason
    assert answer.hits


def test_what_a_collection_is_to_be_reranked_by_has_to_be_there_when_it_is_set(own_encoders):
    person = own_encoders.newcomer()

    def stored(model: str, dense_weight: float | None = None) -> pb.SearchSettings:
        settings = pb.SearchSettings(rerank=True, rerank_model=model, dense_weight=dense_weight)
        update = pb.UpdateCollectionRequest(collection=person.reader.collection, search_settings=settings)
        found: pb.SearchSettings = person.reader.api.UpdateCollection(update).collection.search_settings
        return found

    version = person.publish("sorter", seed=9, architecture="BertForSequenceClassification")
    assert stored("sorter@1").rerank_model == "sorter@1"
    for name in ("nonexist", "sorter@2", "sha256:" + "0" * 64):
        with refused("EMBEDDING_MODEL_NOT_FOUND") as failures:
            stored(name)
        assert name in failures[0].message
        assert "tiny" in failures[0].message
        assert name.startswith("sha256:") or "sorter@1" in failures[0].message
    assert collection(person).search_settings.rerank_model == "sorter@1"
    assert stored("tiny").rerank_model == "tiny"
    assert stored("sorter@1").rerank_model == "sorter@1"
    person.delete(version)
    eventually(lambda: gone(person, "sorter@1"), "the deleted reranker is believed in no longer")
    # Whoever changes something else is not held up by what has gone since.
    assert stored("sorter@1", dense_weight=0.25).dense_weight == 0.25
    stored("")
    with refused("EMBEDDING_MODEL_NOT_FOUND") as failures:
        stored("sorter@1")
    assert "trivium models restore sorter@1" in failures[0].message


def gone(person: Person, model: str) -> bool:
    """Whether the embedder knows nothing of a model."""
    try:
        person.embedder.GetEmbeddingModel(embedder_pb2.GetEmbeddingModelRequest(model=model))
    except grpc.RpcError as error:
        return from_rpc_error(error).reason == "EMBEDDING_MODEL_NOT_FOUND"
    return False


def reason(person: Person) -> str:
    """How a search by vectors ends; empty when it succeeds."""
    try:
        ranked(person)
    except grpc.RpcError as error:
        return from_rpc_error(error).reason
    return ""


def test_a_collection_whose_model_was_deleted_says_what_to_do_and_answers_again_once_it_is_restored(own_encoders):
    person = own_encoders.newcomer()
    person.reader.add("a.md", DOCUMENTS["a.md"])
    version = person.publish("mine", seed=6)
    assert changed(person, "mine@1") == version.base_digest
    before = ranked(person)
    person.delete(version)

    eventually(lambda: reason(person) == "EMBEDDING_MODEL_CHANGED", "the deleted model is believed in no longer")
    with refused("EMBEDDING_MODEL_CHANGED") as failures:
        ranked(person)
    assert "trivium models restore" in failures[0].message
    assert "trivium docs reembed" in failures[0].message
    assert len(person.reader.search("ferry", mode=pb.SEARCH_MODE_SPARSE)) == 1
    with refused("EMBEDDING_MODEL_NOT_FOUND") as failures:
        vectors(person, "mine@1", "ferry")
    assert "trivium models restore mine@1" in failures[0].message
    person.restore(version)
    assert ranked(person) == before


def test_a_document_that_is_added_while_its_model_is_deleted_waits_and_is_ready_once_that_is_restored(own_encoders):
    person = own_encoders.newcomer()
    person.reader.add("a.md", DOCUMENTS["a.md"])
    version = person.publish("mine", seed=12)
    assert changed(person, "mine@1") == version.base_digest
    person.delete(version)
    eventually(lambda: reason(person) == "EMBEDDING_MODEL_CHANGED", "the deleted model is believed in no longer")
    person.reader.put("b.md", DOCUMENTS["b.md"])
    person.reader.create("others")

    def waits() -> bool:
        found = person.reader.get("b.md")
        return found.state == pb.INGESTION_STATE_PENDING and "trivium models restore" in found.reason

    eventually(waits, "it says why it waits")
    assert person.reader.add("c.md", DOCUMENTS["c.md"], collection="others").state == pb.INGESTION_STATE_READY
    person.restore(version)
    eventually(lambda: person.reader.get("b.md").state == pb.INGESTION_STATE_READY, "it is ready by itself")
    assert {document for document, _ in ranked(person)} == {"a.md", "b.md"}


def test_collections_of_two_models_are_not_searched_together_but_for_keywords(own_encoders):
    person = own_encoders.newcomer()
    person.reader.add("a.md", DOCUMENTS["a.md"])
    person.reader.create("others")
    person.reader.add("b.md", DOCUMENTS["c.md"], collection="others")
    both = [person.reader.collection, "others"]
    assert len(person.reader.search("ferry", collections=both)) == 2
    digest = person.publish("mine", seed=8).base_digest
    assert changed(person, "mine@1") == digest
    with refused("EMBEDDING_MODELS_DIFFER") as failures:
        person.reader.search("ferry", collections=both)
    assert "search each by itself" in failures[0].message
    assert f"trivium docs reembed others {digest}" in failures[0].message
    assert len(person.reader.search("ferry", collections=both, mode=pb.SEARCH_MODE_SPARSE)) == 2
    person.reader.api.Reembed(pb.ReembedRequest(collection="others", model=digest))
    eventually(lambda: not refusal(person, both), "both have one model")


def refusal(person: Person, collections: list[str]) -> str:
    """How a search of these ends; empty when it succeeds."""
    try:
        person.reader.search("ferry", collections=collections)
    except grpc.RpcError as error:
        return from_rpc_error(error).reason
    return ""


def test_own_models_embed_and_rerank_from_the_command_line(own_encoders):
    desk = Desk(own_encoders.library)
    user = User(own_encoders.stack.registry_api(desk.key), "")
    version = published(user, "support", 31)
    published(user, "sorter", 32, "BertForSequenceClassification")
    desk.client.collections.create(desk.collection)
    desk.client.docs.add_text(DOCUMENTS["a.md"], collection=desk.collection, document="a.md")
    desk.settle()
    changed = desk.docs("reembed", desk.collection, "support@1")
    assert changed.returncode == 0, changed.stderr
    assert not missing(changed.stdout, desk.collection, version.base_digest)
    stored = desk.docs("settings", desk.collection, "--rerank", "--rerank-model", "sorter@1", "--json")
    assert (json.loads(stored.stdout)["rerank"], json.loads(stored.stdout)["rerank_model"]) == (True, "sorter@1")
    found = desk.docs("search", "ferry", "-c", desk.collection, "--rerank-model", "sorter@1", "--json")
    by_stored = desk.docs("search", "ferry", "-c", desk.collection, "--json")
    (hit,), (other,) = (json.loads(answer.stdout)["hits"] for answer in (found, by_stored))
    assert hit["rerank_score"] == other["rerank_score"] is not None
    refused = desk.docs("settings", desk.collection, "--rerank", "--rerank-model", "nonexist")
    assert refused.returncode == 3
    assert "nonexist" in refused.stderr
    assert "tiny" in refused.stderr
    refused = desk.docs("reembed", desk.collection, "support@2")
    assert refused.returncode != 0
    assert not missing(refused.stderr, "support@2", "support@1")
    desk.client.close()


def test_who_deletes_an_encoder_is_told_which_collections_stand_on_it_and_is_asked(own_encoders):
    desk = Desk(own_encoders.library)
    registry, user = own_encoders.stack.registry.address, User(own_encoders.stack.registry_api(desk.key), "")
    support, twin = published(user, "support", 41), published(user, "twin", 41)
    published(user, "sorter", 42, "BertForSequenceClassification")
    desk.client.collections.create(desk.collection)
    desk.client.docs.add_text(DOCUMENTS["a.md"], collection=desk.collection, document="a.md")
    desk.settle()
    assert desk.docs("reembed", desk.collection, "support@1").returncode == 0
    assert desk.docs("settings", desk.collection, "--rerank", "--rerank-model", "sorter@1").returncode == 0
    # While another version has the same files, nothing ends.
    assert support.base_digest == twin.base_digest
    quiet = desk.models(registry, "rm", "twin@1")
    assert (quiet.returncode, missing(quiet.stdout, "twin@1"), quiet.stderr) == (0, [], "")
    minded = desk.models(registry, "rm", "support@1", answer="n\n")
    assert minded.returncode != 0
    assert not missing(minded.stderr, desk.collection, "embedded by support@1")
    assert f"trivium docs reembed {desk.collection} MODEL" in minded.stderr
    unasked = desk.models(registry, "rm", "sorter", "--all")
    assert unasked.returncode == 2
    assert not missing(unasked.stderr, desk.collection, "reranked by sorter", "--yes")
    away = desk.models(registry, "rm", "sorter@1", TRIVIUM_RETRIEVER_ADDRESS="127.0.0.1:1")
    assert (away.returncode, missing(away.stdout, "sorter@1"), missing(away.stderr, "sorter@1")) == (0, [], [])
    agreed = desk.models(registry, "rm", "support@1", answer="y\n")
    assert (agreed.returncode, missing(agreed.stdout, "support@1")) == (0, [])
    desk.client.close()
