"""A collection's vectors come from one model, whatever the embedder serves later."""

from sqlalchemy import update
from trivium.retriever.v1 import retriever_pb2 as pb

from services.chassis.database import make_engine
from services.retriever.store import CollectionRow
from tests.stack import refused

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
    failed = reader.add("b.txt", "The gate is blue.")
    assert failed.state == pb.INGESTION_STATE_FAILED
    assert "two models cannot be compared" in failed.reason
    assert reader.statistics().failed == 1
