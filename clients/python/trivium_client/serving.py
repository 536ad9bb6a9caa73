"""What serves: the names that answer, the engines, and the adapters that they hold; every call is one of `models`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from trivium.gateway.v1 import gateway_pb2
from trivium.gateway.v1.gateway_pb2_grpc import GatewayServiceStub
from trivium.generator.v1 import generator_pb2
from trivium.generator.v1.generator_pb2_grpc import GeneratorServiceStub

from trivium_client import nouns, serving_wire
from trivium_client.transport import Transport

if TYPE_CHECKING:
    from trivium.gateway.v1.gateway_pb2_grpc import GatewayServiceAsyncStub
    from trivium.generator.v1.generator_pb2_grpc import GeneratorServiceAsyncStub


class Serving:
    """The part of `Models` that asks gateway and generator; versions are named by whole digests."""

    _transport: Transport

    def _generator(self) -> GeneratorServiceAsyncStub:
        stub: GeneratorServiceAsyncStub = self._transport.stub("generator", GeneratorServiceStub)
        return stub

    def _gateway(self) -> GatewayServiceAsyncStub:
        stub: GatewayServiceAsyncStub = self._transport.stub("gateway", GatewayServiceStub)
        return stub

    async def served(self) -> Sequence[nouns.ServedModel]:
        """Every name that `model` accepts now, the base first."""
        request = gateway_pb2.ListModelsRequest()
        response = await self._transport.call("gateway", self._gateway().ListModels, request)
        return [serving_wire.served_model(item) for item in response.models]

    async def route(self, model: str, *, question: str = "", sticky_key: str = "") -> nouns.Route:
        """Where a request that names `model` would go now, for whom; nothing is sent.  Raises as `ask` does.

        `question` is what auto goes by; the route says which models it was compared with.
        """
        request = gateway_pb2.ExplainRouteRequest(model=model, question=question, sticky_key=sticky_key)
        response = await self._transport.call("gateway", self._gateway().ExplainRoute, request)
        return serving_wire.route(response)

    async def engines(self) -> Sequence[nouns.Engine]:
        """The generator's engines."""
        request = generator_pb2.ListEnginesRequest()
        response = await self._transport.call("generator", self._generator().ListEngines, request)
        return [serving_wire.engine(item) for item in response.engines]

    async def resident(self) -> Sequence[nouns.Adapter]:
        """The tenant's adapters that the generator holds."""
        response = await self._adapters()
        return [serving_wire.adapter(item) for item in response.adapters]

    async def tiers(self) -> Sequence[nouns.TierUsage]:
        """What the tenant's adapters take of the generator's slots, host memory and files."""
        response = await self._adapters()
        return [serving_wire.tier_usage(item) for item in response.tiers]

    async def _adapters(self) -> generator_pb2.ListAdaptersResponse:
        request = generator_pb2.ListAdaptersRequest()
        return await self._transport.call("generator", self._generator().ListAdapters, request)

    async def load(self, version: str) -> nouns.Adapter:
        """Have the generator fetch, verify and load a version beside the running ones; it can serve when this returns.

        Raises NotFoundError, PreconditionError or InvalidRequestError with the reason when it cannot be served.
        """
        request = generator_pb2.LoadAdapterRequest(version=version)
        response = await self._transport.call("generator", self._generator().LoadAdapter, request)
        return serving_wire.adapter(response.adapter)

    async def unload(self, version: str) -> None:
        """Have the generator take a version out of its slot, or out of host memory, once no request uses it.

        Its file stays, and a request that names it loads it again.  Not for readers.  Raises NotFoundError when it is
        in neither, PreconditionError while it is protected: end that first (`protect(version, protected=False)`).
        """
        request = generator_pb2.UnloadAdapterRequest(version=version)
        await self._transport.call("generator", self._generator().UnloadAdapter, request)

    async def protect(self, version: str, *, protected: bool = True) -> nouns.Adapter:
        """Load a version into the generator and protect it there from making room for others; or end that.

        It stays protected over restarts.  Not for readers.  Raises as `load`, NotFoundError when there is no protection
        to end, OverloadedError when no slot would be left for others.
        """
        if protected:
            await self.load(version)
        request = generator_pb2.PinAdapterRequest(version=version, pinned=protected)
        response = await self._transport.call("generator", self._generator().PinAdapter, request)
        return serving_wire.adapter(response.adapter)
