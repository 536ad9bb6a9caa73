"""The RPCs of batches; the HTTP transport calls them, too."""

from trivium.gateway.v1 import batches_pb2 as pb
from trivium.gateway.v1 import batches_pb2_grpc

from gateway.batches import wire
from gateway.peers.batches import RemoteBatches
from services.chassis.interceptors.call import ServicerContext


class BatchServicer(batches_pb2_grpc.BatchServiceServicer):
    """Serves batches."""

    def __init__(self, batches: RemoteBatches) -> None:
        self._batches = batches

    async def CreateBatch(self, request: pb.CreateBatchRequest, context: ServicerContext) -> pb.CreateBatchResponse:
        return pb.CreateBatchResponse(batch=await self._batches.create(wire.order(request)))

    async def GetBatch(self, request: pb.GetBatchRequest, context: ServicerContext) -> pb.GetBatchResponse:
        return pb.GetBatchResponse(batch=await self._batches.get(request.batch))

    async def ListBatches(self, request: pb.ListBatchesRequest, context: ServicerContext) -> pb.ListBatchesResponse:
        return wire.listed(await self._batches.page(wire.wanted(request)))

    async def CancelBatch(self, request: pb.CancelBatchRequest, context: ServicerContext) -> pb.CancelBatchResponse:
        return pb.CancelBatchResponse(batch=await self._batches.cancel(request.batch))
