"""One method an RPC: wire to domain, call, domain to wire."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from trivium.gateway.v1 import responses_pb2 as pb
from trivium.gateway.v1 import responses_pb2_grpc

from gateway.limits.gate import Gate
from gateway.responses import wire, wire_events
from gateway.responses.counting import Counting
from gateway.responses.responder import Responder
from services.chassis.interceptors.call import ServicerContext


class ResponseServicer(responses_pb2_grpc.ResponseServiceServicer):
    """Responses; the HTTP transport calls them, too."""

    def __init__(self, responder: Responder, counting: Counting, gate: Gate) -> None:
        self._responder = responder
        self._counting = counting
        self._gate = gate

    async def CreateResponse(
        self, request: pb.CreateResponseRequest, context: ServicerContext
    ) -> AsyncGenerator[pb.CreateResponseResponse]:
        inside = self._gate.passing(wire.demand(request), context.send_initial_metadata)
        async with inside, aclosing(self._responder.create(wire.asked(request))) as events:
            async for event in events:
                yield wire_events.event(event, results=request.include_results)

    async def GetResponse(self, request: pb.GetResponseRequest, context: ServicerContext) -> pb.GetResponseResponse:
        found = await self._responder.get(request.response)
        return pb.GetResponseResponse(response=wire.to_response(found, results=request.include_results))

    async def DeleteResponse(
        self, request: pb.DeleteResponseRequest, context: ServicerContext
    ) -> pb.DeleteResponseResponse:
        await self._responder.remove(request.response)
        return pb.DeleteResponseResponse()

    async def CancelResponse(
        self, request: pb.CancelResponseRequest, context: ServicerContext
    ) -> pb.CancelResponseResponse:
        cancelled = await self._responder.cancel(request.response)
        return pb.CancelResponseResponse(response=wire.to_response(cancelled))

    async def CountResponseInputTokens(
        self, request: pb.CountResponseInputTokensRequest, context: ServicerContext
    ) -> pb.CountResponseInputTokensResponse:
        size = await self._counting.counted(wire.counted(request))
        return pb.CountResponseInputTokensResponse(input_tokens=size.tokens, context_tokens=size.context_tokens)

    async def ListResponseInputItems(
        self, request: pb.ListResponseInputItemsRequest, context: ServicerContext
    ) -> pb.ListResponseInputItemsResponse:
        page, more = await self._responder.input_items(request.response, wire.listing(request))
        items = [wire.to_item(item, results=request.include_results) for item in page]
        return pb.ListResponseInputItemsResponse(items=items, has_more=more)
