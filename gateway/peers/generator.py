"""The generator over its stub."""

from collections.abc import AsyncGenerator, Sequence

import grpc
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from gateway.generation import Generated, Message, Opening, TextDelta, TokenIds, ToolUse
from gateway.generator import Engine, EngineState, GenerationRequest, PromptSize
from gateway.peers import failures
from gateway.peers.messages import (
    of_choices,
    of_finish,
    of_logprobs,
    of_receipt,
    of_timings,
    of_usage,
    to_messages,
    to_sampling,
    to_shape,
    to_span,
)
from gateway.peers.tools import of_calls, to_tools
from services.chassis.context import current_or_none

NAME = "generator"
STATES = {
    generator_pb2.ENGINE_STATE_STOPPED: EngineState.STOPPED,
    generator_pb2.ENGINE_STATE_QUEUED: EngineState.QUEUED,
    generator_pb2.ENGINE_STATE_STARTING: EngineState.STARTING,
    generator_pb2.ENGINE_STATE_READY: EngineState.READY,
    generator_pb2.ENGINE_STATE_DRAINING: EngineState.DRAINING,
    generator_pb2.ENGINE_STATE_FAILED: EngineState.FAILED,
}
_HELD = {generator_pb2.TIER_MEMORY, generator_pb2.TIER_SLOT}


class RemoteGenerator:
    """Implements :class:`gateway.generator.Generator`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: generator_pb2_grpc.GeneratorServiceAsyncStub = generator_pb2_grpc.GeneratorServiceStub(channel)

    async def generate(self, request: GenerationRequest) -> AsyncGenerator[Opening | TextDelta | Generated]:
        """As the Protocol says; leaving the iterator early cancels the call, which aborts the engine's work."""
        call = self._stub.Generate(_to_request(request))
        try:
            with failures.of(NAME):
                async for response in call:
                    yield _part(response)
        finally:
            call.cancel()

    async def size(
        self, messages: Sequence[Message], base: str, version: str, tools: ToolUse | None = None
    ) -> PromptSize:
        """As the Protocol says, and as :class:`gateway.responses.counting.Measure`."""
        conversation = generator_pb2.Conversation(messages=to_messages(messages), tool_use=to_tools(tools))
        request = generator_pb2.TokenizeRequest(conversation=conversation, base=base, version=version)
        with failures.of(NAME):
            answer = await self._stub.Tokenize(request)
        return PromptSize(len(answer.token_ids), answer.context_tokens)

    async def token_ids(
        self, prompt: Sequence[Message] | str, tools: ToolUse | None, base: str, version: str
    ) -> tuple[int, ...]:
        """As :class:`gateway.replaying.peers.Tokenizer`."""
        request = generator_pb2.TokenizeRequest(base=base, version=version)
        if isinstance(prompt, str):
            request.text = prompt
        else:
            conversation = generator_pb2.Conversation(messages=to_messages(prompt), tool_use=to_tools(tools))
            request.conversation.CopyFrom(conversation)
        with failures.of(NAME):
            answer = await self._stub.Tokenize(request)
        return tuple(answer.token_ids)

    async def prepare(self, version: str) -> None:
        """As the Protocol says."""
        with failures.of(NAME):
            await self._stub.LoadAdapter(generator_pb2.LoadAdapterRequest(version=version))

    async def engines(self) -> list[Engine]:
        """As the Protocol says."""
        with failures.of(NAME):
            answer = await self._stub.ListEngines(generator_pb2.ListEnginesRequest())
        return [
            Engine(
                item.engine, STATES.get(item.state, EngineState.UNSPECIFIED), item.base, item.base_digest, item.model
            )
            for item in answer.engines
        ]

    async def resident_versions(self) -> frozenset[str]:
        """As the Protocol says."""
        with failures.of(NAME):
            answer = await self._stub.ListAdapters(generator_pb2.ListAdaptersRequest())
        return frozenset(item.version for item in answer.adapters if item.tier in _HELD)


def _to_request(request: GenerationRequest) -> generator_pb2.GenerateRequest:
    caller = current_or_none()
    message = generator_pb2.GenerateRequest(
        version=request.version,
        base=request.base,
        sampling=to_sampling(request.sampling),
        structured_output=to_shape(request.shape),
        request_id=request.request_id,
        requested_model=request.requested_model,
        sources=[to_span(span) for span in request.sources],
        # What a service does for somebody who does not wait for it.
        background=caller is not None and bool(caller.actor),
    )
    if isinstance(request.prompt, str):
        message.text = request.prompt
    elif isinstance(request.prompt, TokenIds):
        message.token_ids.ids.extend(request.prompt.ids)
    else:
        message.conversation.messages.extend(to_messages(request.prompt))
        tools = to_tools(request.tools)
        if tools is not None:
            message.conversation.tool_use.CopyFrom(tools)
    return message


def _part(response: generator_pb2.GenerateResponse) -> Opening | TextDelta | Generated:
    if response.WhichOneof("part") == "opening":
        return Opening(of_receipt(response.opening.receipt))
    if response.WhichOneof("part") == "final":
        final = response.final
        return Generated(
            of_finish(final.finish_reason),
            of_usage(final.usage),
            of_timings(final.timings),
            of_receipt(final.receipt),
            of_choices(final.choices),
        )
    delta = response.delta
    calls = of_calls(delta.tool_calls)
    return TextDelta(delta.text, of_logprobs(delta.logprobs), len(delta.token_ids), delta.choice, calls)
