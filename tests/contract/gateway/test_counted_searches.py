"""Searches, and the question where a request would go, count as requests without tokens; both doors say so."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
import httpx
import pytest
from trivium.access.v1 import access_pb2
from trivium.gateway.v1 import gateway_pb2, gateway_pb2_grpc, vector_stores_pb2, vector_stores_pb2_grpc

from services.chassis.status import from_rpc_error
from tests.front import Front, Visitor

SEARCH, EXPLAIN = "a search in a store", "where auto would go"
QUERY = "How much is a day ticket?"
# What was told of limits before the answer, and why there was none: empty where there was.
Heard = tuple[Mapping[str, str], str]


def over_grpc(front: Front, key: str, asks: str, store: str) -> Heard:
    with grpc.insecure_channel(front.process.address) as channel:
        stores = vector_stores_pb2_grpc.VectorStoreServiceStub(channel)
        gateway = gateway_pb2_grpc.GatewayServiceStub(channel)
        search = vector_stores_pb2.SearchVectorStoreRequest(vector_store=store, queries=[QUERY])
        calls: dict[str, tuple[Any, Any]] = {
            SEARCH: (stores.SearchVectorStore, search),
            EXPLAIN: (gateway.ExplainRoute, gateway_pb2.ExplainRouteRequest(model="auto", question=QUERY)),
        }
        call, request = calls[asks]
        try:
            _, answered = call.with_call(request, metadata=(("authorization", f"Bearer {key}"),), timeout=60)
        except grpc.RpcError as error:
            told: Any = error
            return dict(told.initial_metadata()), from_rpc_error(told).reason.lower()
        return dict(answered.initial_metadata()), ""


def over_http(front: Front, key: str, asks: str, store: str) -> Heard:
    calls: dict[str, tuple[str, str, Any]] = {
        SEARCH: ("POST", f"/vector_stores/{store}/search", {"json": {"query": QUERY}}),
        EXPLAIN: ("GET", "/trivium/route", {"params": {"model": "auto", "question": QUERY}}),
    }
    verb, path, more = calls[asks]
    headers = {"authorization": f"Bearer {key}"}
    answer = httpx.request(verb, front.http + path, headers=headers, timeout=60, **more)
    return answer.headers, "" if answer.status_code == httpx.codes.OK else answer.json()["error"]["code"]


DOORS: dict[str, Callable[[Front, str, str, str], Heard]] = {"grpc": over_grpc, "http": over_http}
each = pytest.mark.parametrize("asks", [SEARCH, EXPLAIN])
at_both_doors = pytest.mark.parametrize("door", DOORS)


def limited(front: Front, **limits: Any) -> tuple[Visitor, str]:
    """Somebody of a new tenant under limits, and a store of theirs."""
    visitor, admin = front.newcomer(), front.stack.access_api(front.stack.key("admin"))
    store = visitor.stores.CreateVectorStore(vector_stores_pb2.CreateVectorStoreRequest()).vector_store
    quota = access_pb2.Quota(**limits)
    admin.UpdateQuota(access_pb2.UpdateQuotaRequest(tenant=visitor.keeper.tenant, quota=quota))
    return visitor, store.vector_store


@each
@at_both_doors
def test_what_embeds_without_an_answer_is_a_request_of_its_limits(answering: Front, door: str, asks: str) -> None:
    visitor, store = limited(answering, requests_per_minute=1)
    told, refused = DOORS[door](answering, visitor.key, asks, store)
    assert (refused, told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"]) == ("", "1", "0")
    told, refused = DOORS[door](answering, visitor.key, asks, store)
    assert (refused, told["x-ratelimit-remaining-requests"]) == ("rate_limit_exceeded", "0")


@each
@at_both_doors
def test_it_needs_no_tokens_where_none_are_left(answering: Front, door: str, asks: str) -> None:
    visitor, store = limited(answering, tokens_per_month=8)
    body = {"model": "base", "messages": [{"role": "user", "content": QUERY}], "max_tokens": 8}
    assert visitor.ask("POST", "/chat/completions", body).status_code == httpx.codes.OK
    assert visitor.ask("POST", "/chat/completions", body).json()["error"]["code"] == "insufficient_quota"
    assert DOORS[door](answering, visitor.key, asks, store)[1] == ""
