"""What is told of vector stores over HTTP is what the document says, in every state."""

from typing import Any

import pytest
from trivium.gateway.v1 import vector_stores_pb2 as pb
from trivium.retriever.v1 import retriever_pb2

from gateway.http.vector_stores import rendering
from gateway.http.vector_stores.answers import (
    BatchShown,
    Deleted,
    FileShown,
    FilesShown,
    FoundShown,
    StoreShown,
    StoresShown,
)

ATTRIBUTES = {
    "text": retriever_pb2.MetadataValue(text="t"),
    "number": retriever_pb2.MetadataValue(number=1.5),
    "whole": retriever_pb2.MetadataValue(number=2),
    "flag": retriever_pb2.MetadataValue(flag=True),
    "time": retriever_pb2.MetadataValue(time={"seconds": 1}),  # type: ignore[arg-type]  # the stubs want a message
    "labels": retriever_pb2.MetadataValue(texts=retriever_pb2.TextList(texts=["a", "b"])),
}


@pytest.mark.parametrize("status", pb.VectorStoreStatus.values())
def test_a_store_is_what_the_document_says(status):
    ends: dict[str, Any] = {"expire_after_days": 2, "expire_time": {"seconds": 9}, "metadata": {"a": "b"}}
    for fields in ({}, ends):
        told = rendering.store(pb.VectorStore(vector_store="vs", status=status, **fields))
        StoreShown.model_validate(told)
        StoresShown.model_validate(rendering.page([told], more=True))
    StoresShown.model_validate(rendering.page([], more=False))


@pytest.mark.parametrize("status", pb.VectorStoreFileStatus.values())
@pytest.mark.parametrize("refused", [True, False])
def test_a_file_is_what_the_document_says(status, refused):
    file = pb.VectorStoreFile(file="f", status=status, refused=refused, problem="p", attributes=ATTRIBUTES)
    told = rendering.file(file)
    FileShown.model_validate(told, strict=True)
    FilesShown.model_validate(rendering.page([told], more=False))
    assert told["attributes"] == {
        "flag": True,
        "labels": "a, b",
        "number": 1.5,
        "text": "t",
        "time": "1970-01-01T00:00:01Z",
        "whole": 2,
    }


@pytest.mark.parametrize("state", retriever_pb2.BatchState.values())
def test_a_batch_is_what_the_document_says(state):
    BatchShown.model_validate(rendering.batch(pb.VectorStoreFileBatch(batch="b", state=state)))


def test_what_is_found_and_what_is_deleted_are_what_the_document_says():
    hit = pb.VectorStoreHit(file="f", text="t", score=0.5, attributes=ATTRIBUTES)
    FoundShown.model_validate(rendering.found(pb.SearchVectorStoreResponse(search_queries=["q"], hits=[hit])))
    for kind in ("vector_store.deleted", "vector_store.file.deleted"):
        Deleted.model_validate(rendering.deleted("x", kind))
