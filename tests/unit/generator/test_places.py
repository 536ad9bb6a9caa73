"""Slots and queue: what waits, what runs, what is loaded and what leaves, against vLLM's rules."""

import asyncio
import itertools
import random
from typing import Any

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.config import GeneratorSettings
from services.generator.engine import EngineLost
from services.generator.places import Limits, Slots
from tests.harness.clock import ManualClock
from tests.harness.timeouts import HANG_SECONDS
from tests.harness.wording import missing
from tests.unit.generator.engines import MemoryEngine, settled, stored


async def opened(slots=2, *, running=8, waiting=16, patience=0.0, **limits):
    engine = MemoryEngine(slots)
    await engine.start()
    time = ManualClock()
    table = Slots(engine, Limits(running, waiting, patience, **limits), time)
    await table.resume([])
    return engine, table, time


class Holder:
    """A request that holds its place until it is let go."""

    def __init__(self, table, version="", tenant="t", *, background=False):
        self._table = table
        self._background = background
        self._adapter = stored(version, tenant) if version else None
        self._tenant = tenant
        self._end = asyncio.Event()
        self.place: Any = None
        self.task = asyncio.create_task(self._run())

    async def _run(self):
        async with self._table.place(self._tenant, self._adapter, background=self._background) as place:
            self.place = place
            await self._end.wait()

    async def let_go(self):
        self._end.set()
        await self.task
        await settled()


def resident(table):
    return {held.stored.version for held in table.residents()}


async def test_many_requests_for_one_version_load_it_once():
    engine, table, _ = await opened()
    holders = [Holder(table, "v") for _ in range(5)]
    await settled()
    assert engine.loads == ["v"]
    assert len({holder.place.adapter.engine_id for holder in holders}) == 1
    assert table.residents()[0].in_flight == 5
    for holder in holders:
        await holder.let_go()
    assert table.residents()[0].in_flight == 0


async def test_the_base_needs_no_slot():
    engine, table, _ = await opened(slots=1)
    held = Holder(table, "v")
    base = Holder(table)
    await settled()
    assert base.place.adapter is None
    assert engine.loads == ["v"]
    await held.let_go()
    await base.let_go()


async def test_the_longest_unused_idle_version_makes_room():
    engine, table, time = await opened(slots=2)
    for version in ("a", "b", "a"):
        time.advance(1)
        holder = Holder(table, version)
        await settled()
        await holder.let_go()
    holder = Holder(table, "c")
    await settled()
    assert resident(table) == {"a", "c"}
    assert set(engine.held.values()) == {"a", "c"}
    await holder.let_go()


async def test_a_version_in_use_is_never_evicted():
    _, table, _ = await opened(slots=1, patience=1000.0)
    first = Holder(table, "a")
    second = Holder(table, "b")
    await settled()
    assert first.place is not None
    assert not second.place
    await first.let_go()
    assert second.place.version == "b"
    await second.let_go()


async def test_a_waiting_version_makes_a_busy_one_finish_and_take_nothing_new():
    _, table, time = await opened(slots=1, patience=0.0)
    first = Holder(table, "a")
    await settled()
    waiting = Holder(table, "b")
    await settled()
    later = Holder(table, "a")
    await settled()
    assert not later.place, "it would keep the slot from the one that waits"
    time.advance(1)
    await first.let_go()
    assert waiting.place.version == "b"
    await waiting.let_go()
    assert later.place.version == "a"
    await later.let_go()


async def test_a_full_queue_refuses_with_a_hint():
    _, table, _ = await opened(running=1, waiting=2)
    holders = [Holder(table)]
    await settled()
    holders += [Holder(table) for _ in range(2)]
    await settled()
    with pytest.raises(Failure) as caught:
        async with table.place("t", None):
            pass
    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_after_seconds
    for holder in holders:
        await holder.let_go()


async def test_tenants_take_turns_however_much_one_of_them_asks():
    _, table, _ = await opened(running=1, waiting=64)
    running = Holder(table)
    await settled()
    order = []
    tasks = []

    async def ask(tenant):
        async with table.place(tenant, None):
            order.append(tenant)

    tasks += [asyncio.create_task(ask("greedy")) for _ in range(10)]
    await settled()
    tasks.append(asyncio.create_task(ask("modest")))
    await settled()
    await running.let_go()
    await asyncio.gather(*tasks)
    assert order.index("modest") <= 2


async def test_a_version_that_the_engine_refuses_fails_all_who_wait_for_it_and_frees_the_slot():
    engine, table, _ = await opened(slots=1)
    engine.broken.add("bad")
    waiting = [Holder(table, "bad").task for _ in range(3)]
    results: list[Any] = await asyncio.gather(*waiting, return_exceptions=True)
    assert [result.reason for result in results] == [Reason.WEIGHTS_REFUSED] * 3
    assert results[0].variables["problem"].endswith("its folder/weights")
    good = Holder(table, "good")
    await settled()
    assert good.place is not None
    await good.let_go()


