"""Two gateways keep one tenant's limit together, and say so over both transports, also while access is away."""

import time
import uuid
from itertools import takewhile
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from trivium.access.v1 import access_pb2
from trivium.common.v1 import chat_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc

from services.chassis.status import DETAILS_KEY
from tests.edge import Edge
from tests.harness.gateway import Gateway
from tests.robustness.gateway.known_limits import ask, limited_and_known

LIMIT = 16


@pytest.fixture(scope="module")
def gateways(edge: Edge, gateway: Gateway) -> list[Gateway]:
    return [gateway, edge.gateway()]


def metadata_of(error: Any) -> Any:
    return error.trailing_metadata()


def test_two_gateways_let_in_what_one_limit_says(edge: Edge, gateways: list[Gateway]):
    began = time.monotonic()
    key, answers = limited_and_known(edge, gateways, requests_per_minute=LIMIT)
    answers += [ask(gateways[number % 2], key) for number in range(2 * LIMIT)]
    seconds = time.monotonic() - began
    passed = [answer for answer in answers if answer.status_code == 200]
    # A minute's worth at once, and what flows in while the test lasts.
    assert LIMIT - 2 <= len(passed) <= LIMIT + seconds * LIMIT / 60 + 1
    assert [int(answer.headers["x-ratelimit-limit-requests"]) for answer in answers] == [LIMIT] * len(answers)
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.headers["x-should-retry"] == "true"
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    assert refused.headers["x-ratelimit-reset-requests"].endswith("s")


def test_over_grpc_a_refusal_says_whose_limit_it_was_and_when_to_come_back(edge: Edge, gateways: list[Gateway]):
    key, _ = limited_and_known(edge, gateways[:1], tokens_per_minute=400)
    turns = [chat_pb2.ChatMessage(role=chat_pb2.CHAT_ROLE_USER, content="Hello")]
    request = gateway_pb2.ChatRequest(messages=turns, sampling=chat_pb2.Sampling(max_tokens=300))
    with grpc.insecure_channel(gateways[0].address) as channel:
        stub = gateway_pb2_grpc.GatewayServiceStub(channel)
        # What was reserved and not used comes back: of 305 tokens the first request uses 307.
        call = stub.Chat(request, metadata=(("authorization", f"Bearer {key}"),), timeout=30)
        assert dict[str, Any](call.initial_metadata())["x-ratelimit-limit-tokens"] == "400"
        assert list(call)[-1].final.usage.completion_tokens == 300
        with pytest.raises(grpc.RpcError) as refused:
            list(stub.Chat(request, metadata=(("authorization", f"Bearer {key}"),), timeout=30))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    status = status_pb2.Status.FromString(dict(metadata_of(refused.value))[DETAILS_KEY])
    found = {detail.TypeName() for detail in status.details}
    for kind in (error_details_pb2.QuotaFailure, error_details_pb2.RetryInfo):
        assert kind.DESCRIPTOR.full_name in found


def test_a_new_limit_reaches_a_gateway_and_a_spent_budget_is_not_worth_a_retry(edge: Edge, gateways: list[Gateway]):
    tenant = f"t-{uuid.uuid4().hex[:12]}"
    key = edge.tenant_key(tenant)
    assert ask(gateways[0], key).status_code == 200
    quota = access_pb2.Quota(tokens_per_month=8)
    edge.admin.UpdateQuota(access_pb2.UpdateQuotaRequest(tenant=tenant, quota=quota))
    answer = ask(gateways[1], key)
    # The first gateway heard of no limit a moment ago; the second hears it now, and that the month is spent.
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "insufficient_quota")
    # In a month's last minute it is: the next one is that near.
    soon = int(answer.headers["retry-after"]) <= 60
    assert answer.headers["x-should-retry"] == ("true" if soon else "false")


def test_with_access_away_a_limit_that_is_known_holds(edge: Edge, gateways: list[Gateway]):
    a_minute, ahead = 300, 10
    key, _ = limited_and_known(edge, gateways[:1], requests_per_minute=a_minute)
    edge.access.kill()
    began = time.monotonic()
    try:
        passed = sum(1 for _ in takewhile(lambda _: ask(gateways[0], key).status_code == 200, range(a_minute)))
        seconds = time.monotonic() - began
    finally:
        edge.access.start()
    # What this gateway held, and what flowed in: access gave two seconds' worth ahead.
    assert 0 < passed <= ahead + seconds * a_minute / 60 + 1
