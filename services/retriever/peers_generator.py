"""The generator over its stub.

Invariant: as in ``peers.py``; a text is never returned without the digest that the
generator attests for it.
"""

from collections.abc import Sequence

import grpc
from trivium.common.v1 import chat_pb2
from trivium.generator.v1 import generator_pb2 as pb
from trivium.generator.v1 import generator_pb2_grpc

from services.chassis.errors import Failure, Reason
from services.retriever.generation import Speaker, Turn, Writer, Written
from services.retriever.peers import failures

_GENERATOR = "generator"
_RETRY_SECONDS = 1.0
_ROLES = {
    Speaker.SYSTEM: chat_pb2.CHAT_ROLE_SYSTEM,
    Speaker.USER: chat_pb2.CHAT_ROLE_USER,
    Speaker.ASSISTANT: chat_pb2.CHAT_ROLE_ASSISTANT,
}


class RemoteGenerator:
    """Implements :class:`services.retriever.generation.Generator`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: generator_pb2_grpc.GeneratorServiceAsyncStub = generator_pb2_grpc.GeneratorServiceStub(channel)

    def require(self) -> None:
        """As the Protocol says."""

    async def writer(self) -> Writer:
        """As the Protocol says."""
        with failures(_GENERATOR):
            answer = await self._stub.ListEngines(pb.ListEnginesRequest())
        # The deployment's own bases, the default one first; beside them a tenant sees its own full models.
        for engine in answer.engines:
            if not engine.model and engine.base_digest:
                return Writer(engine.base_digest, engine.context_tokens)
        raise _away()

    async def tokens(self, turns: Sequence[Turn]) -> int:
        """As the Protocol says."""
        with failures(_GENERATOR):
            answer = await self._stub.Tokenize(pb.TokenizeRequest(conversation=_conversation(turns)))
        return len(answer.token_ids)

    async def complete(self, turns: Sequence[Turn], max_tokens: int, seed: int = 0) -> Written:
        """As the Protocol says; leaving early cancels the call, which aborts the engine's work."""
        sampling = chat_pb2.Sampling(max_tokens=max_tokens, temperature=0.0, seed=seed)
        call = self._stub.Generate(pb.GenerateRequest(conversation=_conversation(turns), sampling=sampling))
        parts: list[str] = []
        try:
            with failures(_GENERATOR):
                async for response in call:
                    if response.WhichOneof("part") == "final":
                        final = response.final
                        complete = final.finish_reason == chat_pb2.FINISH_REASON_STOP
                        return Written("".join(parts), final.receipt.base_digest, complete)
                    parts.append(response.delta.text)
        finally:
            call.cancel()
        # It ended without its end.
        raise _away()


def _conversation(turns: Sequence[Turn]) -> pb.Conversation:
    messages = [chat_pb2.ChatMessage(role=_ROLES[turn.speaker], content=turn.content) for turn in turns]
    return pb.Conversation(messages=messages)


def _away() -> Failure:
    return Failure(Reason.PEER_UNAVAILABLE, retry_after_seconds=_RETRY_SECONDS, service=_GENERATOR)