async def test_a_caller_that_goes_away_while_it_waits_leaves_nothing_behind():
    _, table, _ = await opened(running=1)
    first = Holder(table)
    await settled()
    second = Holder(table, "v")
    await settled()
    second.task.cancel()
    await settled()
    assert table.waiting == 0
    await first.let_go()
    assert table.running == 0


async def test_pins_keep_a_version_and_leave_one_slot_for_others():
    _, table, time = await opened(slots=2)
    for version in ("a", "b"):
        time.advance(1)
        await (holder := Holder(table, version)).let_go()
    table.pin("a", True)
    with pytest.raises(Failure) as caught:
        table.pin("b", True)
    assert caught.value.reason is Reason.SLOTS_PROTECTED
    holder = Holder(table, "c")
    await settled()
    assert resident(table) == {"a", "c"}
    await holder.let_go()


async def test_one_tenant_protects_no_more_than_its_share_and_the_others_theirs_beside_it():
    engine = MemoryEngine(slots := 5)
    await engine.start()
    table = Slots(engine, Limits(8, 16, 0.0, max_protected=2), ManualClock())
    await table.resume([])
    for version, tenant in (("a", "t"), ("b", "t"), ("c", "t"), ("d", "other"), ("e", "other")):
        await Holder(table, version, tenant).let_go()
    for version in ("a", "b"):
        table.pin(version, True)
    with pytest.raises(Failure) as caught:
        table.pin("c", True)
    assert caught.value.reason is Reason.SLOTS_PROTECTED
    assert caught.value.variables["slots"] == str(slots)
    assert not missing(caught.value.variables["limit"], "tenant", "2")
    assert table.pin("a", True).pinned, "what is protected already may be asked for again"
    assert table.pin("d", True).pinned
    table.pin("a", False)
    assert table.pin("c", True).pinned
    assert table.pin("e", True).pinned
    with pytest.raises(Failure) as caught:
        table.pin("a", True)
    assert caught.value.reason is Reason.SLOTS_PROTECTED
    assert not missing(caught.value.variables["limit"], "one")
    engine.dead.set()
    before = table.suspend("lost")
    await engine.start()
    await table.resume(before)
    assert {held.stored.version for held in table.residents() if held.pinned} == {"b", "c", "d", "e"}


@pytest.mark.parametrize(
    ("slots", "configured", "share"), [(1, 0, 1), (2, 0, 1), (4, 0, 2), (5, 0, 2), (8, 0, 4), (4, 3, 3)]
)
def test_the_share_of_a_tenant_is_half_of_the_slots_where_the_deployment_does_not_say_otherwise(
    slots, configured, share
):
    assert GeneratorSettings(max_protected_slots_per_tenant=configured).max_protected(slots) == share


async def test_unloading_waits_for_the_last_user_and_a_later_request_loads_again():
    engine, table, _ = await opened()
    holder = Holder(table, "a")
    await settled()
    leaving = asyncio.create_task(table.unload("a"))
    await settled()
    assert not leaving.done()
    await holder.let_go()
    await leaving
    assert resident(table) == set()
    assert not engine.held
    again = Holder(table, "a")
    await settled()
    assert engine.loads == ["a", "a"]
    await again.let_go()


async def test_unloading_what_is_not_there_says_so():
    _, table, _ = await opened()
    with pytest.raises(Failure) as caught:
        await table.unload("a")
    assert caught.value.reason is Reason.ADAPTER_NOT_RESIDENT


async def test_while_the_engine_is_down_callers_are_told_to_retry_and_what_was_resident_comes_back():
    engine, table, _ = await opened()
    await (holder := Holder(table, "a")).let_go()
    table.pin("a", True)
    await engine.stop()
    lost = table.suspend("gone")
    with pytest.raises(Failure) as caught:
        await Holder(table, "a").task
    assert caught.value.reason is Reason.NOT_READY
    assert caught.value.retry_after_seconds
    await engine.start()
    await table.resume(lost)
    assert resident(table) == {"a"}
    assert table.residents()[0].pinned
    holder = Holder(table, "a")
    await settled()
    assert engine.loads == ["a", "a"]
    await holder.let_go()


async def test_a_place_from_before_a_death_does_not_count_against_the_rebuilt_engine():
    engine, table, _ = await opened()
    old = Holder(table, "a")
    await settled()
    await engine.stop()
    lost = table.suspend("gone")
    await engine.start()
    await table.resume(lost)
    new = Holder(table, "a")
    await settled()
    await old.let_go()
    assert table.residents()[0].in_flight == 1
    await new.let_go()


