"""A gateway that is told to stop: what takes longer than the drain ends as an error in the caller's shape, and is charged once."""

import os
import signal
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
from trivium.access.v1 import access_pb2
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from services.chassis.status import from_rpc_error
from tests.edge import Edge
from tests.stack import eventually, pages

QUESTION = "Tell me a very long story."
TOKENS = 2000


@pytest.fixture
def slow(tmp_path: Path):
    """An edge whose answers take a minute and whose gateways drain for a second."""
    running = Edge(tmp_path / "edge", token_ms=30)
    yield running
    running.close()


def test_streams_that_outlast_the_drain_hear_that_the_server_shuts_down_and_are_charged(slow: Edge) -> None:
    gateway, key = slow.gateway(), slow.tenant_key("acme")
    client = openai.OpenAI(base_url=f"{gateway.http}/v1", api_key=key, max_retries=0)
    chat = client.chat.completions.create(
        model="base", messages=[{"role": "user", "content": QUESTION}], max_tokens=TOKENS, stream=True
    )
    with grpc.insecure_channel(gateway.address) as channel:
        turn = chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content=QUESTION)
        request = gateway_pb2.ChatRequest(messages=[turn], sampling=chat_pb2.Sampling(max_tokens=TOKENS))
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        call = stub.Chat(request, metadata=(("authorization", f"Bearer {key}"),), timeout=60)
        for stream in (chat, call):
            next(iter(stream))
        os.kill(gateway.pid, signal.SIGTERM)
        with pytest.raises(openai.APIError) as over_http:
            list(chat)
        with pytest.raises(grpc.RpcError) as over_grpc:
            list(call)
        gateway.died(20)
    # What access had not taken by then is on the disk: the next process tells it, once.
    gateway.start()
    assert over_http.value.body == {
        "message": over_http.value.message,
        "type": "server_error",
        "param": None,
        "code": "draining",
    }
    failure = from_rpc_error(over_grpc.value)
    assert (failure.reason, bool(failure.retry_after_seconds)) == ("DRAINING", True)
    access = slow.access_api(key)

    def charged() -> list[int]:
        def page(token: str) -> Any:
            return access.ListUsage(access_pb2.ListUsageRequest(page_size=1000, page_token=token))

        return [record.receipt.usage.completion_tokens for record in pages(page, "records")]

    eventually(lambda: len(charged()) == 2, "both are recorded")
    assert all(0 < tokens < TOKENS for tokens in charged())
