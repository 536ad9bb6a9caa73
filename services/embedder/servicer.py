"""The embedder's RPCs: wire to domain, call, domain to wire."""

from collections import deque
from collections.abc import AsyncIterator

from trivium.common.v1 import tensor_pb2
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium.embedder.v1 import embedder_pb2_grpc

from services.chassis.context import current
from services.embedder import wire
from services.embedder.embedding import Embedder, Wanted
from services.embedder.reranking import Reranker


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Serves ``trivium.embedder.v1``."""

    def __init__(self, embedder: Embedder, reranker: Reranker) -> None:
        self._embedder = embedder
        self._reranker = reranker

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        embedded = await self._embedder.embed(wire.asking(current()), wire.to_wanted(request))
        return wire.from_embedded(embedded, request.dtype)

    async def EmbedStream(
        self, requests: AsyncIterator[pb.EmbedStreamRequest], context: object
    ) -> AsyncIterator[pb.EmbedStreamResponse]:
        dtypes: deque[tensor_pb2.Dtype.ValueType] = deque()

        async def wanted() -> AsyncIterator[Wanted]:
            async for message in requests:
                dtypes.append(message.request.dtype)
                yield wire.to_wanted(message.request)

        async for embedded in self._embedder.embed_all(wire.asking(current()), wanted()):
            yield pb.EmbedStreamResponse(response=wire.from_embedded(embedded, dtypes.popleft()))

    async def CountTokens(self, request: pb.CountTokensRequest, context: object) -> pb.CountTokensResponse:
        counted = await self._embedder.count(request.model, request.texts)
        return pb.CountTokensResponse(token_counts=counted.token_counts, model_digest=counted.facts.digest)

    async def Rerank(self, request: pb.RerankRequest, context: object) -> pb.RerankResponse:
        asking = wire.asking(current())
        ranked = await self._reranker.rank(asking, request.model, request.query, request.passages)
        return wire.from_ranked(ranked)

    async def ListEmbeddingModels(
        self, request: pb.ListEmbeddingModelsRequest, context: object
    ) -> pb.ListEmbeddingModelsResponse:
        return wire.from_shelves(self._reranker.encoders, self._reranker.pairs)
