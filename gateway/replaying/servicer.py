"""The RPC of replays; the HTTP transport calls it, too."""

from trivium.gateway.v1 import replays_pb2 as pb
from trivium.gateway.v1 import replays_pb2_grpc

from gateway.limits.gate import Gate
from gateway.replaying import wire
from gateway.replaying.replayer import Replayer
from services.chassis.interceptors.call import ServicerContext


class ReplayServicer(replays_pb2_grpc.ReplayServiceServicer):
    """Serves replays."""

    def __init__(self, replayer: Replayer, gate: Gate) -> None:
        self._replayer = replayer
        self._gate = gate

    async def ReplayAnswer(self, request: pb.ReplayAnswerRequest, context: ServicerContext) -> pb.ReplayAnswerResponse:
        receipt = await self._replayer.receipt(request.request_id)
        async with self._gate.passing(wire.demand(receipt), context.send_initial_metadata):
            return wire.response(await self._replayer.replay(wire.recalled(request), receipt))
