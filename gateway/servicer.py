"""One method an RPC: wire to domain, call, domain to wire."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from gateway import wire
from gateway.asking.asker import Asker
from gateway.chat import Chatter
from gateway.limits.gate import Gate
from gateway.limits.terms import ONE_REQUEST
from gateway.models import wire as naming_wire
from gateway.models.naming import Naming
from gateway.receipts import Ledger
from gateway.routing import Router
from services.chassis.interceptors.call import ServicerContext


class GatewayServicer(gateway_pb2_grpc.GatewayServiceServicer):
    """The gateway's API; the HTTP transport calls it, too."""

    def __init__(
        self, asker: Asker, chatter: Chatter, router: Router, naming: Naming, ledger: Ledger, gate: Gate
    ) -> None:
        self._asker = asker
        self._chatter = chatter
        self._router = router
        self._naming = naming
        self._ledger = ledger
        self._gate = gate

    async def Ask(
        self, request: gateway_pb2.AskRequest, context: ServicerContext
    ) -> AsyncGenerator[gateway_pb2.AskResponse]:
        inside = self._gate.passing(wire.demand(request), context.send_initial_metadata)
        async with inside, aclosing(self._asker.ask(wire.question(request))) as events:
            async for event in events:
                yield wire.ask_response(event)

    async def Chat(
        self, request: gateway_pb2.ChatRequest, context: ServicerContext
    ) -> AsyncGenerator[gateway_pb2.ChatResponse]:
        inside = self._gate.passing(wire.demand(request), context.send_initial_metadata)
        async with inside, aclosing(self._chatter.chat(wire.conversation(request))) as events:
            async for event in events:
                yield wire.chat_response(event)

    async def Complete(
        self, request: gateway_pb2.CompleteRequest, context: ServicerContext
    ) -> AsyncGenerator[gateway_pb2.CompleteResponse]:
        inside = self._gate.passing(wire.demand(request), context.send_initial_metadata)
        async with inside, aclosing(self._chatter.chat(wire.continuation(request))) as events:
            async for event in events:
                yield wire.complete_response(event)

    async def ListModels(
        self, request: gateway_pb2.ListModelsRequest, context: ServicerContext
    ) -> gateway_pb2.ListModelsResponse:
        return naming_wire.listing(await self._naming.models())

    async def ExplainRoute(
        self, request: gateway_pb2.ExplainRouteRequest, context: ServicerContext
    ) -> gateway_pb2.ExplainRouteResponse:
        async with self._gate.passing(ONE_REQUEST, context.send_initial_metadata):
            explained = await self._router.explain(request.model, request.sticky_key, request.question)
        return wire.explain_response(explained)

    async def GetReceipt(
        self, request: gateway_pb2.GetReceiptRequest, context: ServicerContext
    ) -> gateway_pb2.GetReceiptResponse:
        return wire.receipt_response(await self._ledger.receipt(request.request_id))
