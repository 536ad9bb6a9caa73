"""What access and the registry answer, as the domain hears it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pytest

from services.chassis.errors import Failure, Reason
from services.trainer.peers import RegistryPublisher
from services.trainer.publisher import PublishPostponed, PublishRefused
from tests.unit.trainer.scripted import World
from tests.unit.trainer.test_jobs import queued


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (Failure(Reason.TENANT_DISABLED, name="acme"), PublishRefused),
        (Failure(Reason.PEER_UNAVAILABLE, service="access"), PublishPostponed),
        (Failure(Reason.NOT_READY, service="access", why="no service key was issued yet"), PublishPostponed),
        (Failure(Reason.CREDENTIAL_INVALID), PublishPostponed),
    ],
    ids=lambda given: given.reason.name if isinstance(given, Failure) else "",
)
async def test_a_result_waits_for_access_and_is_refused_with_a_tenant_that_is(
    world: World, failure: Failure, told: type[Exception]
) -> None:
    @asynccontextmanager
    async def acting_for(tenant: str, on_behalf_of: str) -> AsyncIterator[None]:
        raise failure
        yield

    job = await queued(world.jobs)
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        publisher = RegistryPublisher(cast(Any, SimpleNamespace(acting_for=acting_for, channel=lambda _: channel)))
        with pytest.raises(told) as raised:
            await publisher.publish(job, Path("result"), {})
    if isinstance(raised.value, PublishRefused):
        assert (raised.value.reason, str(raised.value)) == ("TENANT_DISABLED", "The tenant acme is disabled.")
