"""Each route has the places and the time of the RPC that it calls: its row names it, and its request is that RPC's."""

import json
from types import SimpleNamespace
from typing import Any

import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import Default

from gateway.http.app import ROUTES
from gateway.http.routes import Route
from gateway.http.transport import Asked
from gateway.servicers import POLICIES, policy_of
from tests.security.crossing.doors import named, template

ID = "01890000-0000-7000-8000-000000000000"
PATH = dict.fromkeys(("name", "request_id", "file", "batch", "store", "job", "response"), "x")
SERVICERS: Any = SimpleNamespace(
    **dict.fromkeys(
        ("gateway", "files", "batches", "vector_stores", "fine_tuning", "embeddings", "responses", "replays", "models")
    )
)


def rpcs_of(route: Route) -> list[MethodDescriptor]:
    return [route.rpc, *route.other_rpcs]


def taken(route: Route, body: Any) -> str:
    """The type of the request that the route makes of a body."""
    raw = b"" if not body else json.dumps(body).encode()
    request: str = route.exchange(SERVICERS, ID).parse(Asked(raw, PATH)).DESCRIPTOR.full_name
    return request


@pytest.mark.parametrize("route", [it for it in ROUTES if not it.streamed], ids=named)
def test_the_request_of_a_route_is_that_of_its_rpc(route: Route) -> None:
    requests = {rpc.input_type.full_name for rpc in rpcs_of(route)}
    body = template(route)
    made = {taken(route, body)}
    if route.other_rpcs:
        made.add(taken(route, {name: value for name, value in body.items() if name != "trivium"}))
    assert made == requests


@pytest.mark.parametrize("route", [it for it in ROUTES if it.other_rpcs], ids=named)
def test_rpcs_of_one_route_are_of_one_kind_and_have_one_time(route: Route) -> None:
    assert len({(it.client_streaming, it.server_streaming, policy_of(it)) for it in rpcs_of(route)}) == 1


@pytest.mark.parametrize("route", [it for it in ROUTES if it.events], ids=named)
def test_what_may_be_told_in_events_streams(route: Route) -> None:
    assert route.rpc.server_streaming


def test_every_rpc_that_has_a_time_of_its_own_is_one() -> None:
    pool = Default()
    for service, policies in POLICIES.items():
        assert set(policies) <= set(pool.FindServiceByName(service).methods_by_name)
