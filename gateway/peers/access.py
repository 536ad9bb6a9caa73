"""The record of usage at access, over its stubs."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager

import grpc
from trivium.access.v1 import access_pb2, access_pb2_grpc, usage_pb2, usage_pb2_grpc

from gateway.generation import Receipt
from gateway.peers import failures
from gateway.peers.messages import of_receipt, to_receipt
from gateway.receipts import Waiting

NAME = "access"
# What one call carries: a message may have four times as much, and one record a few tens of KB.
_CALL_BYTES = 1024 * 1024


def to_record(waiting: Waiting) -> access_pb2.UsageRecord:
    """A receipt with whose it is, as access and the spool keep it."""
    return access_pb2.UsageRecord(
        request_id=waiting.receipt.request_id,
        tenant=waiting.tenant,
        principal=waiting.principal,
        method=waiting.method,
        receipt=to_receipt(waiting.receipt),
        project=waiting.project,
        unattended=waiting.unattended,
    )


def of_record(record: access_pb2.UsageRecord) -> Waiting:
    """What a record says."""
    receipt = of_receipt(record.receipt)
    return Waiting(record.tenant, record.principal, record.method, receipt, record.project, record.unattended)


class RemoteLedger:
    """Implements :class:`gateway.receipts.Ledger`.  ``as_service`` opens work of the gateway itself."""

    def __init__(
        self, channel: grpc.aio.Channel, as_service: Callable[[], AbstractAsyncContextManager[object]]
    ) -> None:
        self._usage: usage_pb2_grpc.UsageServiceAsyncStub = usage_pb2_grpc.UsageServiceStub(channel)
        self._access: access_pb2_grpc.AccessServiceAsyncStub = access_pb2_grpc.AccessServiceStub(channel)
        self._as_service = as_service

    async def record(self, batch: Sequence[Waiting]) -> list[str]:
        """As the Protocol says."""
        refusals: list[str] = []
        with failures.of(NAME):
            async with self._as_service():
                for request in _calls(batch):
                    refusals += (await self._usage.RecordUsages(request)).refusals
        return refusals

    async def receipt(self, request_id: str) -> Receipt:
        """As the Protocol says."""
        with failures.of(NAME):
            answer = await self._access.GetReceipt(access_pb2.GetReceiptRequest(request_id=request_id))
        return of_receipt(answer.receipt)


def _calls(batch: Sequence[Waiting]) -> Iterator[usage_pb2.RecordUsagesRequest]:
    """A batch in calls of a size that access takes."""
    request, size_bytes = usage_pb2.RecordUsagesRequest(), 0
    for record in map(to_record, batch):
        size_bytes += record.ByteSize()
        if request.records and size_bytes > _CALL_BYTES:
            yield request
            request, size_bytes = usage_pb2.RecordUsagesRequest(), record.ByteSize()
        request.records.append(record)
    yield request
