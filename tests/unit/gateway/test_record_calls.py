"""However much is to be recorded, no call carries more than a message may."""

from contextlib import asynccontextmanager

import grpc
import pytest
from trivium.access.v1 import usage_pb2, usage_pb2_grpc

from gateway.generation import Receipt, Sampling, Usage
from gateway.peers.access import RemoteLedger
from gateway.receipts import Waiting

# The most that the door lets a request have.
SAMPLING = Sampling(
    stop=("€" * 256,) * 16,
    bad_words=("€" * 64,) * 32,
    logit_bias={100_000 + number: 1.0 for number in range(300)},
    allowed_token_ids=tuple(range(100_000, 101_024)),
)


class Access(usage_pb2_grpc.UsageServiceServicer):
    """Says of each record which it is."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    async def RecordUsages(self, request, context):
        self.calls.append(len(request.records))
        return usage_pb2.RecordUsagesResponse(refusals=[record.request_id for record in request.records])


@asynccontextmanager
async def nobody():
    yield


@pytest.fixture
async def access():
    """One behind a real port, with gRPC's own bound of a message, and the ledger that reaches it."""
    server, servicer = grpc.aio.server(), Access()
    usage_pb2_grpc.add_UsageServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, RemoteLedger(channel, nobody)
    await server.stop(0)


def of(number: int, sampling: Sampling) -> list[Waiting]:
    receipts = (Receipt(f"r{place}", usage=Usage(3, 2), sampling=sampling) for place in range(number))
    return [Waiting("ada", "k", "/Chat", receipt) for receipt in receipts]


async def test_large_records_go_in_calls_that_access_can_take(access):
    servicer, ledger = access
    assert await ledger.record(of(180, SAMPLING)) == [f"r{place}" for place in range(180)]
    assert sum(servicer.calls) == 180
    assert len(servicer.calls) > 4


async def test_small_records_go_in_one_call(access):
    servicer, ledger = access
    assert await ledger.record(of(256, Sampling(seed=1))) == [f"r{place}" for place in range(256)]
    assert servicer.calls == [256]
