"""The gateway's router over a running registry: a caller stays with one version of an alias that tries several."""

import asyncio
from typing import Any

import grpc
import pytest
from trivium.registry.v1 import registry_pb2 as pb

from gateway.peers.registry import RemoteRegistry
from gateway.routing import Router
from services.chassis.context import Bearer, RequestContext, serving
from tests.contract.registry.test_followers import OnCalls
from tests.stack import Stack, User

CALLERS = [f"caller-{number}" for number in range(20)]


def asking(principal: str) -> RequestContext:
    return RequestContext("t", principal, frozenset(), Bearer(), "c", None, "/trivium.gateway.v1.GatewayService/Chat")


@pytest.fixture
def tried(stack: Stack, user: User) -> tuple[User, str, str]:
    """A version that serves, and one that gets half of the requests."""
    one, two = user.publish("fares").version, user.publish("fares").version
    for version in (one, two):
        stack.service().report("g1", user.tenant, version, "READY")
    user.point("fares", one)
    user.api.SetCanary(pb.SetCanaryRequest(model="fares", alias="prod", version=two, percent=50))
    return user, one, two


async def test_a_key_or_else_the_caller_itself_decides_which_version_answers(
    stack: Stack, tried: tuple[User, str, str]
):
    user, one, two = tried
    keys: list[Any] = [OnCalls(stack.tenant_key(user.tenant))]
    async with grpc.aio.insecure_channel(stack.registry.address, interceptors=keys) as channel:
        unused: Any = None
        router = Router(RemoteRegistry(channel), unused, unused)

        async def routes(principal: str = "p") -> dict[str, str]:
            with serving(asking(principal)):
                found = await asyncio.gather(*(router.resolve("fares", caller) for caller in CALLERS))
            assert all(route.canary == (route.version == two) for route in found)
            return {caller: route.version for caller, route in zip(CALLERS, found, strict=True)}

        by_key = await routes()
        assert set(by_key.values()) == {one, two}
        assert await routes("somebody else") == by_key
        for caller in CALLERS:
            with serving(asking(caller)):
                assert (await router.resolve("fares")).version == by_key[caller]
            with serving(asking(caller)):
                assert (await router.resolve(f"fares@{two}")).canary is False
