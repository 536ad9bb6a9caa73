"""What serves already is fetched ahead of its requests, as near as there is room, and behind whoever waits."""

import asyncio

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.aliases import AliasSeen, Change
from services.generator.announcing import Word
from services.generator.priorities import Priority
from services.generator.residency import Tier
from tests.unit.generator.engines import settled, stored
from tests.unit.generator.following import SIGN_OF_LIFE, World, alias


@pytest.fixture
async def world(tmp_path):
    opened = await World(tmp_path).open()
    yield opened
    await opened.close()


async def test_what_serves_is_fetched_at_the_start_the_last_used_first_as_near_as_there_is_room(tmp_path):
    world = World(tmp_path, slots=2, memory=1)
    names = [f"v{number}" for number in range(5)]
    world.registry.known = [alias(name, name, name) for name in names]
    world.shelf.used = {name: float(age) for age, name in enumerate(names)}
    await world.open()
    await world.tell(SIGN_OF_LIFE)
    assert world.shelf.obtained == ["v4", "v3", "v2", "v1", "v0"]
    tiers = {held.stored.version: held.tier for held in world.slots.residents()}
    assert tiers == {"v4": Tier.SLOT, "v3": Tier.SLOT, "v2": Tier.MEMORY}
    assert world.registry.words("v2") == [Word.READY]
    assert world.registry.words("v1") == []
    await world.close()


async def test_what_serves_is_not_fetched_when_another_would_have_to_leave_for_it(world):
    world.shelf.room = False
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    assert world.shelf.obtained == []
    await world.tell(Change(2, alias("v2", "v1"), False, False))
    assert world.shelf.obtained == ["v2"], "what the registry waits for is"


def moved(target, previous):
    return AliasSeen("t", "m", "prod", target, target, False, previous=previous)


async def test_what_served_before_goes_to_memory_and_is_still_called_ready(tmp_path):
    world = await World(tmp_path, memory=4).open()
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1"), False, False), Change(2, moved("v1", ""), False, False))
    async with world.slots.place("t", stored("v1")):
        await world.tell(Change(3, alias("v2", "v1"), False, False), Change(4, moved("v2", "v1"), False, False))
        assert world.slots.table.get("v1").tier is Tier.SLOT
    await world.tell()
    assert world.slots.table.get("v1").tier is Tier.MEMORY
    assert world.priorities.of("v1") is Priority.PREVIOUS
    assert world.registry.last("v1") == (Word.READY, "")
    await world.close()


async def test_where_memory_has_no_room_what_served_before_keeps_its_slot_until_another_needs_it(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1"), False, False), Change(2, moved("v1", ""), False, False))
    await world.tell(Change(3, alias("v2", "v1"), False, False), Change(4, moved("v2", "v1"), False, False))
    assert world.resident == {"v1", "v2"}


async def test_a_registry_that_comes_back_hears_again_what_is_ready(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    world.registry.known = [alias("v1", "v1")]
    await world.tell(Failure(Reason.PEER_UNAVAILABLE, service="registry"))
    world.pauses.release()
    await world.tell(SIGN_OF_LIFE)
    assert world.registry.words("v1") == [Word.READY, Word.READY]


async def test_one_that_was_deleted_meanwhile_does_not_keep_the_others_from_being_told_of(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    await world.tell(Failure(Reason.PEER_UNAVAILABLE, service="registry"))
    world.registry.deaf = [Failure(Reason.VERSION_NOT_FOUND, name="v1")]
    world.pauses.release()
    await world.tell(SIGN_OF_LIFE, Change(2, alias("v2"), False, False))
    assert world.registry.last("v2") == (Word.READY, "")


async def test_a_target_waits_behind_requests_but_not_for_ever(world):
    ends = [asyncio.Event() for _ in range(8)]

    async def hold(end):
        async with world.slots.place("t", None):
            await end.wait()

    running = [asyncio.create_task(hold(end)) for end in ends]
    await settled()
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1"), False, False))
    waiting = asyncio.create_task(hold(ends[0]))
    await settled()
    ends[1].set()
    await settled()
    assert world.resident == set(), "the request that came later was first"
    ends[2].set()
    await settled()
    assert world.resident == {"v1"}
    for end in ends:
        end.set()
    await asyncio.gather(*running, waiting)
