"""Slots, host memory and files of one engine: what makes room for what, and that every byte is accounted for."""

import asyncio
import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chassis.errors import Failure, Reason
from services.generator.accounting import Accounting
from services.generator.engine import EngineLost
from services.generator.holdings import Shared
from services.generator.places import Limits, Slots
from services.generator.priorities import Priority
from services.generator.residency import Tier
from services.generator.shelf import Shelf
from tests.harness.timeouts import HANG_SECONDS
from tests.unit.generator.engines import WEIGHT_BYTES, MemoryEngine, settled, stored


class World:
    """An engine of so many slots and so many adapters' worth of host memory, and a clock that is moved by hand."""

    def __init__(self, slots=2, memory=2, running=8):
        self.engine = MemoryEngine(slots)
        self.shared = Shared()
        self.now = 0.0
        limits = Limits(running, 64, 0.0, memory * WEIGHT_BYTES)
        self.slots = Slots(self.engine, limits, lambda: self.now, self.shared)

    async def open(self):
        await self.engine.start()
        await self.slots.resume([])
        return self

    async def use(self, *versions, tenant="t"):
        """One request after the other."""
        for version in versions:
            self.now += 1
            async with self.slots.place(tenant, stored(version, tenant)):
                pass
            await settled()

    def classes(self, **versions):
        """Say what aliases make of versions."""
        self.shared.priorities.set(versions.items())

    def tier(self, tier):
        return {held.stored.version for held in self.slots.residents() if held.tier is tier}

    @property
    def in_slots(self):
        return self.tier(Tier.SLOT)

    @property
    def in_memory(self):
        return self.tier(Tier.MEMORY)

    def tally(self, tier, tenant=None):
        return self.shared.tallies.of(tier, tenant)

    def hold_to_what_is_there(self):
        """The table and the engine agree on every version and every byte."""
        table = self.slots.table
        assert table.slots_used == len(self.engine.held)
        assert table.memory_bytes == WEIGHT_BYTES * len(self.engine.memory)
        assert self.in_slots == set(self.engine.held.values())
        assert self.in_memory == set(self.engine.memory.values())


async def test_what_leaves_a_slot_stays_in_memory_and_comes_back_without_a_look_at_the_disk():
    world = await World().open()
    await world.use("a", "b", "c")
    assert (world.in_slots, world.in_memory) == ({"b", "c"}, {"a"})
    await world.use("a")
    assert (world.in_slots, world.in_memory) == ({"a", "c"}, {"b"})
    assert world.engine.lifts == ["a", "b", "c"]
    world.hold_to_what_is_there()


async def test_memory_has_a_budget_and_the_longest_unused_leaves_it():
    world = await World(slots=1, memory=2).open()
    await world.use("a", "b", "c", "d")
    assert (world.in_slots, world.in_memory) == ({"d"}, {"b", "c"})
    world.hold_to_what_is_there()


async def test_without_a_budget_nothing_is_kept_in_memory():
    world = await World(slots=1, memory=0).open()
    await world.use("a", "b", "a")
    assert (world.in_slots, world.in_memory) == ({"a"}, set())
    assert world.engine.lifts == ["a", "b", "a"]
    world.hold_to_what_is_there()


ORDER = [Priority.AD_HOC, Priority.PREVIOUS, Priority.CANDIDATE, Priority.SERVING]


@pytest.mark.parametrize("lower", range(3))
async def test_a_lower_class_makes_room_before_a_higher_one_though_it_was_used_later(lower):
    world = await World().open()
    world.classes(high=ORDER[lower + 1], low=ORDER[lower], new=ORDER[-1])
    await world.use("high", "low", "new")
    assert (world.in_slots, world.in_memory) == ({"high", "new"}, {"low"})


