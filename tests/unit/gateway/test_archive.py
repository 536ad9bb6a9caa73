"""Responses where they are kept, over a real wire: of one conversation no more is held than a model could read."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from trivium.common.v1 import chat_pb2
from trivium.files.v1 import response_pb2 as pb
from trivium.files.v1 import response_pb2_grpc
from trivium.gateway.v1 import responses_pb2

from gateway.peers.archive import RemoteArchive
from services.chassis.errors import Failure

SAID = responses_pb2.ResponseMessage(role=chat_pb2.CHAT_ROLE_USER, parts=["x" * 400])
ITEM = pb.InputItem(item="msg_1", payload=responses_pb2.ResponseItem(message=SAID).SerializeToString())


class Endless(response_pb2_grpc.ResponseServiceServicer):
    """Tells ``turns`` of a conversation."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.told = 0
        self.ended = asyncio.Event()

    async def ReadConversation(self, request: Any, context: Any) -> AsyncIterator[pb.ReadConversationResponse]:
        try:
            while self.told < self.turns:
                self.told += 1
                yield pb.ReadConversationResponse(input_items=[ITEM])
        finally:
            self.ended.set()


async def items(servicer: Endless) -> int:
    server = grpc.aio.server()
    response_pb2_grpc.add_ResponseServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            return len(await RemoteArchive(channel).conversation("resp_1"))
    finally:
        async with asyncio.timeout(10):
            await servicer.ended.wait()
        await server.stop(None)


async def test_a_conversation_that_nobody_could_read_is_refused_while_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.peers.archive._MOST_BYTES", 1000)
    assert await items(Endless(2)) == 2
    with pytest.raises(Failure, match="begin another") as refused:
        await items(Endless(1_000_000))
    assert refused.value.field == "settings.previous_response"
