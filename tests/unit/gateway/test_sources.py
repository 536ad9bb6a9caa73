"""A file that is passed on to the retriever while it is read: what it breaks off with is what is told."""

from typing import Any

import pytest
from trivium.retriever.v1 import retriever_pb2 as pb
from trivium.retriever.v1 import retriever_pb2_grpc

from gateway.files.nouns import Holders
from gateway.peers.library import RemoteLibrary
from gateway.vector_stores.nouns import FileDraft, FileFacts
from services.chassis.errors import Failure, Reason
from tests.unit.gateway.fine_tuning.test_peers import SHA, content, served

FACTS = FileFacts(file="file-a", filename="a.md", size_bytes=3, sha256=SHA, media_type="text/markdown")


class Retriever(retriever_pb2_grpc.RetrieverServiceServicer):
    """Takes what comes and keeps it."""

    def __init__(self) -> None:
        self.heard: list[pb.UploadDocumentRequest] = []
        self.hides = False

    async def ListCollections(self, request: pb.ListCollectionsRequest, context: Any) -> pb.ListCollectionsResponse:
        assert request.document == "file-a"
        first = not request.page_token
        name, more = ("one", "more") if first else ("two", "")
        collections = [pb.Collection(collection=name)]
        return pb.ListCollectionsResponse(collections=collections, next_page_token=more, hidden=first and self.hides)

    async def UploadDocument(self, requests: Any, context: Any) -> pb.UploadDocumentResponse:
        async for request in requests:
            self.heard.append(request)
        return pb.UploadDocumentResponse(document=pb.Document(document="file-a"))


async def test_a_file_is_sent_piece_by_piece() -> None:
    servicer = Retriever()
    async with served(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, servicer) as channel:
        stored = await RemoteLibrary(channel).put("c", FileDraft("file-a"), FACTS, content(b"ab", b"c"))
    assert stored.file == "file-a"
    assert [(part.chunk.offset_bytes, part.chunk.data) for part in servicer.heard[1:]] == [(0, b"ab"), (2, b"c")]


@pytest.mark.parametrize("hides", [False, True])
async def test_the_stores_that_hold_a_file_are_found_page_after_page_with_whether_others_hide_it(hides: bool) -> None:
    servicer = Retriever()
    servicer.hides = hides
    async with served(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, servicer) as channel:
        assert await RemoteLibrary(channel).holders("file-a") == Holders(("one", "two"), hides)


async def test_a_file_that_breaks_off_is_told_as_what_it_is_and_not_as_a_caller_who_left() -> None:
    gone = Failure(Reason.PEER_UNAVAILABLE, service="files")
    async with served(retriever_pb2_grpc.add_RetrieverServiceServicer_to_server, Retriever()) as channel:
        with pytest.raises(Failure) as refused:
            await RemoteLibrary(channel).put("c", FileDraft("file-a"), FACTS, content(b"ab", ends=gone))
    assert refused.value is gone
