"""What a tenant's quota says of its weight reaches the queue of an engine, by nothing that the tenant could say itself."""

import asyncio
import time
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest
from trivium.access.v1 import access_pb2
from trivium.generator.v1 import generator_pb2, generator_pb2_grpc

from services.chassis.server import Registration, running
from services.generator.places import Limits
from services.generator.servicer import SERVICE, GeneratorServicer
from tests.contract.chassis.echo import settings_in
from tests.stack import Stack, eventually
from tests.unit.generator.answering import World

ADD = generator_pb2_grpc.add_GeneratorServiceServicer_to_server
# Of each tenant, more than are looked at: both always wait.
_ASKED = 40


def weighing(stack: Stack, weight: int | None) -> tuple[str, str]:
    """A new tenant whose quota says a weight, or that has none; and a key of its."""
    tenant = stack.tenant()
    if weight is not None:
        quota = access_pb2.UpdateQuotaRequest(tenant=tenant, quota=access_pb2.Quota(weight=weight))
        stack.access_api(stack.key("admin")).UpdateQuota(quota)
    return tenant, stack.tenant_key(tenant, access_pb2.ROLE_MEMBER)


def acting(stack: Stack, tenant: str) -> str:
    """What a service acts with for a tenant."""
    request = access_pb2.IssueAssertionRequest(tenant=tenant)
    return str(stack.access_api(stack.key("service")).IssueAssertion(request).assertion.token)


@asynccontextmanager
async def generating(folder, stack: Stack, world: World):
    """The generator's servicer, behind the chassis and this access, over an engine in memory."""
    verbs = cast("Any", SimpleNamespace(generation=world.verb))

    @asynccontextmanager
    async def build(runtime):
        yield [Registration(ADD, GeneratorServicer(verbs, runtime.clock), SERVICE)]

    settings = settings_in(folder, access_address=stack.access.address)
    async with running(settings, name="generator", build=build) as server:
        async with grpc.aio.insecure_channel(server.listen) as channel:
            yield generator_pb2_grpc.GeneratorServiceStub(channel)


async def served_first(tmp_path, stack: Stack, credentials: dict[str, str]) -> Counter[str]:
    """How many of each were answered among the first, as many as one of them asked: so far all of them waited."""
    world = await World(limits=Limits(max_running=2, max_waiting=1000), now=time.monotonic).open()
    world.engine.gate.clear()

    async def ask(stub, name: str, credential: str) -> None:
        request = generator_pb2.GenerateRequest(text="hello", requested_model=name)
        async for _ in stub.Generate(request, metadata=(("authorization", f"Bearer {credential}"),)):
            pass

    async with AsyncExitStack() as opened:
        stub = await opened.enter_async_context(generating(tmp_path, stack, world))
        asking = await opened.enter_async_context(asyncio.TaskGroup())
        for name, credential in credentials.items():
            for _ in range(_ASKED):
                asking.create_task(ask(stub, name, credential))
        everybody = len(credentials) * _ASKED - 2
        await asyncio.to_thread(eventually, lambda: world.slots.waiting == everybody, "all but those who run wait")
        world.engine.gate.set()
    assert len(world.counted) == len(credentials) * _ASKED
    return Counter(done.opening.requested_model for done in world.counted[:_ASKED])


async def test_of_two_who_wait_each_is_served_by_the_weight_of_its_quota(tmp_path, stack: Stack):
    (_, light), (_, heavy) = weighing(stack, None), weighing(stack, 3)
    served = await served_first(tmp_path, stack, {"light": light, "heavy": heavy})
    assert served["heavy"] == pytest.approx(_ASKED * 3 / 4, abs=3), served


async def test_what_a_service_does_for_somebody_has_the_weight_of_whom_it_is_for(tmp_path, stack: Stack):
    light, heavy = (acting(stack, weighing(stack, weight)[0]) for weight in (1, 3))
    served = await served_first(tmp_path, stack, {"light": light, "heavy": heavy})
    assert served["heavy"] == pytest.approx(_ASKED * 3 / 4, abs=3), served
