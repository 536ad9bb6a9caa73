"""Promise 3, by numbers: whatever a tenant sends to any RPC, it reads nothing of another's and learns of nothing."""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from services.ops.supervisor import Suite
from tests.security.crossing.attempts import Kind
from tests.security.crossing.owner import newcomer, settled
from tests.security.crossing.surface import Caller
from tests.security.crossing.treasure import Treasure, gathered
from tests.security.crossing.trial import Report, tried

# Of the 100,000 that `make soak` makes.
_A_TENTH = 10_000
_LEAST_VALUES = 40


@asynccontextmanager
async def channels(suite: Suite) -> AsyncIterator[dict[str, grpc.aio.Channel]]:
    """A channel to every service."""
    opened = {name: grpc.aio.insecure_channel(address) for name, address in suite.addresses.items()}
    try:
        yield opened
    finally:
        await asyncio.gather(*(channel.close() for channel in opened.values()))


async def crossed(suite: Suite, count: int) -> tuple[Report, Treasure, Treasure]:
    """The attempts, and what the owner had before and after them."""
    person = await asyncio.to_thread(settled, suite)
    async with channels(suite) as opened:
        owner, nobody = Caller(opened, person.key), Caller(opened, newcomer(suite).key)
        before = await gathered(owner, nobody)
        report = await tried(
            count, before, person.tenant, lambda: Caller(opened, newcomer(suite).key), random.Random(0)
        )
        return report, before, await gathered(owner, nobody)


async def nothing_crosses(suite: Suite, count: int) -> None:
    report, before, after = await crossed(suite, count)
    sys.stdout.write(report.table)
    assert len(before.secrets) > _LEAST_VALUES
    assert set(report.made) == set(Kind)
    assert report.reads == []
    assert report.told_apart == []
    # And nothing of it was changed or is gone.
    assert before.secrets - after.secrets == set()


@pytest.mark.soak
async def test_ten_thousand_attempts_read_nothing_change_nothing_and_tell_nothing_apart(suite):
    await nothing_crosses(suite, _A_TENTH)


@pytest.mark.soak
async def test_a_hundred_thousand_attempts_read_nothing_change_nothing_and_tell_nothing_apart(suite):
    await nothing_crosses(suite, 10 * _A_TENTH)
