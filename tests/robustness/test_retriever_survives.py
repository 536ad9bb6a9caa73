"""The retriever under kills: what was acknowledged is there, and the index is the one of a fresh build."""

import random
import sqlite3
from collections import Counter
from contextlib import closing

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.cable import Cable
from tests.harness.plugin_sampling import sample
from tests.library import Library, Reader
from tests.stack import eventually, refused

QUERIES = ("herring and mustard", "when is the gate closed", "crowns", "section 3", "a lamp for the night watch")
SUBJECTS = ("herring", "mustard", "the gate", "a lamp", "the keeper", "bread", "the siren", "a boat", "the quay")


def section(number: int) -> str:
    """A section that is one chunk, the same for the same number."""
    picked = random.Random(number)
    one, two = picked.sample(SUBJECTS, 2)
    return (
        f"## Section {number}\n\nIn section {number}, {one} costs {number * 7} crowns and {two} is closed at night.\n"
    )


def handbook(*numbers: int) -> str:
    """A document of these sections."""
    return "# Handbook\n\n" + "\n".join(section(number) for number in numbers)


def ranking(reader: Reader, collection: str = "") -> list[list[tuple[str, int, int, float, float, float]]]:
    """What the index answers, to the bit; ties in an order that does not depend on ids."""
    found = []
    for query in QUERIES:
        hits = reader.search(query, top_k=100, collections=[collection or reader.collection])
        found.append(
            sorted((hit.document, hit.start, hit.end, hit.score, hit.dense_score, hit.sparse_score) for hit in hits)
        )
    return found


@pytest.fixture(scope="module")
def private(stack, tmp_path_factory, embedder_address):
    """A retriever that tests may kill; each test has a separate tenant."""
    running = Library(stack, tmp_path_factory.mktemp("library"), embedder_address)
    yield running
    running.close()


def texts_of(library: Library, collection: str) -> dict[str, str]:
    """The documents of a collection as the catalog holds them."""
    query = (
        "SELECT d.document, v.text FROM documents d JOIN collections c ON c.number = d.collection_number "
        "JOIN versions v ON v.document_number = d.number AND v.version = d.serving_version WHERE c.collection = ?"
    )
    with closing(sqlite3.connect(library.data / "retriever" / "retriever.db", timeout=10)) as catalog:
        return dict(catalog.execute(query, (collection,)))


def test_acknowledged_documents_are_complete_after_a_kill_and_nothing_was_embedded_twice(private):
    reader = private.newcomer()
    kept: dict[str, str] = {}
    while True:
        for number in range(len(kept), len(kept) + 20):
            kept[f"d{number}.md"] = handbook(*range(number * 5, number * 5 + 5))
            reader.put(f"d{number}.md", kept[f"d{number}.md"])
        begun = eventually(lambda: (it := reader.statistics()).vectors_computed and it, "ingestion has begun")
        # All of it may be over before we look: then there is more to do.
        if begun.pending:
            break
    private.restart()
    reader.settled()
    states = Counter(reader.get(name).state for name in kept)
    assert states == {pb.INGESTION_STATE_READY: len(kept)}
    assert texts_of(private, reader.collection) == kept
    counts = reader.statistics()
    assert counts.vectors_computed == counts.chunks
    assert sum(reader.get(name).chunks_embedded for name in kept) == counts.chunks


def test_after_adds_updates_deletes_and_kills_the_index_is_the_one_of_a_fresh_build(private):
    reader = private.newcomer()
    chance = random.Random(8)
    expected: dict[str, str] = {}
    kills = sample((12, 25, 38), every=3)
    for step in range(40):
        name = f"d{chance.randrange(8)}.md"
        if chance.random() < 0.25 and name in expected:
            reader.delete(name)
            del expected[name]
        else:
            expected[name] = handbook(*chance.sample(range(12), 3))
            reader.put(name, expected[name])
        if step in kills:
            private.restart()
    reader.settled()
    assert texts_of(private, reader.collection) == expected
    grown = ranking(reader)

    fresh = private.newcomer()
    for name, text in expected.items():
        fresh.put(name, text)
    fresh.settled()
    assert ranking(fresh) == grown
    assert fresh.statistics().chunks == reader.statistics().chunks

    def damage() -> None:
        for file in (private.data / "retriever").glob("index.db*"):
            file.write_bytes(b"this was an index")

    private.restart(meanwhile=damage)
    assert ranking(reader) == grown


def test_without_an_embedder_documents_wait_and_say_so_and_the_old_version_serves(stack, tmp_path, embedder_address):
    with Cable(embedder_address) as cable:
        library = Library(stack, tmp_path / "library", cable.address)
        reader = library.newcomer()
        first = reader.add("a.txt", "The gate is red.")
        cable.cut()
        assert reader.put("a.txt", "The gate is blue.").new_version
        waiting = eventually(
            lambda: (found := reader.get("a.txt")).reason and found, "the document says what it waits for"
        )
        assert waiting.state == pb.INGESTION_STATE_PENDING
        assert "embedder" in waiting.reason
        assert waiting.serving_version == first.serving_version != waiting.newest_version
        assert [hit.text for hit in reader.search("gate", mode=pb.SEARCH_MODE_SPARSE)] == ["The gate is red."]
        with refused("PEER_UNAVAILABLE") as failures:
            reader.search("gate")
        assert failures[0].variables["service"] == "embedder"
        library.restart()
        assert reader.get("a.txt").state != pb.INGESTION_STATE_READY
        cable.mend()
        assert reader.settled("a.txt").serving_version == waiting.newest_version
        assert [hit.text for hit in reader.search("gate")] == ["The gate is blue."]
        library.close()
