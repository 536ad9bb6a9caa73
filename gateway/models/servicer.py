"""One method an RPC: wire to domain, call, domain to wire."""

from trivium.gateway.v1 import models_pb2 as pb
from trivium.gateway.v1 import models_pb2_grpc

from gateway.models import wire
from gateway.models.naming import Naming
from services.chassis.interceptors.call import ServicerContext


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Names of models; the HTTP transport calls them, too."""

    def __init__(self, naming: Naming) -> None:
        self._naming = naming

    async def GetModel(self, request: pb.GetModelRequest, context: ServicerContext) -> pb.GetModelResponse:
        return wire.found(await self._naming.model(request.model))

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: ServicerContext) -> pb.DeleteModelResponse:
        await self._naming.delete(request.model)
        return pb.DeleteModelResponse()
