"""What crosses a hop: the tenant's assertion, the time that is left, the ids, the failure."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from trivium.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from services.chassis.channels import ContextChannel, open_channel
from services.chassis.context import current
from services.chassis.errors import Failure, Reason
from services.chassis.runtime import Runtime
from services.chassis.server import running
from services.chassis.status import from_rpc_error
from tests.contract.chassis.echo import (
    AUTHORISED,
    BOTH,
    UNARY,
    UP,
    Echo,
    Kind,
    finish,
    nothing,
    refused,
    send,
    served,
    settings_in,
)


class Front:
    """Calls the peer from inside its own calls."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    def keep(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def __call__(self, _: Any) -> None:
        assert self.runtime is not None
        stub = embedder_pb2_grpc.EmbedderServiceStub(self.runtime.channel("embedder"))
        await stub.Embed(embedder_pb2.EmbedRequest(texts=["b"]))
        generator = generator_pb2_grpc.GeneratorServiceStub(self.runtime.channel("generator"))
        async for _message in generator.Generate(generator_pb2.GenerateRequest(text="b")):
            pass


async def through(stack: AsyncExitStack, folder: Path, act: Any) -> Any:
    """A front whose peer does ``act``."""
    back = await stack.enter_async_context(served(folder / "back", act))
    front = Front()
    return await stack.enter_async_context(
        served(
            folder / "front",
            front,
            on_runtime=front.keep,
            embedder_address=back.listen,
            generator_address=back.listen,
            deadline_margin_seconds=1.0,
        )
    )


async def test_tenant_deadline_and_ids_cross_every_hop(tmp_path: Path) -> None:
    seen = []

    async def act(_: Any) -> None:
        seen.append(current())

    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    metadata = (*AUTHORISED, ("x-correlation-id", "id-1"), ("traceparent", trace))
    async with AsyncExitStack() as stack:
        server = await through(stack, tmp_path, act)
        await send(server, UNARY, timeout=8, metadata=metadata)
    assert len(seen) == 2
    for context in seen:
        assert (context.tenant_id, context.correlation_id, context.traceparent) == ("acme", "id-1", trace)
        left = context.remaining_seconds()
        assert left is not None
        assert 0 < left < 7.1


async def test_a_peers_failure_is_passed_on_as_it_is(tmp_path: Path) -> None:
    async def act(_: Any) -> None:
        raise Failure(Reason.MODEL_NOT_FOUND, name="rosy", nearest="rose")

    async with AsyncExitStack() as stack:
        failure = await refused(await through(stack, tmp_path, act), UNARY)
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND")
    assert failure.metadata["nearest"] == "rose"


async def test_a_peers_internal_error_stays_masked(tmp_path: Path) -> None:
    async def act(_: Any) -> None:
        raise ValueError("the secret recipe")

    async with AsyncExitStack() as stack:
        failure = await refused(await through(stack, tmp_path, act), UNARY)
    assert (failure.code, failure.reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "recipe" not in repr(failure)


async def test_a_peer_that_is_down_is_unavailable_with_a_retry_hint_and_no_address(tmp_path: Path) -> None:
    front = Front()
    async with served(tmp_path, front, on_runtime=front.keep, embedder_address="127.0.0.1:9") as server:
        failure = await refused(server, UNARY, timeout=15)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "PEER_UNAVAILABLE")
    assert failure.details["RetryInfo"].retry_delay.seconds == 1
    assert "127.0.0.1" not in repr(failure)


async def test_no_call_is_made_when_no_time_is_left(tmp_path: Path) -> None:
    front = Front()
    async with served(
        tmp_path, front, on_runtime=front.keep, embedder_address="127.0.0.1:9", deadline_margin_seconds=10
    ) as server:
        failure = await refused(server, UNARY, timeout=5)
    assert failure.reason == "DEADLINE_EXCEEDED"


def test_a_peer_on_another_machine_needs_certificates(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="certificates"):
        open_channel("10.0.0.1:50051", settings_in(tmp_path))


async def test_an_unreachable_access_service_is_unavailable_not_unauthenticated(tmp_path: Path) -> None:
    @asynccontextmanager
    async def build(_: Runtime) -> Any:
        yield Echo(nothing).registrations({})

    settings = settings_in(tmp_path, access_address="127.0.0.1:9")
    async with running(settings, name="echo", build=build) as server:
        failure = await refused(server, UNARY, metadata=(("authorization", "Bearer tv_a_b"),), timeout=20)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "PEER_UNAVAILABLE")


@pytest.mark.parametrize("kind", [UP, BOTH], ids=["one answer", "several"])
async def test_a_stream_that_is_refused_before_its_end_says_why(tmp_path: Path, kind: Kind) -> None:
    async def act(_: Any) -> None:
        raise Failure(Reason.MODEL_NOT_FOUND, name="rosy", nearest="rose")

    async def requests() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield kind.valid.SerializeToString()
            await asyncio.sleep(0)

    said = Counter[str]()
    async with served(tmp_path, act) as server:
        settings = server.runtime.settings
        async with ContextChannel(open_channel(server.listen, settings), settings.deadline_margin_seconds) as channel:
            for _ in range(300):
                call = getattr(channel, kind.shape)(kind.path)(requests(), metadata=AUTHORISED)
                with pytest.raises(grpc.aio.AioRpcError) as error:
                    await (call if kind is UP else finish(call, kind))
                said[from_rpc_error(error.value).reason] += 1
    assert said == {"MODEL_NOT_FOUND": 300}
