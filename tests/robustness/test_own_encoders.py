"""A collection with its tenant's own model, while the registry or the embedder is killed."""

import grpc
import pytest
from trivium.embedder.v1 import embedder_pb2
from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.status import from_rpc_error
from tests.own_encoders import Encoders, Person
from tests.stack import Stack, eventually, refused

QUERY = "the ferry leaves at nine"


@pytest.fixture(scope="module")
def encoders(stack, tmp_path_factory):
    """An embedder and a retriever over a registry of their own, which may be killed."""
    data = tmp_path_factory.mktemp("own-encoders-killed")
    beside = Stack(data / "registry", beside=stack)
    beside.registry.keep_port()
    made = Encoders(beside, data)
    yield made
    made.close()
    beside.close()


def ranked(person: Person) -> list[tuple[str, float]]:
    hits = person.reader.search(QUERY, mode=pb.SEARCH_MODE_DENSE)
    return [(hit.document, hit.dense_score) for hit in hits]


def begin(person: Person, model: str) -> None:
    person.reader.api.Reembed(pb.ReembedRequest(collection=person.reader.collection, model=model))


def serving(person: Person, digest: str) -> None:
    """Wait until the collection is searched by a model."""

    def flipped() -> bool:
        found = person.reader.api.GetCollection(pb.GetCollectionRequest(collection=person.reader.collection)).collection
        assert found.reembedding.running or not found.reembedding.reason, found.reembedding.reason
        return bool(found.embedding_digest == digest)

    eventually(flipped, "the own model serves")


def reason(person: Person, model: str) -> str:
    """How an embedding by a model ends; empty when it succeeds."""
    try:
        person.embedder.Embed(embedder_pb2.EmbedRequest(texts=[QUERY], model=model))
    except grpc.RpcError as error:
        return from_rpc_error(error).reason
    return ""


def test_kills_of_the_registry_and_the_embedder_cost_no_answer_once_they_are_back(encoders):
    person, registry = encoders.newcomer(), encoders.stack.registry
    for number in range(6):
        person.reader.put(
            f"{number}.md", f"# Ferry {number}\n\nThe ferry leaves at nine. At {number} the ferry leaves."
        )
    person.reader.settled()
    version = person.publish("support", seed=21)
    begin(person, "support@1")
    # In mid-change, or before, or after it: the change is durable, and so is what it is to.
    encoders.restart_embedder()
    serving(person, version.base_digest)
    before = ranked(person)
    registry.kill()
    # A name that has to be asked for has nobody to say what it means, once the last word on it has had its time.
    eventually(lambda: reason(person, "support@1") == "PEER_UNAVAILABLE", "the registry's last word counts no longer")
    assert ranked(person) == before
    # Without either the collection can only wait.
    encoders.restart_embedder()
    with refused("PEER_UNAVAILABLE") as failures:
        ranked(person)
    assert failures[0].variables["service"] == "registry"
    person.reader.put("late.md", "# Late\n\nThe ferry leaves at nine, late.")
    waiting = eventually(
        lambda: (found := person.reader.get("late.md")).reason.startswith("Waits") and found, "ingestion waits"
    )
    assert "registry" in waiting.reason
    encoders.stack.restart(registry)
    person.reader.settled("late.md")
    after = [place for place in ranked(person) if place[0] != "late.md"]
    assert after == before
