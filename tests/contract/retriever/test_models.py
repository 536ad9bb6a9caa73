"""A collection's vectors come from one model, whatever the embedder serves later."""

import sqlite3
from contextlib import closing

from trivium.retriever.v1 import retriever_pb2 as pb

from tests.stack import refused

OTHER = "sha256:" + "0" * 64


def test_vectors_of_two_models_are_never_compared(library, reader):
    reader.add("a.txt", "The gate is red.")
    # As if the embedder had served another model when this collection was filled.
    with closing(sqlite3.connect(library.data / "retriever" / "retriever.db", timeout=10)) as catalog, catalog:
        catalog.execute("UPDATE collections SET embedding_digest = ? WHERE collection = ?", (OTHER, reader.collection))
    with refused("EMBEDDING_MODEL_CHANGED") as failures:
        reader.search("gate")
    assert failures[0].variables["pinned"] == OTHER
    assert "new collection" in failures[0].message
    assert len(reader.search("gate", mode=pb.SEARCH_MODE_SPARSE)) == 1
    failed = reader.add("b.txt", "The gate is blue.")
    assert failed.state == pb.INGESTION_STATE_FAILED
    assert "two models cannot be compared" in failed.reason
    assert reader.statistics().failed == 1
