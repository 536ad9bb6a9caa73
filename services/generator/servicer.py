"""The RPCs of the generator: wire to domain, call, domain to wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from services.chassis.context import current
from services.chassis.interceptors.call import MethodPolicy
from services.chassis.runtime import Clock
from services.generator import wire, wire_engines
from services.generator.verbs import Verbs

SERVICE = "trivium.generator.v1.GeneratorService"
POLICIES = {
    "Generate": MethodPolicy(default_seconds=600.0, max_seconds=3600.0),
    "LoadAdapter": MethodPolicy(default_seconds=120.0, max_seconds=600.0),
    "UnloadAdapter": MethodPolicy(default_seconds=120.0, max_seconds=600.0),
    "WatchAdapters": MethodPolicy(long_lived=True),
}


class GeneratorServicer(generator_pb2_grpc.GeneratorServiceServicer):
    """One method an RPC."""

    def __init__(self, verbs: Verbs, clock: Clock) -> None:
        self._verbs = verbs
        self._clock = clock

    async def Generate(
        self, request: generator_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[generator_pb2.GenerateResponse]:
        caller = current()
        ask = wire.of_request(request, caller.deadline_seconds, caller.weight)
        async with aclosing(self._verbs.generation.answer(ask, caller.tenant_id)) as parts:
            async for part in parts:
                yield wire.to_response(part, request, self._clock.now())

    async def Tokenize(self, request: generator_pb2.TokenizeRequest, context: Any) -> generator_pb2.TokenizeResponse:
        target = await self._verbs.generation.target(request.version, request.base)
        prompt, tools = wire.of_prompt(request), wire.of_tools(request)
        token_ids = await self._verbs.generation.tokens(prompt, target, current().tenant_id, tools)
        context_tokens = target.host.engine.facts.context_tokens
        return generator_pb2.TokenizeResponse(token_ids=token_ids, context_tokens=context_tokens)

    async def ListEngines(
        self, request: generator_pb2.ListEnginesRequest, context: Any
    ) -> generator_pb2.ListEnginesResponse:
        views = await self._verbs.engines(current())
        return generator_pb2.ListEnginesResponse(engines=[wire_engines.to_engine(view) for view in views])

    async def LoadAdapter(
        self, request: generator_pb2.LoadAdapterRequest, context: Any
    ) -> generator_pb2.LoadAdapterResponse:
        loaded = await self._verbs.load(current(), request.version)
        adapter = wire_engines.to_loaded(loaded, self._clock.now(), self._clock.monotonic())
        return generator_pb2.LoadAdapterResponse(adapter=adapter)

    async def UnloadAdapter(
        self, request: generator_pb2.UnloadAdapterRequest, context: Any
    ) -> generator_pb2.UnloadAdapterResponse:
        await self._verbs.unload(current(), request.version)
        return generator_pb2.UnloadAdapterResponse()

    async def ListAdapters(
        self, request: generator_pb2.ListAdaptersRequest, context: Any
    ) -> generator_pb2.ListAdaptersResponse:
        now, monotonic = self._clock.now(), self._clock.monotonic()
        return generator_pb2.ListAdaptersResponse(
            adapters=[wire_engines.to_adapter(located, now, monotonic) for located in self._verbs.located(current())],
            tiers=[wire_engines.to_tier(usage) for usage in self._verbs.usage(current())],
        )

    async def PinAdapter(
        self, request: generator_pb2.PinAdapterRequest, context: Any
    ) -> generator_pb2.PinAdapterResponse:
        held = await self._verbs.pin(current(), request.version, request.pinned)
        return generator_pb2.PinAdapterResponse(adapter=self._adapter(held))

    async def WatchAdapters(
        self, request: generator_pb2.WatchAdaptersRequest, context: Any
    ) -> AsyncIterator[generator_pb2.WatchAdaptersResponse]:
        async for changes in self._verbs.changes(current()):
            for message in wire_engines.to_changes(changes, self._clock.now(), self._clock.monotonic()):
                yield message

    def _adapter(self, held: Any) -> generator_pb2.Adapter:
        return wire_engines.to_adapter(held, self._clock.now(), self._clock.monotonic())
