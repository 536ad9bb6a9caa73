"""The record of usage at access, over its stub."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import grpc
from trivium.access.v1 import access_pb2, access_pb2_grpc

from gateway.generation import Receipt
from gateway.peers import failures
from gateway.peers.messages import of_receipt, to_receipt

NAME = "access"
ActingFor = Callable[[str, str], AbstractAsyncContextManager[object]]


class RemoteLedger:
    """Implements :class:`gateway.receipts.Ledger`.  ``acting_for(tenant, principal)`` opens work outside of a request."""

    def __init__(self, channel: grpc.aio.Channel, acting_for: ActingFor) -> None:
        self._stub: access_pb2_grpc.AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(channel)
        self._acting_for = acting_for

    async def record(self, method: str, receipt: Receipt) -> None:
        """As the Protocol says."""
        record = access_pb2.UsageRecord(request_id=receipt.request_id, method=method, receipt=to_receipt(receipt))
        with failures.of(NAME):
            await self._stub.RecordUsage(access_pb2.RecordUsageRequest(record=record))

    async def record_for(self, tenant: str, principal: str, method: str, receipt: Receipt) -> None:
        """As the Protocol says."""
        with failures.of(NAME):
            async with self._acting_for(tenant, principal):
                await self.record(method, receipt)

    async def receipt(self, request_id: str) -> Receipt:
        """As the Protocol says."""
        with failures.of(NAME):
            answer = await self._stub.GetReceipt(access_pb2.GetReceiptRequest(request_id=request_id))
        return of_receipt(answer.receipt)
