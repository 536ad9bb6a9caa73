"""A collection goes from one live embedding model to another and back while it is searched, all over the wire."""

import threading
from dataclasses import dataclass, field

import grpc
import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.library import Library, Reader
from tests.stack import eventually

DOCUMENTS = 60
Answer = frozenset[tuple[str, int, float]]
QUERY = "what is the price of a ferry ticket in winter"


def filled(library: Library) -> Reader:
    reader = library.newcomer()
    for number in range(DOCUMENTS):
        word = ("boat", "ferry", "lamp", "paper", "stone")[number % 5]
        reader.put(f"d{number}.md", f"# Prices\n\nA {word} ticket number {number} costs {number * 3} crowns.")
    reader.settled()
    return reader


def ranked(reader: Reader) -> Answer:
    """All that vectors say, to the bit; in which order ties stand depends on the collection's name."""
    hits = reader.search(QUERY, mode=pb.SEARCH_MODE_DENSE, top_k=DOCUMENTS)
    return frozenset((hit.document, hit.start, hit.dense_score) for hit in hits)


def changed(reader: Reader, model: str) -> str:
    """Ask for the model, wait until it serves; its digest."""
    reader.api.Reembed(pb.ReembedRequest(collection=reader.collection, model=model))

    def serving() -> pb.Collection | None:
        found: pb.Collection = reader.api.GetCollection(
            pb.GetCollectionRequest(collection=reader.collection)
        ).collection
        assert found.reembedding.running or not found.reembedding.reason, found.reembedding.reason
        return None if found.HasField("reembedding") else found

    found = eventually(serving, "the other model serves")
    return str(found.embedding_digest)


@dataclass
class Searcher:
    """Searches until it is told to stop, and keeps what it was answered."""

    reader: Reader
    answers: list[Answer] = field(default_factory=list)
    errors: list[grpc.RpcError] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def go_on(self) -> None:
        """Wait until it has begun and ended searches, some of them, from now on."""
        had = len(self.answers)
        eventually(lambda: len(self.answers) > had + 2 or self.errors, "searches go on")

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self.answers.append(ranked(self.reader))
            except grpc.RpcError as error:
                self.errors.append(error)
                return


@pytest.fixture
def searchers(two_models):
    reader = filled(two_models)
    made = [Searcher(reader) for _ in range(3)]
    threads = [threading.Thread(target=searcher.run) for searcher in made]
    yield reader, made, threads
    for searcher in made:
        searcher.over.set()
    for thread in threads:
        thread.join(60)


def test_every_search_during_a_change_is_answered_by_exactly_one_model_and_none_goes_back(two_models, searchers):
    reader, made, threads = searchers
    # What each model says, of the same documents in a collection that nobody changes meanwhile.
    twin = filled(two_models)
    first = twin.api.GetCollection(pb.GetCollectionRequest(collection=twin.collection)).collection.embedding_digest
    by_first = ranked(twin)
    second = changed(twin, "other")
    by_second = ranked(twin)
    assert second != first
    assert by_first != by_second
    for thread in threads:
        thread.start()
    for model, expected in ((second, by_second), (first, by_first)):
        assert changed(reader, model) == model
        # Whatever is asked from now on is answered by the new model: there is no second flip to wait for.
        assert ranked(reader) == expected
        for searcher in made:
            searcher.go_on()
    for searcher in made:
        searcher.over.set()
    for thread in threads:
        thread.join(60)
    for searcher in made:
        assert not searcher.errors, searcher.errors
        models = [
            "first" if answer == by_first else "second" if answer == by_second else answer
            for answer in searcher.answers
        ]
        flips = [model for model, former in zip(models, [None, *models], strict=False) if model != former]
        assert flips == ["first", "second", "first"]
