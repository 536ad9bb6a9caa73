"""What is refused because there is too much to do is refused at once: no transport repeats it by itself."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from trivium.generator.v1 import generator_pb2 as pb
from trivium.generator.v1 import generator_pb2_grpc

from services.chassis.channels import channel_options
from services.chassis.config import ServiceSettings
from services.chassis.errors import Failure, Reason
from services.chassis.status import from_rpc_error, to_status, to_trailers

BUSY = Failure(Reason.TOO_BUSY_FOR_DEADLINE, retry_after_seconds=2.0, expected="3", left="1")
FULL = Failure(Reason.OVERLOADED, retry_after_seconds=1.0, limit=4)
AWAY = Failure(Reason.NOT_READY, retry_after_seconds=1.0, service="generator", why="it starts")


class Refusing(generator_pb2_grpc.GeneratorServiceServicer):
    """Says no, the same each time, with the trailers that every service gives."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        self.asked = 0

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked += 1
        trailers = to_trailers(to_status(self.failure, correlation_id="id"), "id")
        await context.abort(grpc.StatusCode.UNAVAILABLE, self.failure.sentence, trailers)
        yield pb.GenerateResponse()


@pytest.mark.parametrize(("failure", "attempts"), [(BUSY, 1), (FULL, 1), (AWAY, 4)])
async def test_a_refusal_for_want_of_room_is_not_repeated_and_another_is(failure: Failure, attempts: int) -> None:
    refusing = Refusing(failure)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    generator_pb2_grpc.add_GeneratorServiceServicer_to_server(refusing, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", options=channel_options(ServiceSettings())
        ) as channel:
            stub: Any = generator_pb2_grpc.GeneratorServiceStub(channel)
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                async for _ in stub.Generate(pb.GenerateRequest()):
                    pass
    finally:
        await server.stop(None)
    told = from_rpc_error(refused.value)
    assert (told.reason, told.retry_after_seconds) == (failure.reason.name, failure.retry_after_seconds)
    assert refusing.asked == attempts
