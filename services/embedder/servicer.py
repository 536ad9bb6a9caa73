"""The embedder's RPCs: wire to domain, call, domain to wire."""

from collections import deque
from collections.abc import AsyncIterator

from trivium.common.v1 import tensor_pb2
from trivium.embedder.v1 import embedder_pb2 as pb
from trivium.embedder.v1 import embedder_pb2_grpc

from services.chassis.context import current
from services.embedder import wire
from services.embedder.embedding import Wanted
from services.embedder.serving import Verbs


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """Serves ``trivium.embedder.v1``."""

    def __init__(self, verbs: Verbs) -> None:
        self._embedder = verbs.embedder
        self._reranker = verbs.reranker
        self._models = verbs.models

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
        counted = await self._embedder.count(wire.asking(current()), request.model, request.texts)
        return pb.CountTokensResponse(token_counts=counted.token_counts, model_digest=counted.facts.digest)

    async def Rerank(self, request: pb.RerankRequest, context: object) -> pb.RerankResponse:
        asking = wire.asking(current())
        ranked = await self._reranker.rank(asking, request.model, request.query, request.passages)
        return wire.from_ranked(ranked)

    async def ListEmbeddingModels(
        self, request: pb.ListEmbeddingModelsRequest, context: object
    ) -> pb.ListEmbeddingModelsResponse:
        asking = None if request.deployment_only else wire.asking(current())
        return wire.from_models(await self._models.listed(asking))

    async def GetEmbeddingModel(
        self, request: pb.GetEmbeddingModelRequest, context: object
    ) -> pb.GetEmbeddingModelResponse:
        return wire.from_meant(await self._models.meant(wire.asking(current()), request.model))
