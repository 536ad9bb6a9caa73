"""A fault of our own inside a move between the tiers: who waits is told, and nothing stays on its way for ever."""

import asyncio
import gc
from contextlib import contextmanager

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.residency import Tier
from services.generator.supervision import EngineState
from tests.unit.generator.answering import World as Answering
from tests.unit.generator.engines import settled, stored
from tests.unit.generator.test_lost_engines import supervised
from tests.unit.generator.test_tiers import World


class Slip(RuntimeError):
    """What no code of ours foresees."""


@contextmanager
def faulty(thing, name, before=0):
    """A method that fails as no one foresaw, after so many calls."""
    original, calls = getattr(thing, name), []

    def fail(*arguments, **fields):
        calls.append(name)
        if len(calls) > before:
            raise Slip(name)
        return original(*arguments, **fields)

    setattr(thing, name, fail)
    # Objects of earlier tests are not this test's garbage, and a collection that includes them takes a second.
    gc.freeze()
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _loop, context: told.append(context["exception"]))
    try:
        yield told
    finally:
        setattr(thing, name, original)
        gc.collect()
        gc.unfreeze()
        loop.set_exception_handler(None)


async def use(world, version, seconds=10.0):
    async with asyncio.timeout(seconds), world.slots.place("t", stored(version)):
        pass
    await settled()


def on_their_way(world):
    return [held.stored.version for held in world.slots.residents() if world.slots.table.moves(*of(held))]


def of(held):
    return held.stored.version, held.adapter


@pytest.mark.parametrize("where", ["lift", "load", "lower", "unload", "drop"])
async def test_who_waits_for_a_move_that_fails_is_told_and_the_next_request_loads_again(where):
    world = await World(slots=1, memory=0 if where == "unload" else 1).open()
    await world.use("a", "b")
    with faulty(world.engine, where) as told:
        waiting = [asyncio.create_task(use(world, "c")) for _ in range(2)]
        for failure in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(failure, Failure)
            assert failure.reason is Reason.INTERNAL
            assert isinstance(failure.__cause__, Slip)
        await settled()
        assert not on_their_way(world)
        del waiting, failure
        gc.collect()
        assert told
    # What the engine holds beyond the table is no more than what it would not give back when it was asked to.
    if where in ("lift", "load"):
        assert len(world.engine.held) + len(world.engine.memory) == len(world.slots.residents())
        for version in ("c", "a", "b"):
            await use(world, version)
            assert world.in_slots == {version}


async def test_what_was_to_leave_stays_served_when_what_came_in_fails():
    world = await World(slots=1, memory=1).open()
    await world.use("a")
    with faulty(world.engine, "load"), pytest.raises(Failure):
        await use(world, "b")
    assert world.in_memory == {"a"}
    await use(world, "a")
    assert (world.in_slots, world.engine.lifts) == ({"a"}, ["a", "b"])


async def test_a_version_that_fails_on_its_way_into_memory_or_out_can_be_asked_for_again():
    world = await World(slots=1, memory=1).open()
    with faulty(world.engine, "lift"), pytest.raises(Slip):
        await world.slots.keep(stored("a"))
    assert not world.slots.residents()
    assert await world.slots.keep(stored("a"))
    assert world.tier(Tier.MEMORY) == {"a"}
    with faulty(world.engine, "drop"), pytest.raises(Slip):
        await world.slots.unload("a")
    assert not world.slots.residents()


async def test_a_fault_while_an_engine_is_rebuilt_costs_a_version_its_slot_and_not_the_engine_its_life():
    world = Answering()
    async with supervised(world) as supervisor:
        await world.run(version="v")
        await world.run(version="w")
        with faulty(world.engine, "load", before=1) as told:
            world.engine.dead.set()
            await settled()
            assert supervisor.state is EngineState.READY
        assert [str(fault) for fault in told] == ["load"]
        assert len(world.slots.residents()) == 1
        for version in ("v", "w"):
            assert (await world.run(version=version))[-1].opening.attestation.version == version
