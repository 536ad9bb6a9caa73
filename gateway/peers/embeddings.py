"""The embedder over its stub."""

import grpc
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc

from gateway.embeddings import wire
from gateway.embeddings.embedding import EmbeddingModel, Vectors, Wanted
from gateway.peers import failures

NAME = "embedder"
_FIELDS = {
    "dimensions": "request.dimensions",
    "dtype": "request.dtype",
    "model": "request.model",
    "texts": "request.texts",
}


class RemoteEmbedder:
    """Implements :class:`gateway.embeddings.embedding.Embedder`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: embedder_pb2_grpc.EmbedderServiceAsyncStub = embedder_pb2_grpc.EmbedderServiceStub(channel)

    async def embed(self, wanted: Wanted) -> Vectors:
        """As the Protocol says."""
        with failures.of(NAME, _FIELDS):
            return wire.of_embedded(await self._stub.Embed(wire.to_embed(wanted)))

    async def models(self) -> list[EmbeddingModel]:
        """As the Protocol says."""
        with failures.of(NAME):
            answer = await self._stub.ListEmbeddingModels(embedder_pb2.ListEmbeddingModelsRequest())
        return [wire.of_model(model) for model in answer.models]
