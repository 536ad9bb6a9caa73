"""The retriever over its stub."""

from collections.abc import Sequence

import grpc
from trivium.retriever.v1 import retriever_pb2, retriever_pb2_grpc

from gateway.generation import SourceSpan, StageTiming
from gateway.peers import failures
from gateway.retrieval import Found, Source

NAME = "retriever"


class RemoteRetriever:
    """Implements :class:`gateway.retrieval.Retriever`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: retriever_pb2_grpc.RetrieverServiceAsyncStub = retriever_pb2_grpc.RetrieverServiceStub(channel)

    async def search(self, collections: Sequence[str], query: str, top_k: int, narrowed: bytes = b"") -> Found:
        """As the Protocol says."""
        request = retriever_pb2.SearchRequest(collections=collections, queries=[query], top_k=top_k)
        if narrowed:
            request.filter.ParseFromString(narrowed)
        with failures.of(NAME):
            answer = await self._stub.Search(request)
        return Found(
            tuple(_source(marker, hit) for marker, hit in enumerate(answer.hits, start=1)),
            tuple(StageTiming(item.stage, item.seconds, 1) for item in answer.timings),
        )


def _source(marker: int, hit: retriever_pb2.Hit) -> Source:
    span = SourceSpan(hit.collection, hit.document, hit.version, hit.start, hit.end, hit.chunk, marker)
    return Source(span, hit.title, tuple(hit.heading_path), hit.text, hit.score)
