"""Responses where they are kept, over a real wire: of one conversation no more is held than a model could read."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from trivium.common.v1 import chat_pb2
from trivium.files.v1 import response_pb2 as pb
from trivium.files.v1 import response_pb2_grpc
from trivium.gateway.v1 import responses_pb2

from gateway.peers.archive import KEEP_SECONDS, RemoteArchive
from gateway.responses.nouns import Item, Response, Search, Settings
from services.chassis.errors import Failure
from tests.harness.timeouts import HANG_SECONDS


def turn(characters: int = 400) -> pb.ReadConversationResponse:
    said = responses_pb2.ResponseMessage(role=chat_pb2.CHAT_ROLE_USER, parts=["x" * characters])
    item = responses_pb2.ResponseItem(item="msg_1", message=said)
    return pb.ReadConversationResponse(
        input_items=[pb.InputItem(item="msg_1", payload=item.SerializeToString())],
    )


def searched(characters: int) -> pb.ReadConversationResponse:
    """A response that found passages of so many characters."""
    found = responses_pb2.FileSearchResult(file="file_1", text="x" * characters)
    search = responses_pb2.FileSearchCall(queries=["fares"], results=[found])
    response = responses_pb2.Response(output=[responses_pb2.ResponseItem(item="fs_1", file_search_call=search)])
    return pb.ReadConversationResponse(response=pb.StoredResponse(payload=response.SerializeToString()))


class Endless(response_pb2_grpc.ResponseServiceServicer):
    """Tells ``turns`` of a conversation, each the same."""

    def __init__(self, turns: int, each: pb.ReadConversationResponse | None = None) -> None:
        self.turns = turns
        self.each = each or turn()
        self.told = 0
        self.ended = asyncio.Event()

    async def ReadConversation(self, request: Any, context: Any) -> AsyncIterator[pb.ReadConversationResponse]:
        try:
            while self.told < self.turns:
                self.told += 1
                yield self.each
        finally:
            self.ended.set()


class Keeping(response_pb2_grpc.ResponseServiceServicer):
    """Remembers how long it was given."""

    given_seconds: float | None = None

    async def PutResponse(self, request: Any, context: Any) -> pb.PutResponseResponse:
        self.given_seconds = context.time_remaining()
        return pb.PutResponseResponse()


@asynccontextmanager
async def archive(servicer: response_pb2_grpc.ResponseServiceServicer, **limits: int) -> AsyncIterator[RemoteArchive]:
    server = grpc.aio.server()
    response_pb2_grpc.add_ResponseServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield RemoteArchive(channel, **limits)
    finally:
        await server.stop(None)


async def items(servicer: Endless, **limits: int) -> int:
    return len(await conversation(servicer, **limits))


async def conversation(servicer: Endless, **limits: int) -> list[Item]:
    async with archive(servicer, **limits) as opened:
        try:
            return await opened.conversation("resp_1")
        finally:
            async with asyncio.timeout(HANG_SECONDS):
                await servicer.ended.wait()


async def test_the_end_of_an_answer_waits_for_its_response_as_long_as_the_call_says() -> None:
    keeping = Keeping()
    async with archive(keeping) as opened:
        await opened.keep(Response("resp_1", 0.0, Settings()), ())
    assert keeping.given_seconds is not None
    # gRPC reads its clock when it last woke: 2.009 s of 2 are seen.
    assert keeping.given_seconds <= KEEP_SECONDS + 0.1


async def test_a_conversation_that_nobody_could_read_is_refused_while_it_comes() -> None:
    assert await items(Endless(2), most_bytes=1000) == 2
    with pytest.raises(Failure, match=r"\b1000\b") as refused:
        await items(Endless(1_000_000), most_bytes=1000)
    assert refused.value.field == "settings.previous_response"


async def test_of_a_conversation_no_more_is_held_than_a_message_may_have() -> None:
    million = turn(1_000_000)
    assert await items(Endless(4, million)) == 4
    with pytest.raises(Failure, match=r"\b4194304\b") as refused:
        await items(Endless(5, million))
    assert refused.value.field == "settings.previous_response"


async def test_passages_that_were_found_on_the_way_are_not_held() -> None:
    said = await conversation(Endless(6, searched(1_000_000)))
    assert [item.content for item in said] == [Search(("fares",))] * 6
    endless = Endless(1_000_000, searched(1_000_000))
    with pytest.raises(Failure, match=r"\b5000000\b") as refused:
        await items(endless, most_read_bytes=5_000_000)
    assert refused.value.field == "settings.previous_response"
    # Beside the five, those that were on their way.
    assert endless.told < 20
