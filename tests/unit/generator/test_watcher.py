"""Hot swap over a registry in memory: what is prepared, what is reported, what is retired."""

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest

from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import VersionFacts
from services.generator.aliases import AliasSeen, Change
from services.generator.announcing import Word
from services.generator.cursor import Cursor
from services.generator.holdings import Shared
from services.generator.places import Limits, Slots
from services.generator.priorities import Priority
from services.generator.residency import Tier
from services.generator.watcher import Watcher
from tests.unit.generator.engines import WEIGHT_BYTES, Inline, MemoryEngine, OneEngine, settled, stored

SIGN_OF_LIFE = Change(0, None, False, True)


class MemoryRegistry:
    """Aliases, a stream, and what was reported."""

    def __init__(self):
        self.known = []
        self.stream: asyncio.Queue[Any] = asyncio.Queue()
        self.after = []
        self.said = []
        self.refuse = []
        self.deaf = []

    @asynccontextmanager
    async def as_service(self):
        yield

    async def aliases(self):
        return list(self.known)

    async def changes(self, after):
        self.after.append(after)
        if self.refuse:
            raise self.refuse.pop()
        while True:
            item = await self.stream.get()
            if isinstance(item, Failure):
                raise item
            yield item

    async def facts(self, version):
        return VersionFacts(version, "")

    async def report(self, tenant, version, word, reason):
        if version and self.deaf:
            raise self.deaf.pop()
        if version:
            self.said.append((version, word, reason))

    def words(self, version):
        return [word for told, word, _ in self.said if told == version]

    def last(self, version):
        return [(word, reason) for told, word, reason in self.said if told == version][-1]


class Shelf:
    def __init__(self):
        self.fail = {}
        self.obtained = []
        self.used = {}
        self.room = True
        self.gates = {}

    async def obtain(self, facts, ended=lambda _: None):
        self.obtained.append(facts.version)
        if gates := self.gates.get(facts.version):
            await gates.pop(0).wait()
        if failures := self.fail.get(facts.version):
            raise failures.pop(0)
        return stored(facts.version)

    def used_at(self, version):
        return self.used.get(version, 0.0)

    def has_room(self, facts):
        return self.room


class Log:
    def info(self, event, **fields):
        pass

    error = info


class World:
    def __init__(self, tmp_path, slots=2, memory=0):
        self.engine = MemoryEngine(slots)
        shared = Shared()
        self.priorities = shared.priorities
        limits = Limits(8, 8, memory_bytes=memory * WEIGHT_BYTES)
        self.slots = Slots(self.engine, limits, lambda: 0.0, shared)
        self.registry = MemoryRegistry()
        self.shelf = Shelf()
        self.cursor = Cursor(tmp_path / "watch.json")
        self.pauses = asyncio.Semaphore(0)
        self.deletions = 0
        self.watcher = Watcher(
            self.registry,
            self.shelf,
            OneEngine(self.slots),
            self.cursor,
            Log(),
            heartbeat_seconds=1.0,
            pause=self._pause,
            version_deleted=[self._count_deletion],
            priorities=self.priorities,
        )

    def _count_deletion(self):
        self.deletions += 1

    async def _pause(self, seconds):
        if seconds == 1.0:
            await asyncio.Event().wait()
        await self.pauses.acquire()

    async def open(self):
        asyncio.get_running_loop().set_default_executor(Inline())
        await self.engine.start()
        await self.slots.resume([])
        self.life = asyncio.create_task(self.watcher.run())
        return self

    async def close(self):
        self.life.cancel()
        await asyncio.gather(self.life, return_exceptions=True)

    async def tell(self, *changes):
        for change in changes:
            self.registry.stream.put_nowait(change)
        await settled()

    @property
    def resident(self):
        return {held.stored.version for held in self.slots.residents()}


def alias(target, serving="", name="prod", pending=None):
    return AliasSeen("t", "m", name, target, serving, target != serving if pending is None else pending)


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
        assert reason == f"{failure.sentence} It is tried again."
        world.pauses.release()
        await world.tell()
    assert world.registry.last("v") == (Word.READY, "")


async def test_a_disk_that_fails_ends_nothing_and_is_tried_again(world):
    world.shelf.fail["v"] = [OSError(5, "Input/output error")]
    await world.tell(SIGN_OF_LIFE, Change(1, alias("v"), False, False))
    assert world.registry.last("v")[1] == "Its files cannot be kept here: Input/output error. It is tried again."
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


async def test_a_stream_that_no_longer_reaches_back_is_begun_anew(world):
    await world.tell(SIGN_OF_LIFE, Change(7, None, False, False))
    await world.tell(Failure(Reason.PEER_UNAVAILABLE, service="registry"))
    world.registry.refuse = [Failure(Reason.CURSOR_EXPIRED, sequence=7, oldest=9)]
    for _ in range(2):
        world.pauses.release()
        await world.tell()
    assert world.registry.after == [0, 7, 0]


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
