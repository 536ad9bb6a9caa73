"""A collection's vectors come from one model, whatever the embedder serves later."""

import sqlite3
from contextlib import closing

from sqlalchemy import update
from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.database import make_engine
from services.retriever.store import CollectionRow
from tests.stack import eventually, refused

OTHER = "sha256:" + "0" * 64


def test_vectors_of_two_models_are_never_compared(library, reader):
    reader.add("a.txt", "The gate is red.")
    # As if the embedder had served another model when this collection was filled.
    mine = update(CollectionRow).where(CollectionRow.collection == reader.collection)
    engine = make_engine(library.catalog_url)
    with engine.begin() as catalog:
        catalog.execute(mine.values(embedding_digest=OTHER))
    engine.dispose()
    with refused("EMBEDDING_MODEL_CHANGED") as failures:
        reader.search("gate")
    assert failures[0].variables["pinned"] == OTHER
    assert "Reembed" in failures[0].message
    assert len(reader.search("gate", mode=pb.SEARCH_MODE_SPARSE)) == 1
    reader.put("b.txt", "The gate is blue.")
    waits = eventually(lambda: told(reader, "b.txt"), "it says why it waits")
    assert waits.state == pb.INGESTION_STATE_PENDING
    assert "model" in waits.reason
    assert (reader.statistics().failed, reader.statistics().pending) == (0, 1)


def told(reader, document):
    """The document, if it says something of itself while nobody works at it."""
    found = reader.get(document)
    return found if found.reason and found.state == pb.INGESTION_STATE_PENDING else None


def test_the_embedder_remembers_questions_and_nothing_of_documents(two_models):
    """The catalog keeps the vectors of documents and drops them with their texts: no cache may hold what it dropped."""
    reader = two_models.newcomer()

    def remembered():
        with closing(sqlite3.connect(two_models.data / "embedder" / "vectors.db", timeout=10)) as file:
            return file.execute("SELECT count(*) FROM vectors").fetchone()[0]

    reader.add("a.txt", "The eastern gate is red.")
    reader.search("Which colour has the eastern gate?")
    start = eventually(remembered, "something is written")
    reader.search("Is the eastern gate closed at night?")
    eventually(lambda: remembered() > start, "the last question is written, and so all before it")
    before = remembered()
    reader.add("b.txt", "The western gate is blue, and nobody knows why.")
    reader.delete("b.txt")
    reader.search("Who painted the western gate?")
    eventually(lambda: remembered() > before, "the second question is written")
    assert remembered() == before + 1
