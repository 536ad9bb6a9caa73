"""The gateway's two doors over servicers that hold whatever they are asked: places and time show, and nothing else does."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import uvloop
from trivium.common.v1 import receipt_pb2, tensor_pb2, transfer_pb2
from trivium.files.v1 import batch_pb2, file_pb2
from trivium.gateway.v1 import (
    batches_pb2,
    batches_pb2_grpc,
    embeddings_pb2,
    embeddings_pb2_grpc,
    files_pb2,
    files_pb2_grpc,
    fine_tuning_pb2_grpc,
    gateway_pb2,
    gateway_pb2_grpc,
    models_pb2_grpc,
    replays_pb2_grpc,
    responses_pb2_grpc,
    vector_stores_pb2_grpc,
)
from trivium_client.loop import report

from gateway.http.app import create_app
from gateway.http.server import serving
from gateway.servicers import Servicers
from services.chassis.runtime import Runtime
from services.chassis.server import Registration, Serving
from tests.contract.chassis.echo import KnownKeys
from tests.harness.gateway_in_process import serve_gateway
from tests.harness.timeouts import HANG_SECONDS

# Messages written as literals, which the stubs do not know of.
GATEWAY: Any = gateway_pb2


class Holding(
    gateway_pb2_grpc.GatewayServiceServicer,
    batches_pb2_grpc.BatchServiceServicer,
    embeddings_pb2_grpc.EmbeddingServiceServicer,
    files_pb2_grpc.FileServiceServicer,
):
    """One servicer of several services.  A call is inside until all are let go, or until it is ended."""

    def __init__(self) -> None:
        # What a file that is read has in it.
        self.pieces: Sequence[bytes] = (b"x",)
        self._inside = 0
        self._go = asyncio.Event()
        self._changed = asyncio.Condition()

    async def until(self, inside: int) -> None:
        """Wait until so many calls are inside."""
        async with asyncio.timeout(HANG_SECONDS), self._changed:
            await self._changed.wait_for(lambda: self._inside == inside)

    def let_go(self) -> None:
        """Answer all, and whatever is asked until :meth:`hold`."""
        self._go.set()

    def hold(self) -> None:
        """Answer nobody any more."""
        self._go.clear()

    @asynccontextmanager
    async def _held(self) -> AsyncIterator[None]:
        await self._move(1)
        try:
            yield
        finally:
            await asyncio.shield(self._move(-1))

    async def _move(self, by: int) -> None:
        async with self._changed:
            self._inside += by
            self._changed.notify_all()

    async def _hold(self) -> None:
        async with self._held():
            await self._go.wait()

    async def Chat(self, request: Any, context: Any) -> Any:
        await self._hold()
        yield GATEWAY.ChatResponse(final={"receipt": receipt_pb2.Receipt(request_id="r")})

    async def GetBatch(self, request: Any, context: Any) -> Any:
        await self._hold()
        endpoint = batch_pb2.BATCH_ENDPOINT_COMPLETIONS
        return batches_pb2.GetBatchResponse(batch=batch_pb2.Batch(batch=request.batch, endpoint=endpoint))

    async def CreateEmbeddings(self, request: Any, context: Any) -> Any:
        await self._hold()
        tensor = tensor_pb2.Tensor(data=bytes(8), dtype=tensor_pb2.DTYPE_FLOAT32, shape=[1, 2])
        return embeddings_pb2.CreateEmbeddingsResponse(embeddings=tensor, token_counts=[1], truncated=[False])

    async def CreateFile(self, request: Any, context: Any) -> Any:
        async with self._held():
            size_bytes = 0
            async for message in request:
                size_bytes += len(message.chunk.data)
        file = file_pb2.File(file="file-1", size_bytes=size_bytes, purpose=file_pb2.PURPOSE_USER_DATA)
        return files_pb2.CreateFileResponse(file=file)

    async def ReadFile(self, request: Any, context: Any) -> Any:
        await self._hold()
        for piece in self.pieces:
            yield files_pb2.ReadFileResponse(chunk=transfer_pb2.Chunk(data=piece))


@dataclass(frozen=True, slots=True)
class Doors:
    """A served gateway: its addresses, what is behind its doors, and who knows its callers' keys (``key-of-TENANT``)."""

    grpc: str
    http: str
    behind: Holding
    keys: KnownKeys
    server: Serving


@asynccontextmanager
async def held(folder: Path, **limits: Any) -> AsyncIterator[Doors]:
    """Two doors with these settings."""
    behind, keys = Holding(), KnownKeys()

    @asynccontextmanager
    async def build(runtime: Runtime) -> AsyncIterator[list[Registration]]:
        servicers = _servicers(behind)
        async with serving(create_app(runtime, servicers), runtime) as http_listen:
            runtime.announce(http_listen=http_listen)
            # Each method that is hung up costs its warming, and of the others nobody asks.
            yield [hung for hung in servicers.registrations() if hung.servicer is behind]

    settings: dict[str, Any] = {"drain_seconds": 0.0, **limits}
    async with serve_gateway(folder, build, keys, **settings) as (server, http):
        yield Doors(server.listen, http, behind, keys, server)


def _servicers(behind: Any) -> Servicers:
    unasked: dict[str, Any] = {
        "vector_stores": vector_stores_pb2_grpc.VectorStoreServiceServicer(),
        "fine_tuning": fine_tuning_pb2_grpc.FineTuningServiceServicer(),
        "responses": responses_pb2_grpc.ResponseServiceServicer(),
        "replays": replays_pb2_grpc.ReplayServiceServicer(),
        "models": models_pb2_grpc.ModelServiceServicer(),
    }
    return Servicers(gateway=behind, files=behind, batches=behind, embeddings=behind, **unasked)


def as_served(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """On the loop of services, which has transports of its own: a write to who has gone is an error there."""

    @wraps(test)
    def run(*given: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            # Other tests of this process may have left loops that gRPC wakes as well.
            runner.get_loop().set_exception_handler(report)
            runner.run(test(*given, **named))

    return run
