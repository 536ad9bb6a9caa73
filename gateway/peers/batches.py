"""Batches at the service of files, over its stubs."""

import grpc
from trivium.files.v1 import batch_pb2 as pb
from trivium.files.v1 import batch_pb2_grpc

from gateway.peers import failures
from gateway.peers.files import NAME


class RemoteBatches:
    """Batches of the caller's tenant.  Raises Failure."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: batch_pb2_grpc.BatchServiceAsyncStub = batch_pb2_grpc.BatchServiceStub(channel)

    async def create(self, order: pb.CreateBatchRequest) -> pb.Batch:
        """Begin a batch."""
        with failures.of(NAME):
            return (await self._stub.CreateBatch(order)).batch

    async def get(self, batch: str) -> pb.Batch:
        """One batch."""
        with failures.of(NAME):
            return (await self._stub.GetBatch(pb.GetBatchRequest(batch=batch))).batch

    async def page(self, wanted: pb.ListBatchesRequest) -> pb.ListBatchesResponse:
        """A page of batches."""
        with failures.of(NAME):
            return await self._stub.ListBatches(wanted)

    async def cancel(self, batch: str) -> pb.Batch:
        """End a batch early."""
        with failures.of(NAME):
            return (await self._stub.CancelBatch(pb.CancelBatchRequest(batch=batch))).batch
