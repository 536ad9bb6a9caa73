"""A generator over a real wire that holds, answers, stops and dies as a test tells it to."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from trivium.common.v1 import receipt_pb2
from trivium.generator.v1 import generator_pb2 as pb
from trivium.generator.v1 import generator_pb2_grpc

from services.chassis.context import Bearer, RequestContext, Role

CALLER = RequestContext("ada", "key1", frozenset({Role.MEMBER}), Bearer(), "id", None, "/Chat")


class Replica(generator_pb2_grpc.GeneratorServiceServicer):
    """A generator that answers with its name, holds what it is told to, and can be told to stop or to refuse."""

    def __init__(self, name: str, holds: tuple[str, ...] = (), answers: int = 0) -> None:
        self.name, self.holds, self.answers = name, holds, answers
        self.asked = 0
        self.stops_after: int | None = None
        self.refuses: grpc.StatusCode | None = None
        self.background: list[bool] = []
        self.stopped = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.watched = asyncio.Event()
        self.server: Any = None
        self.port = 0

    async def start(self) -> str:
        self.server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        generator_pb2_grpc.add_GeneratorServiceServicer_to_server(self, self.server)
        self.port = self.server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self.server.start()
        return f"127.0.0.1:{self.port}"

    async def kill(self) -> None:
        await self.server.stop(None)

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        self.asked += 1
        self.background.append(request.background)
        if self.refuses is not None:
            await context.abort(self.refuses, "no")
        for at in range(4):
            if at == self.stops_after:
                await self._stop()
            if at == 0:
                yield pb.GenerateResponse(opening=pb.Opening(receipt=receipt_pb2.Receipt(engine=self.name)))
            else:
                yield pb.GenerateResponse(delta=pb.Delta(text=self.name, token_ids=[at]))
        yield pb.GenerateResponse(final=pb.Final(receipt=receipt_pb2.Receipt(engine=self.name)))

    async def _stop(self) -> None:
        self.stopped.set()
        try:
            await self.goes_on.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.stopped.clear()

    async def Tokenize(self, request: Any, context: Any) -> Any:
        if self.refuses is not None:
            await context.abort(self.refuses, "no")
        return pb.TokenizeResponse(token_ids=[1, 2], context_tokens=100)

    async def ListEngines(self, request: Any, context: Any) -> Any:
        return pb.ListEnginesResponse(engines=[self._engine()])

    def _engine(self) -> pb.Engine:
        return pb.Engine(engine=self.name, state=pb.ENGINE_STATE_READY, base="tiny", running=self.answers)

    async def WatchAdapters(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield pb.WatchAdaptersResponse(engine=self._engine())
        for version in self.holds:
            yield pb.WatchAdaptersResponse(adapter=pb.Adapter(version=version, tier=pb.TIER_SLOT))
        yield pb.WatchAdaptersResponse(caught_up=True)
        self.watched.set()
        await asyncio.Event().wait()
