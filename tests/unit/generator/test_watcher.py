"""Hot swap over a registry in memory: what is prepared, what is reported, what is retired."""

import asyncio

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.aliases import Change
from services.generator.announcing import Word
from services.generator.cursor import Cursor
from tests.unit.generator.engines import settled, stored
from tests.unit.generator.following import SIGN_OF_LIFE, World, alias


@pytest.fixture
async def world(tmp_path):
    opened = await World(tmp_path).open()
    yield opened
    await opened.close()


async def test_a_new_target_is_loaded_beside_the_old_and_reported_ready(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1"), False, False))
    await world.tell(Change(2, alias("v1", "v1"), False, False), Change(3, alias("v2", "v1"), False, False))
    assert world.resident == {"v1", "v2"}
    assert world.registry.words("v2") == [Word.LOADING, Word.READY]


async def test_the_superseded_version_leaves_when_idle_and_not_before(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1"), False, False), Change(2, alias("v1", "v1"), False, False))
    async with world.slots.place("t", stored("v1")):
        await world.tell(Change(3, alias("v2", "v1"), False, False), Change(4, alias("v2", "v2"), False, False))
        assert world.resident == {"v1", "v2"}
    await world.tell()
    assert world.resident == {"v2"}


async def test_a_version_that_another_alias_serves_stays(world):
    await world.tell(
        SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False), Change(2, alias("v1", "v1", "beta"), False, False)
    )
    await world.tell(Change(3, alias("v2", "v1"), False, False), Change(4, alias("v2", "v2"), False, False))
    assert world.resident == {"v1", "v2"}


async def test_a_target_that_cannot_be_loaded_is_reported_with_the_reason_and_the_old_one_stays(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    world.shelf.fail["bad"] = [Failure(Reason.WEIGHTS_REFUSED, problem="NaN")]
    await world.tell(Change(2, alias("bad", "v1"), False, False))
    assert world.registry.words("bad") == [Word.LOADING, Word.FAILED]
    assert world.resident == {"v1"}


async def test_what_passes_is_tried_again_instead_of_reported_as_failed(world):
    world.shelf.fail["v"] = [Failure(Reason.PEER_UNAVAILABLE, service="registry")]
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v"), False, False))
    assert Word.FAILED not in world.registry.words("v")
    world.pauses.release()
    await world.tell()
    assert world.registry.words("v")[-1] is Word.READY


@pytest.mark.parametrize(
    "failure",
    [
        Failure(Reason.DISK_FULL, what="the adapters"),
        Failure(Reason.TENANT_CALLS_EXHAUSTED, limit=8),
        Failure(Reason.OVERLOADED, limit=8),
    ],
    ids=lambda failure: failure.reason.name,
)
async def test_what_makes_room_again_is_tried_again_and_told_meanwhile(world, failure):
    world.shelf.fail["v"] = [failure, failure]
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v"), False, False))
    for _ in range(2):
        word, reason = world.registry.last("v")
        assert word is Word.LOADING
        assert reason.startswith(failure.sentence)
        world.pauses.release()
        await world.tell()
    assert world.registry.last("v") == (Word.READY, "")


async def test_a_disk_that_fails_ends_nothing_and_is_tried_again(world):
    world.shelf.fail["v"] = [OSError(5, "Input/output error")]
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v"), False, False))
    word, reason = world.registry.last("v")
    assert word is Word.LOADING
    assert "Input/output error" in reason
    world.pauses.release()
    await world.tell()
    assert world.registry.last("v") == (Word.READY, "")


async def test_a_cursor_that_cannot_be_written_ends_nothing_and_is_tried_again(world, monkeypatch):
    def write(sequence):
        monkeypatch.undo()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(world.cursor, "write", write)
    await world.tell(SIGN_OF_LIFE, Change(1, None, False, False))
    assert world.cursor.read() == 0
    world.pauses.release()
    await world.tell(SIGN_OF_LIFE, Change(1, None, False, False))
    assert world.cursor.read() == 1


async def test_a_target_does_not_wait_for_what_was_fetched_of_it_ahead_and_is_not_forgotten_over_it(tmp_path):
    world = await World(tmp_path, slots=1).open()
    slow = asyncio.Event()
    world.shelf.gates["v"] = [slow]
    async with world.slots.place("t", stored("busy")):
        await world.tell(SIGN_OF_LIFE, Change(1, alias("v", "v"), False, False))
        await world.tell(Change(2, alias("v", "", "beta"), False, False))
        assert world.shelf.obtained == ["v", "v"]
        slow.set()
        await settled()
    await world.tell()
    assert world.registry.last("v") == (Word.READY, "")
    assert world.resident == {"v"}
    await world.close()


async def test_a_target_that_nobody_wants_any_more_is_not_tried_again(world):
    world.shelf.fail["v"] = [Failure(Reason.DISK_FULL, what="the adapters")]
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v"), False, False))
    await world.tell(Change(2, alias("v"), True, False))
    world.pauses.release()
    await world.tell()
    assert world.resident == set()


async def serve(world, *versions):
    """Let an alias move from version to version."""
    serving = ""
    for version in versions:
        await world.tell(Change(0, alias(version, serving), False, False))
        await world.tell(Change(0, alias(version, version), False, False))
        serving = version


async def test_a_retired_version_is_no_longer_called_ready_and_is_loaded_anew_when_the_alias_goes_back(world):
    await world.tell(SIGN_OF_LIFE)
    await serve(world, "v1", "v2")
    assert world.resident == {"v2"}
    assert world.registry.last("v1") == (Word.LOADING, "it was superseded and unloaded")
    await world.tell(Change(0, alias("v1", "v2"), False, False))
    assert world.registry.words("v1")[-2:] == [Word.LOADING, Word.READY]
    assert world.resident == {"v1", "v2"}


async def test_a_version_is_not_retired_while_the_registry_still_believes_it_ready(world):
    await world.tell(SIGN_OF_LIFE)
    await serve(world, "v1")
    await world.tell(Change(0, alias("v2", "v1"), False, False))
    world.registry.deaf = [Failure(Reason.PEER_UNAVAILABLE, service="registry")]
    await world.tell(Change(0, alias("v2", "v2"), False, False))
    assert world.resident == {"v1", "v2"}


async def test_an_evicted_version_is_no_longer_called_ready(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    assert world.registry.last("v1") == (Word.READY, "")
    async with world.slots.place("t", stored("a")):
        await world.slots.warm("t", stored("b"))
    await world.tell()
    assert "v1" not in world.resident
    assert world.registry.last("v1") == (Word.LOADING, "it was unloaded to make room")


async def test_a_target_that_was_evicted_before_the_alias_moved_is_loaded_again(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v", "old"), False, False))
    await world.slots.unload("v")
    await world.tell()
    assert world.registry.words("v") == [Word.LOADING, Word.READY, Word.LOADING, Word.LOADING, Word.READY]
    assert "v" in world.resident


async def test_an_eviction_that_the_registry_did_not_hear_of_is_told_again(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    world.registry.deaf = [Failure(Reason.PEER_UNAVAILABLE, service="registry")]
    await world.slots.unload("v1")
    await world.tell()
    assert world.registry.last("v1") == (Word.READY, "")
    world.pauses.release()
    await world.tell()
    assert world.registry.last("v1")[0] is Word.LOADING


async def test_a_deleted_version_that_leaves_holds_up_no_other_word(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    world.registry.deaf = [Failure(Reason.VERSION_NOT_FOUND, name="v1")]
    await world.slots.unload("v1")
    await world.tell(Change(2, alias("v2", "v2", "beta"), False, False))
    await world.slots.unload("v2")
    await world.tell()
    assert world.registry.last("v1") == (Word.READY, "")
    assert world.registry.last("v2") == (Word.LOADING, "it was unloaded to make room")


async def test_deletions_are_passed_on(world):
    await world.tell(SIGN_OF_LIFE, Change(1, None, False, False), Change(2, None, False, False, version_deleted=True))
    assert world.deletions == 1


async def test_versions_of_a_lost_engine_are_no_longer_called_ready(world):
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v1", "v1"), False, False))
    world.slots.suspend("the engine was lost")
    await world.tell()
    assert world.registry.last("v1")[0] is Word.LOADING


async def test_history_is_read_before_it_is_acted_upon(world):
    await world.tell(Change(1, alias("old"), False, False), Change(2, alias("new", "old"), False, False), SIGN_OF_LIFE)
    assert world.registry.words("old") == []
    assert world.registry.words("new")[-1] is Word.READY


async def test_the_stream_is_resumed_after_the_last_number_and_begun_anew_when_that_is_unknown(world):
    await world.tell(SIGN_OF_LIFE, Change(7, None, False, False))
    await world.tell(Failure(Reason.PEER_UNAVAILABLE, service="registry"))
    world.registry.refuse = [Failure(Reason.CURSOR_UNKNOWN, sequence=7, newest=3)]
    world.pauses.release()
    await world.tell()
    world.pauses.release()
    await world.tell()
    assert world.registry.after == [0, 7, 0]


async def test_a_damaged_cursor_file_begins_anew(tmp_path):
    (tmp_path / "watch.json").write_text("{nonsense")
    assert Cursor(tmp_path / "watch.json").read() == 0


async def test_a_stream_that_no_longer_reaches_back_is_begun_anew(world):
    await world.tell(SIGN_OF_LIFE, Change(7, None, False, False))
    await world.tell(Failure(Reason.PEER_UNAVAILABLE, service="registry"))
    world.registry.refuse = [Failure(Reason.CURSOR_EXPIRED, sequence=7, oldest=9)]
    for _ in range(2):
        world.pauses.release()
        await world.tell()
    assert world.registry.after == [0, 7, 0]
