"""A collection's index is built anew or moved while it is searched; a change of its model is asked for by name."""

import threading

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb

from tests.library import Library
from tests.stack import refused


def passages(reader, query="herring"):
    return [(hit.document, hit.start, hit.score) for hit in reader.search(query, top_k=50)]


def reindexed(reader, **fields):
    return list(reader.api.Reindex(pb.ReindexRequest(collection=reader.collection, **fields)))


def collection_of(reader):
    return reader.api.GetCollection(pb.GetCollectionRequest(collection=reader.collection)).collection


@pytest.fixture
def filled(reader):
    for number in range(6):
        reader.put(f"d{number}.md", f"# Fares\n\nHerring number {number} costs {number * 7} crowns.")
    reader.settled()
    return reader


def test_a_new_build_is_verified_and_answers_as_the_old_one(filled):
    before = passages(filled)
    *reports, last = reindexed(filled)
    assert all(not report.digest for report in reports)
    assert (last.chunks_done, last.chunks, last.index) == (6, 6, pb.INDEX_KIND_EMBEDDED)
    assert len(last.digest) == 64
    assert passages(filled) == before
    assert reindexed(filled)[-1].digest == last.digest
    assert collection_of(filled).index == pb.INDEX_KIND_EMBEDDED


def test_what_cannot_be_reindexed_is_refused_and_goes_on_serving(filled):
    before = passages(filled)
    with refused("INDEX_NOT_SET") as failures:
        reindexed(filled, index=pb.INDEX_KIND_WEAVIATE)
    assert "TRIVIUM_RETRIEVER_WEAVIATE_URL" in failures[0].message
    with refused("COLLECTION_NOT_FOUND"):
        list(filled.api.Reindex(pb.ReindexRequest(collection="absent")))
    assert passages(filled) == before


def test_a_model_that_the_embedder_does_not_list_is_refused_and_the_present_one_changes_nothing(filled):
    before = collection_of(filled)
    with refused("EMBEDDING_MODEL_NOT_FOUND"):
        filled.api.Reembed(pb.ReembedRequest(collection=filled.collection, model="absent"))
    answer = filled.api.Reembed(pb.ReembedRequest(collection=filled.collection, model=before.embedding_digest))
    assert answer.collection == before
    cancelled = filled.api.CancelReembedding(pb.CancelReembeddingRequest(collection=filled.collection))
    assert cancelled.collection == before
    with refused("COLLECTION_NOT_FOUND"):
        filled.api.CancelReembedding(pb.CancelReembeddingRequest(collection="absent"))


def test_a_collection_moves_to_weaviate_and_back_under_writes(stack, tmp_path, embedder_address, weaviate):
    environment = {**weaviate.environment, "TRIVIUM_RETRIEVER_INDEX": "embedded"}
    library = Library(stack, tmp_path / "library", embedder_address, environment)
    reader = library.newcomer()
    try:
        for number in range(20):
            reader.put(f"d{number}.md", f"# Fares\n\nHerring number {number} costs {number * 7} crowns.")
        reader.settled()

        def write():
            for number in range(20, 30):
                reader.put(f"d{number}.md", f"# Fares\n\nHerring number {number} costs {number * 7} crowns.")
            reader.delete("d3.md")

        for kind in (pb.INDEX_KIND_WEAVIATE, pb.INDEX_KIND_EMBEDDED):
            writer = threading.Thread(target=write) if kind == pb.INDEX_KIND_WEAVIATE else None
            if writer:
                writer.start()
            last = reindexed(reader, index=kind)[-1]
            if writer:
                writer.join()
            reader.settled()
            assert last.index == collection_of(reader).index == kind
            assert last.chunks >= 19
            fresh = library.newcomer()
            for number in range(30):
                if number != 3:
                    fresh.put(f"d{number}.md", f"# Fares\n\nHerring number {number} costs {number * 7} crowns.")
            fresh.settled()
            assert passages(reader) == passages(fresh)
            library.restart()
            assert passages(reader) == passages(fresh)
    finally:
        library.close()
