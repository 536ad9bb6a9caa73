"""The gateway alone, its peers not running: it says which one is missing and when to come back."""

import asyncio
from typing import Any

import grpc
import httpx
import pytest
import uvicorn
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from gateway.__main__ import build
from gateway.config import GatewaySettings
from services.chassis.server import running
from services.chassis.status import from_rpc_error
from tests.harness.gateway_in_process import gateway_alone
from tests.harness.timeouts import HANG_SECONDS

HELLO = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Hello")]


@pytest.fixture
async def alone(tmp_path):
    """The gateway's gRPC stub, an HTTP client, and a function that signs credentials."""
    async with gateway_alone(tmp_path) as (server, client, sign), grpc.aio.insecure_channel(server.listen) as channel:
        yield gateway_pb2_grpc.GatewayServiceStub(channel), client, sign


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


@pytest.mark.parametrize(
    ("request_", "missing"),
    [
        (gateway_pb2.AskRequest(question="q"), "generator"),
        (gateway_pb2.AskRequest(question="q", model="support"), "registry"),
        (gateway_pb2.AskRequest(question="q", collections=["c"]), "retriever"),
    ],
    ids=["generator", "registry", "retriever"],
)
async def test_a_missing_peer_is_named_with_a_retry_hint(alone, request_, missing):
    stub, _, sign = alone
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in stub.Ask(request_, metadata=bearer(sign("viewer")), timeout=60):
            pass
    failure = from_rpc_error(refused.value)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert failure.reason == "PEER_UNAVAILABLE"
    assert failure.variables["service"] == missing
    assert failure.retry_after_seconds
    assert "trivium status" in failure.message


async def test_over_http_it_is_a_503_with_retry_after(alone):
    _, client, sign = alone
    body = {"model": "base", "messages": [{"role": "user", "content": "Hello"}]}
    for stream in (False, True):
        headers = {"authorization": f"Bearer {sign('member')}"}
        answer = await client.post("/v1/chat/completions", json=body | {"stream": stream}, headers=headers)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["x-request-id"]
        assert answer.json()["error"]["code"] == "peer_unavailable"
        assert "generator" in answer.json()["error"]["message"]


async def test_a_viewer_may_ask_and_may_not_chat(alone):
    stub, client, sign = alone
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in stub.Chat(gateway_pb2.ChatRequest(messages=HELLO), metadata=bearer(sign("viewer")), timeout=60):
            pass
    assert from_rpc_error(refused.value).reason == "ROLE_MISSING"
    headers = {"authorization": f"Bearer {sign('viewer')}"}
    turn = {"model": "base", "messages": [{"role": "user", "content": "q"}]}
    for path, chatting in (("/v1/chat/completions", turn), ("/v1/completions", {"model": "base", "prompt": "q"})):
        answer = await client.post(path, json=chatting, headers=headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "role_missing")
    # The same door, asked for something that a viewer may: it goes on and misses its peer.
    asked = turn | {"trivium": {"collection": "c"}}
    assert (await client.post("/v1/chat/completions", json=asked, headers=headers)).status_code == 503


async def test_who_asks_is_settled_before_what_is_asked(alone):
    _, client, _ = alone
    for headers in ({}, {"authorization": "Bearer tv_un_known"}, {"authorization": "Basic eA=="}):
        answer = await client.post("/v1/chat/completions", content=b"{not json", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_a_request_is_refused_by_the_name_of_what_is_wrong(alone):
    _, client, sign = alone
    headers = {"authorization": f"Bearer {sign('member')}"}
    hello: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "Hello"}]}
    cases: list[tuple[dict[str, Any], str]] = [
        ({"tools": [{}]}, "tools[0].type"),
        ({"temperature": 3}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"trivium": {"request_id": "no-uuid"}}, "trivium.request_id"),
        # Of two names for one field, the one that was sent.
        ({"user": "x" * 513}, "user"),
        ({"safety_identifier": "x" * 513}, "safety_identifier"),
        ({"safety_identifier": "x" * 513, "user": "anna"}, "safety_identifier"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_completion_tokens": 2**40}, "max_completion_tokens"),
        ({"trivium": {"choice": ["x"] * 2000}}, "trivium.choice"),
        ({"trivium": {"collection": "x" * 5000}}, "trivium.collection"),
    ]
    for extra, param in cases:
        answer = await client.post("/v1/chat/completions", json={**hello, **extra}, headers=headers)
        assert answer.status_code in (400, 501), extra
        assert answer.json()["error"]["param"] == param, answer.text
        if answer.json()["error"]["code"] in ("request_invalid", "field_invalid"):
            assert answer.json()["error"]["message"].startswith(f"{param}: "), answer.text


async def test_paths_that_are_not_there_answer_in_the_same_shape(alone):
    _, client, _ = alone
    for method, path, status in [("GET", "/v2", 404), ("GET", "/v1/chat/completions", 405)]:
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


async def test_health_needs_no_credential(alone):
    _, client, _ = alone
    answer = await client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (200, "serving")


async def test_off_this_machine_http_demands_a_certificate(tmp_path):
    free: dict[str, Any] = dict.fromkeys(("listen", "admin_listen", "metrics_listen"), "127.0.0.1:0")
    settings = GatewaySettings(**free, http_listen="0.0.0.0:0", data_dir=tmp_path)
    with pytest.raises(ValueError, match="HTTP_TLS_CERT_FILE"):
        async with running(settings, name="gateway", build=build):
            pass


@pytest.mark.parametrize("how", ["fails", "returns"])
async def test_a_gateway_whose_http_server_ends_ends_too(tmp_path, monkeypatch, how):
    ticked = asyncio.Event()

    async def on_tick(_: uvicorn.Server, __: int) -> bool:
        ticked.set()
        if how == "fails":
            raise OSError("no more files")
        return True

    async with gateway_alone(tmp_path) as (server, client, _):
        monkeypatch.setattr(uvicorn.Server, "on_tick", on_tick)
        async with asyncio.timeout(HANG_SECONDS):
            await ticked.wait()
            await server.runtime.background.failed.wait()
        with pytest.raises(httpx.ConnectError):
            await client.get("/healthz")
