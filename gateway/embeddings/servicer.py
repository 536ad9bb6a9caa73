"""One method an RPC: wire to domain, call, domain to wire."""

from trivium.gateway.v1 import embeddings_pb2, embeddings_pb2_grpc

from gateway.embeddings import wire
from gateway.embeddings.embedding import Embeddings
from gateway.limits.gate import Gate
from services.chassis.interceptors.call import ServicerContext


class EmbeddingServicer(embeddings_pb2_grpc.EmbeddingServiceServicer):
    """The embeddings of the gateway's API; the HTTP transport calls them, too."""

    def __init__(self, embeddings: Embeddings, gate: Gate) -> None:
        self._embeddings = embeddings
        self._gate = gate

    async def CreateEmbeddings(
        self, request: embeddings_pb2.CreateEmbeddingsRequest, context: ServicerContext
    ) -> embeddings_pb2.CreateEmbeddingsResponse:
        async with self._gate.passing(wire.demand(request), context.send_initial_metadata):
            return wire.vectors_response(await self._embeddings.create(wire.wanted(request)))

    async def ListEmbeddingModels(
        self, request: embeddings_pb2.ListEmbeddingModelsRequest, context: ServicerContext
    ) -> embeddings_pb2.ListEmbeddingModelsResponse:
        return wire.models_response(await self._embeddings.models())
