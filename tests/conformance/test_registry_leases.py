"""One holder at a time does a piece of work, over all replicas; what a dead one held lapses."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from sqlalchemy.orm import Session

from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.registry.leases import Leases
from services.registry.store import LeaseRow
from services.registry.works import Progress, Works
from tests.adapters import digest
from tests.conformance.replicas import Site

KEY = IdempotencyKey("acme", "MergeVersion", "", b"merge desk")
LONG_SECONDS = 600.0
# Renewed every second: a machine that stalls does not take the lease from its holder.
RENEWED_SECONDS = 60.0
SHORT_SECONDS = 0.3
SAID = "3 of 9 MiB are merged"


@asynccontextmanager
async def holders(site: Site, seconds: float) -> AsyncIterator[tuple[Leases, Leases]]:
    """Two replicas' leases."""
    async with site.replica("one") as one, site.replica("two") as two:
        yield Leases(one.database, "first", seconds), Leases(two.database, "second", seconds)


async def held(leases: Leases, work: str = "merge", tenant: str = "acme") -> str | None:
    """What another holder says of the work; None when there is none."""
    async with leases.held(tenant, work, lambda: SAID) as elsewhere:
        return elsewhere


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await holds():  # noqa: ASYNC110 - a row in another replica's hands sets no event
            await asyncio.sleep(0.02)


async def test_what_one_holds_is_refused_to_the_other_until_it_is_given_back(site: Site):
    async with holders(site, LONG_SECONDS) as (one, two):
        async with one.held("acme", "merge", lambda: SAID) as elsewhere:
            assert elsewhere is None
            assert await held(two) == SAID
            assert await held(two) == SAID, "who was refused gave back what it never had"
            assert await held(two, "another merge") is None
            assert await held(two, tenant="beta") is None
        assert await held(two) is None
        assert await held(one) is None


async def test_a_holder_that_lives_keeps_its_lease_and_tells_how_far_it_is(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("services.registry.leases._RENEWALS", 60)
    async with holders(site, RENEWED_SECONDS) as (one, two):
        progress = Progress("begun")

        async def told() -> bool:
            elsewhere = await held(two)
            assert elsewhere is not None, "a lease lapsed under its holder"
            return elsewhere == progress.said

        async with one.held("acme", "merge", lambda: progress.said):
            for step in range(4):
                progress.say(f"step {step}")
                await until(told)


async def test_what_a_dead_holder_held_lapses_and_its_next_life_has_it_at_once(site: Site):
    def dead(session: Session, work: str, seconds: float) -> None:
        name = digest(work.encode())
        session.add(LeaseRow(tenant="acme", work=name, holder="first", progress=SAID, expires_at=time.time() + seconds))

    async with site.replica("one") as replica, holders(site, LONG_SECONDS) as (again, other):
        await replica.database.write(partial(dead, work="long", seconds=LONG_SECONDS))
        assert await held(other, "long") == SAID
        assert await held(again, "long") is None
        await replica.database.write(partial(dead, work="short", seconds=SHORT_SECONDS))

        async def lapsed() -> bool:
            return await held(other, "short") is None

        await until(lapsed)


async def test_two_replicas_that_are_asked_at_once_do_the_work_once(site: Site):
    begun, entered, go = 0, asyncio.Event(), asyncio.Event()

    async def work(progress: Progress) -> str:
        nonlocal begun
        begun += 1
        progress.say("half")
        entered.set()
        await go.wait()
        return "done"

    async with holders(site, LONG_SECONDS) as (one, two), Works(60, one) as here, Works(60, two) as there:
        first = asyncio.create_task(here.join(KEY, "The merge", work, work="desk"))
        await entered.wait()
        with pytest.raises(Failure) as failure:
            await there.join(KEY, "The merge", work, work="desk")
        assert failure.value.reason is Reason.WORK_UNDER_WAY
        assert begun == 1
        go.set()
        assert await first == "done"
        assert await there.join(KEY, "The merge", work, work="desk") == "done"
