"""Versions that an alias tries, and the one that it served before: loaded beside it, reported, retired."""

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.aliases import AliasSeen, Change
from services.generator.announcing import Word
from tests.unit.generator.following import SIGN_OF_LIFE, World, alias


@pytest.fixture
async def world(tmp_path):
    opened = await World(tmp_path).open()
    yield opened
    await opened.close()


def tried(serving, *canaries, previous=""):
    """An alias that serves one version and tries others; each with whether the registry waits for a word on it."""
    return AliasSeen("t", "m", "prod", serving, serving, False, canaries, previous)


async def test_a_canary_is_loaded_beside_what_serves_and_reported_ready(world):
    await world.tell(SIGN_OF_LIFE, Change(1, tried("v1"), False, False))
    await world.tell(Change(2, tried("v1", ("v2", True)), False, False))
    assert world.resident == {"v1", "v2"}
    assert world.registry.words("v2") == [Word.LOADING, Word.READY]


async def test_a_canary_that_cannot_be_loaded_is_reported_and_what_serves_stays(world):
    world.shelf.fail["bad"] = [Failure(Reason.WEIGHTS_REFUSED, problem="NaN")]
    await world.tell(SIGN_OF_LIFE, Change(1, tried("v1", ("bad", True)), False, False))
    assert world.registry.words("bad") == [Word.LOADING, Word.FAILED]
    assert world.resident == {"v1"}


async def test_a_canary_that_was_evicted_before_it_was_counted_is_loaded_again(world):
    await world.tell(SIGN_OF_LIFE, Change(1, tried("v1", ("v2", True)), False, False))
    await world.slots.unload("v2")
    await world.tell()
    assert world.registry.words("v2")[-1] is Word.READY
    assert "v2" in world.resident


async def test_a_canary_that_ends_leaves_and_one_that_serves_elsewhere_stays(world):
    await world.tell(SIGN_OF_LIFE, Change(1, tried("v1", ("v2", True)), False, False))
    await world.tell(Change(2, tried("v1", ("v2", False)), False, False), Change(3, tried("v1"), False, False))
    assert world.resident == {"v1"}
    await world.tell(Change(4, alias("v2", "v2", "beta"), False, False))
    await world.tell(Change(5, tried("v1", ("v2", False)), False, False), Change(6, tried("v1"), False, False))
    assert world.resident == {"v1", "v2"}


async def test_what_served_before_stays_loaded_until_it_is_not_the_previous_one_any_more(world):
    await world.tell(SIGN_OF_LIFE, Change(1, tried("v1"), False, False))
    await world.tell(Change(2, alias("v2", "v1"), False, False), Change(3, tried("v2", previous="v1"), False, False))
    assert world.resident == {"v1", "v2"}
    assert world.registry.last("v1") == (Word.READY, "")
    await world.tell(Change(4, tried("v2", previous="other"), False, False))
    assert world.resident == {"v2"}


async def test_the_canaries_of_a_deleted_alias_leave(world):
    await world.tell(SIGN_OF_LIFE, Change(1, tried("v1", ("v2", True)), False, False))
    await world.tell(Change(2, tried("v1", ("v2", False)), True, False))
    assert world.resident == set()
