"""When sources are read: at once, again after their interval, later and later while they are away."""

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import pytest

from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from services.retriever.catalog import Collections
from services.retriever.collection import Draft
from services.retriever.sources.addresses import Policy
from services.retriever.sources.buckets import Buckets
from services.retriever.sources.fetching import Bounds, Fetcher
from services.retriever.sources.places import Places
from services.retriever.sources.queue import SourceQueue
from services.retriever.sources.sources import Order, Sources, SourceState
from tests.harness.clock import ManualClock

AWAY = Failure(Reason.SOURCE_AWAY, uri="u", problem="p")
BROKEN = Failure(Reason.SOURCE_UNREADABLE, uri="u", problem="p")


@dataclass
class Office:
    clock: ManualClock
    queue: SourceQueue
    sources: Sources

    async def order(self, uri="https://docs.example/", *, tenant="ada", refresh=0):
        key = IdempotencyKey(tenant, "ingest", "", b"")
        return await self.sources.ingest(tenant, Order("rules", uri, False, refresh), key)

    async def state(self, source, tenant="ada"):
        return (await self.sources.get(tenant, source.source))[0]


@asynccontextmanager
async def opened(url):
    clock = ManualClock(1_000_000.0)
    async with open_database(url, "services.retriever.migrations") as database:
        for tenant in ("ada", "bob"):
            await Collections(database, clock).create(tenant, Draft("rules"), IdempotencyKey(tenant, "c", "", b""))
        places = Places(Fetcher(Policy(("public",)), Bounds(1, 1, 1)), Buckets((), 1, 1))
        sources = Sources(database, places, clock, lambda: str(uuid.uuid4()), lambda: None, lambda number: None)
        yield Office(clock, SourceQueue(database, clock, 2.0), sources)


def with_at_most(office, most_sources):
    """The same queue, with a limit of sources for each tenant."""
    return replace(office, sources=replace(office.sources, most_sources=most_sources))


@pytest.fixture
async def office(tmp_path, catalog_url):
    async with opened(catalog_url or f"sqlite:///{tmp_path / 'catalog.db'}") as made:
        yield made


async def test_a_source_is_read_again_after_its_interval_and_not_before(office):
    source = await office.order(refresh=3600)
    assert await office.queue.seconds_until_due() == 0
    work = await office.queue.claim()
    assert (work.uri, work.reading, await office.queue.claim()) == ("https://docs.example/", 1, None)
    office.clock.advance(10)
    await office.queue.finish(work)
    after = await office.state(source)
    assert (after.state, after.read_at, after.due_at) == (SourceState.READY, office.clock.now, office.clock.now + 3600)
    office.clock.advance(3599)
    assert (await office.queue.claim(), await office.queue.seconds_until_due()) == (None, 1)
    office.clock.advance(1)
    assert (await office.queue.claim()).reading == 2


async def test_one_without_an_interval_is_read_once_until_it_is_asked_for_again(office):
    source = await office.order()
    await office.queue.finish(await office.queue.claim())
    assert (await office.state(source)).due_at is None
    assert await office.queue.seconds_until_due() is None
    await office.order()
    assert (await office.queue.claim()).reading == 2


async def test_one_that_is_away_is_tried_later_and_later_and_then_has_failed(office):
    source = await office.order(refresh=3600)
    waits = []
    while True:
        await office.queue.fail(await office.queue.claim(), AWAY)
        found = await office.state(source)
        waits.append(found.due_at - office.clock.now)
        office.clock.now = found.due_at
        if found.state == SourceState.FAILED:
            break
        assert found.state == SourceState.QUEUED
        assert found.reason.startswith("Waits: ")
    # It is read again in its interval all the same.
    assert waits == [2, 4, 8, 16, 3600]


async def test_one_that_is_broken_is_not_tried_again_by_itself(office):
    source = await office.order()
    await office.queue.fail(await office.queue.claim(), BROKEN)
    found = await office.state(source)
    assert (found.state, found.due_at, found.reason) == (SourceState.FAILED, None, BROKEN.sentence)


async def test_a_tenants_sources_are_read_one_after_another_beside_those_of_others(office):
    await office.order("https://docs.example/1")
    await office.order("https://docs.example/2")
    await office.order("https://docs.example/3", tenant="bob")
    first = await office.queue.claim()
    second = await office.queue.claim()
    assert [(first.tenant, first.uri[-1]), (second.tenant, second.uri[-1])] == [("ada", "1"), ("bob", "3")]
    assert await office.queue.claim() is None
    await office.queue.finish(first)
    assert (await office.queue.claim()).uri[-1] == "2"


async def test_what_was_read_when_the_process_died_is_due_at_the_next_start(office):
    await office.order()
    died = await office.queue.claim()
    assert await office.queue.claim() is None
    await office.queue.recover()
    assert (await office.queue.claim()).number == died.number


async def test_a_reading_that_was_stopped_settles_nothing(office):
    source = await office.order(refresh=60)
    work = await office.queue.claim()
    await office.sources.cancel("ada", source.source)
    await office.queue.finish(work)
    await office.queue.fail(work, BROKEN)
    found = await office.state(source)
    assert (found.state, found.due_at, found.reason) == (SourceState.CANCELLED, None, "")


async def test_a_tenant_has_a_bounded_number_of_sources(office):
    office = with_at_most(office, 1)
    await office.order("https://docs.example/1")
    with pytest.raises(Failure) as refused:
        await office.order("https://docs.example/2")
    assert refused.value.reason is Reason.LIMIT_REACHED
    await office.order("https://docs.example/1")
    await office.order("https://docs.example/2", tenant="bob")