async def test_who_waits_for_a_version_that_was_asked_to_close_goes_on_at_once_when_nobody_needs_its_room():
    _, table, time = await opened(slots=1, patience=0.0)
    first = Holder(table, "a")
    await settled()
    waiting = Holder(table, "b")
    await settled()
    time.advance(1)
    later = Holder(table, "a")
    await settled()
    assert not later.place
    waiting.task.cancel()
    await settled()
    assert later.place.version == "a", "it waits for nobody, and the first may run for minutes"
    await first.let_go()
    await later.let_go()


async def test_an_engine_without_slots_refuses_an_adapter_instead_of_letting_it_wait():
    _, table, _ = await opened(slots=0)
    for asked in (Holder(table, "a").task, asyncio.create_task(table.warm("t", stored("a")))):
        with pytest.raises(Failure) as caught:
            await asked
        assert caught.value.reason is Reason.WEIGHTS_REFUSED
    base = Holder(table)
    await settled()
    await base.let_go()


@pytest.mark.parametrize(("patience_seconds", "first"), [(30.0, "live"), (0.0, "background")])
async def test_what_nobody_waits_for_begins_last_but_does_not_wait_for_ever(patience_seconds, first):
    _, table, _ = await opened(running=1, background_seconds=patience_seconds)
    running = Holder(table)
    await settled()
    waiting = {"background": Holder(table, background=True)}
    await settled()
    # Without patience it is like any other by now.
    await settled()
    waiting["live"] = Holder(table)
    await running.let_go()
    assert {name for name, holder in waiting.items() if holder.place is not None} == {first}
    for name in (first, *waiting.keys() - {first}):
        await waiting[name].let_go()


async def test_an_engine_that_dies_as_soon_as_it_has_loaded_ahead_is_to_be_asked_again():
    _, table, _ = await opened()
    take = table.table.take

    def taken(version, now):
        adapter = take(version, now)
        if adapter is not None:
            # The engine's death is heard of before whoever waited for the version runs.
            asyncio.get_running_loop().call_soon(table.suspend, "gone")
        return adapter

    table.table.take = taken
    warming = asyncio.create_task(table.warm("t", stored("a")))
    with pytest.raises(Failure) as caught:
        await warming
    assert caught.value.reason is Reason.NOT_READY


async def test_of_a_version_that_the_engine_refuses_in_the_middle_nothing_stays_in_it():
    engine, table, _ = await opened(slots=1)
    engine.half.add("half")
    with pytest.raises(Failure) as caught:
        await Holder(table, "half").task
    assert caught.value.reason is Reason.WEIGHTS_REFUSED
    assert (engine.held, engine.memory) == ({}, {})
    good = Holder(table, "good")
    await settled()
    await good.let_go()


async def test_a_version_is_not_blamed_for_the_death_that_one_beside_it_brings_about():
    engine, table, _ = await opened(slots=3)
    engine.deadly.add("deadly")
    for _ in range(2):
        asked = [Holder(table, version).task for version in ("deadly", "good")]
        await settled()
        lost = table.suspend("gone")
        ends: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(end) for end in ends] == [EngineLost] * 2
        await engine.start()
        await table.resume(lost)
    with pytest.raises(Failure) as caught:
        await Holder(table, "deadly").task
    assert caught.value.reason is Reason.WEIGHTS_REFUSED
    good = Holder(table, "good")
    await settled()
    assert good.place.version == "good"
    await good.let_go()


@pytest.mark.sampled(every=5)
@pytest.mark.parametrize("seed", range(5))
async def test_any_order_of_requests_keeps_vllms_rules(seed):
    draw = random.Random(seed)
    engine, table, time = await opened(slots=3, running=6, waiting=1000)
    ids = itertools.count()

    async def one():
        version = draw.choice(["", "a", "b", "c", "d", "e"])
        async with table.place(f"t{next(ids) % 3}", stored(version) if version else None) as place:
            assert table.running <= 6
            if version:
                assert engine.held[place.adapter.engine_id] == version
                engine.running[place.adapter.engine_id] = engine.running.get(place.adapter.engine_id, 0) + 1
            for _ in range(draw.randrange(20)):
                await asyncio.sleep(0)
            time.advance(0.1)
            if version:
                engine.running[place.adapter.engine_id] -= 1

    async with asyncio.timeout(HANG_SECONDS):
        await asyncio.gather(*(one() for _ in range(300)))
    await settled()
    assert (table.running, table.waiting) == (0, 0)
    assert all(held.in_flight == 0 for held in table.residents())