async def test_a_scan_of_unknown_versions_leaves_what_aliases_name_in_memory():
    world = await World(slots=1, memory=2).open()
    world.classes(serving=Priority.SERVING, previous=Priority.PREVIOUS)
    await world.use("previous", "serving", *(f"x{number}" for number in range(20)))
    assert world.in_memory == {"serving", "previous"}
    world.hold_to_what_is_there()


async def test_a_pinned_version_is_protected_in_its_slot_above_every_class():
    world = await World(slots=2, memory=1).open()
    world.classes(a=Priority.AD_HOC, b=Priority.SERVING, c=Priority.SERVING)
    await world.use("a")
    world.slots.pin("a", True)
    assert world.slots.table.priority(world.slots.table.get("a")) is Priority.PROTECTED
    await world.use("b", "c", "b", "c")
    assert "a" in world.in_slots


async def test_prefetch_fills_memory_and_displaces_only_what_ranks_lower():
    world = await World(slots=1, memory=2).open()
    world.classes(s1=Priority.SERVING, s2=Priority.SERVING, s3=Priority.SERVING)
    assert await world.slots.keep(stored("adhoc"))
    world.now += 1
    assert await world.slots.keep(stored("s1"))
    world.now += 1
    assert await world.slots.keep(stored("s2"))
    assert world.in_memory == {"s1", "s2"}
    assert not await world.slots.keep(stored("adhoc"))
    assert world.engine.loads == []
    world.hold_to_what_is_there()


async def test_a_version_that_is_kept_is_lifted_once_however_many_ask():
    world = await World().open()
    assert await asyncio.gather(*(world.slots.keep(stored("a")) for _ in range(5))) == [True] * 5
    assert world.engine.lifts == ["a"]


async def test_unloading_takes_a_version_out_of_memory_too():
    world = await World(slots=1).open()
    await world.use("a", "b")
    assert world.in_memory == {"a"}
    await world.slots.unload("a")
    await world.slots.unload("b")
    assert world.slots.residents() == ()
    world.hold_to_what_is_there()


async def test_lowering_waits_for_the_last_user_and_stops_nobody():
    world = await World().open()
    async with world.slots.place("t", stored("a")):
        lowering = asyncio.create_task(world.slots.lower("a"))
        await settled()
        async with world.slots.place("t", stored("a")):
            assert world.in_slots == {"a"}
    await lowering
    assert (world.in_slots, world.in_memory) == (set(), {"a"})
    world.hold_to_what_is_there()


async def test_a_lost_engine_gets_back_slots_first_and_then_memory():
    world = await World(slots=1, memory=1).open()
    await world.use("a", "b")
    await world.engine.stop()
    before = world.slots.suspend("gone")
    assert world.slots.wanted() == {"a", "b"}
    await world.engine.start()
    await world.slots.resume(before)
    assert world.in_slots == {"b"}
    await settled()
    assert world.in_memory == {"a"}
    world.hold_to_what_is_there()


async def test_a_version_that_cannot_be_read_evicts_nothing_from_memory_and_leaves_no_byte_behind():
    world = await World(slots=1, memory=1).open()
    await world.use("a")
    world.engine.broken.add("bad")
    with pytest.raises(Failure) as caught:
        await world.use("bad")
    assert caught.value.reason is Reason.WEIGHTS_REFUSED
    await settled()
    assert (world.in_slots, world.in_memory) == (set(), {"a"})
    world.hold_to_what_is_there()


async def test_hits_loads_and_evictions_are_counted_by_tier_and_told_by_tenant():
    world = await World(slots=1, memory=1).open()
    await world.use("a", "a", "b", "a", tenant="one")
    await world.use("c", tenant="other")
    tallies = {tier: world.tally(tier, "one") for tier in Tier}
    assert (tallies[Tier.SLOT].hits, tallies[Tier.SLOT].loads, tallies[Tier.SLOT].evictions) == (1, 3, 3)
    assert (tallies[Tier.MEMORY].hits, tallies[Tier.FILE].hits) == (1, 2)
    assert world.tally(Tier.SLOT, "other").loads == 1
    assert world.tally(Tier.SLOT).loads == 4
    accounting = Accounting(Shelf(), 1000, world.shared)
    slot, memory, _ = accounting.usage([world.slots.table], "one")
    assert (slot.versions, memory.versions, memory.size_bytes, memory.limit_bytes) == (0, 1, WEIGHT_BYTES, WEIGHT_BYTES)
    assert {found.stored.tenant for found in accounting.located([world.slots.table], "one")} == {"one"}


