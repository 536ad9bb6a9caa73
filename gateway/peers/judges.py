"""The servers of content policies, over stubs of ``trivium.policy.v1``.

Invariant: they are the operator's own and not a part of the suite, so a call carries no credential, and nothing that
a server says is believed beyond its verdict.
"""

import asyncio
from collections.abc import Iterable

import grpc
from trivium.common.v1 import chat_pb2
from trivium.policy.v1 import policy_pb2 as pb
from trivium.policy.v1 import policy_pb2_grpc

from gateway.generation import ToolCall
from gateway.peers.messages import to_messages
from gateway.peers.tools import to_tools
from gateway.policy.nouns import Allow, Asked, ContentPolicy, Part, Prompt, Refuse, Replace, UnjudgedError, Verdict
from services.chassis.channels import open_outside_channel
from services.chassis.config import ServiceSettings

_REASON_CHARACTERS = 500


class RemoteJudges:
    """Implements :class:`gateway.policy.nouns.Judge`, with one channel an endpoint."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._channels: list[grpc.aio.Channel] = []
        self._stubs: dict[str, policy_pb2_grpc.PolicyServiceAsyncStub] = {}

    async def run(self) -> None:
        """Keep the channels for as long as the server lives."""
        try:
            await asyncio.Event().wait()
        finally:
            for channel in self._channels:
                await channel.close()

    async def prompt(self, policy: ContentPolicy, prompt: Prompt) -> Verdict:
        """As the Protocol says."""
        request = pb.CheckPromptRequest(
            asked=_asked(prompt.asked), messages=to_messages(prompt.messages), tool_use=to_tools(prompt.tools)
        )
        try:
            response = await self._stub(policy).CheckPrompt(request, timeout=policy.timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise _unjudged(policy, error) from error
        return _verdict(response)

    async def part(self, policy: ContentPolicy, part: Part) -> Verdict:
        """As the Protocol says."""
        request = pb.CheckAnswerRequest(
            asked=_asked(part.asked),
            choice=part.choice,
            before=part.before,
            text=part.text,
            calls=_calls(part.calls),
            last=part.last,
        )
        try:
            response = await self._stub(policy).CheckAnswer(request, timeout=policy.timeout_seconds)
        except grpc.aio.AioRpcError as error:
            raise _unjudged(policy, error) from error
        return _verdict(response)

    # Only the stub file has its type.
    def _stub(self, policy: ContentPolicy) -> "policy_pb2_grpc.PolicyServiceAsyncStub":
        known = self._stubs.get(policy.endpoint)
        if known is not None:
            return known
        try:
            channel = open_outside_channel(policy.endpoint, self._settings)
        except ValueError as error:
            raise UnjudgedError("its server is on another machine, and this gateway has no certificates") from error
        stub: policy_pb2_grpc.PolicyServiceAsyncStub = policy_pb2_grpc.PolicyServiceStub(channel)
        self._channels.append(channel)
        self._stubs[policy.endpoint] = stub
        return stub


def _unjudged(policy: ContentPolicy, error: grpc.aio.AioRpcError) -> UnjudgedError:
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return UnjudgedError(f"there was no verdict within {policy.timeout_seconds:g} s")
    if error.code() is grpc.StatusCode.UNAVAILABLE:
        return UnjudgedError("its server cannot be reached")
    return UnjudgedError(f"its server answered {error.code().name}")


def _asked(asked: Asked) -> pb.Asked:
    return pb.Asked(tenant=asked.tenant, principal=asked.principal, request_id=asked.request_id, model=asked.model)


def _calls(calls: Iterable[ToolCall]) -> list[chat_pb2.ToolCall]:
    return [chat_pb2.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in calls]


def _verdict(response: pb.CheckPromptResponse | pb.CheckAnswerResponse) -> Verdict:
    match response.WhichOneof("verdict"):
        case "allow":
            return Allow()
        case "refuse":
            return Refuse(response.refuse.reason[:_REASON_CHARACTERS])
        case "replace":
            return Replace(response.replace.text, response.replace.reason[:_REASON_CHARACTERS])
        case None:
            raise UnjudgedError("its server answered without a verdict")