VERSIONS = [*"abcdef", "broken"]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask", "ask", "leave", "cancel", "keep", "lower", "unload", "pin", "unpin", "kill"]),
        st.sampled_from(VERSIONS),
        st.integers(0, 4),
    ),
    max_size=60,
)


@settings(max_examples=120, deadline=None)
@given(STEPS, st.integers(1, 3), st.integers(0, 3), st.integers(0, 10_000))
def test_no_order_of_requests_failures_and_kills_makes_the_accounts_drift(steps, slots, memory, seed):
    asyncio.run(_walk(steps, slots, memory, seed))


async def _walk(steps, slots, memory, seed):
    world = await World(slots, memory, running=4).open()
    world.engine.broken.add("broken")
    world.classes(a=Priority.SERVING, b=Priority.PREVIOUS, c=Priority.CANDIDATE)
    walk = Walk(world, random.Random(seed))
    for what, version, turns in steps:
        world.now += 1
        await getattr(walk, what)(version)
        for _ in range(turns):
            await asyncio.sleep(0)
        assert len(world.engine.held) <= slots
        assert world.slots.table.memory_bytes <= memory * WEIGHT_BYTES
    await walk.end()
    assert (world.slots.running, world.slots.waiting) == (0, 0)
    assert all(held.in_flight == 0 for held in world.slots.residents())
    world.hold_to_what_is_there()


class Walk:
    """What users, the watcher and fate do."""

    def __init__(self, world, draw):
        self.world = world
        self.draw = draw
        self.requests = []
        self.others = []

    async def ask(self, version):
        end = asyncio.Event()
        self.requests.append((asyncio.create_task(_request(self.world, version, end)), end))

    async def leave(self, _):
        if self.requests:
            self.draw.choice(self.requests)[1].set()

    async def cancel(self, _):
        if self.requests:
            self.draw.choice(self.requests)[0].cancel()

    async def keep(self, version):
        self.others.append(asyncio.create_task(_tried(self.world.slots.keep(stored(version)))))

    async def lower(self, version):
        self.others.append(asyncio.create_task(_tried(self.world.slots.lower(version))))

    async def unload(self, version):
        self.others.append(asyncio.create_task(_tried(self.world.slots.unload(version))))

    async def pin(self, version, pinned=True):
        with suppress(Failure):
            self.world.slots.pin(version, pinned)

    async def unpin(self, version):
        await self.pin(version, pinned=False)

    async def kill(self, _):
        await self.world.engine.stop()
        before = self.world.slots.suspend("killed")
        await self.world.engine.start()
        await self.world.slots.resume(before)

    async def end(self):
        """Everybody leaves, and everything comes to its end."""
        for _, end in self.requests:
            end.set()
        tasks = [*self.others, *(task for task, _ in self.requests)]
        async with asyncio.timeout(HANG_SECONDS):
            while any(not task.done() for task in tasks):
                await settled()
                for held in self.world.slots.residents():
                    await self.unpin(held.stored.version)
        await settled()


async def _request(world, version, end):
    with suppress(Failure, EngineLost, asyncio.CancelledError):
        async with world.slots.place("t", stored(version)) as place:
            used = place.adapter.engine_id
            world.engine.running[used] = world.engine.running.get(used, 0) + 1
            try:
                await end.wait()
            finally:
                world.engine.running[used] -= 1


async def _tried(work):
    with suppress(Failure, EngineLost):
        await work
