"""Events of changes are on the disk before anybody waits no longer, and access has each once, whatever dies or is away."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.chassis.auditing.journal import MAX_EVENT_BYTES, Journal, LeftBehind, frames
from services.chassis.auditing.trail import Trail
from services.chassis.errors import Failure, Reason
from services.chassis.logs import logger
from tests.harness.timeouts import HANG_SECONDS
from tests.small_disk import small_disk

ROOM = 10 * MAX_EVENT_BYTES


class Access:
    """Access, reachable or not: keeps what it is told, each event once."""

    def __init__(self, *, reachable: bool = True, refuses: bytes = b"", forgets_to_answer: int = 0) -> None:
        self.reachable = reachable
        self.refuses = refuses
        self.forgets_to_answer = forgets_to_answer
        self.kept: dict[bytes, None] = {}
        self.calls: list[int] = []

    async def record(self, events) -> list[str]:
        self.calls.append(len(events))
        if not self.reachable:
            raise Failure(Reason.PEER_UNAVAILABLE, service="access")
        if self.refuses in events:
            raise Failure(Reason.FIELD_INVALID, field="events", problem="one is wrong")
        self.kept.update(dict.fromkeys(events))
        if self.forgets_to_answer:
            self.forgets_to_answer -= 1
            raise Failure(Reason.PEER_UNAVAILABLE, service="access")
        return [""] * len(events)


async def soon(_: float) -> None:
    await asyncio.sleep(0.001)


@asynccontextmanager
async def running(
    access: Access, folder: Path, name: str = "a", pause: Callable[[float], Awaitable[object]] = soon
) -> AsyncIterator[Trail]:
    trail = Trail(folder, name, logger("test"), pause)
    task = asyncio.create_task(trail.run(access))
    async with asyncio.timeout(HANG_SECONDS):
        yield trail
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def record(trail: Trail, event: bytes) -> None:
    await trail.promise()
    await trail.enter(event)


async def until(holds: Callable[[], object]) -> None:
    async with asyncio.timeout(HANG_SECONDS):
        # What is waited for is on the disk or in a fake, which tell nobody.
        while not holds():  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0.001)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def on_disk(folder: Path) -> list[bytes]:
    """What the one journal in the folder holds."""
    (path,) = folder.glob("*.journal")
    return list(frames(path.read_bytes()))


def fill(folder: Path) -> None:
    """Take what is left of the disk."""
    with (folder / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4096)):
            pass


async def promised_until_refused(trail: Trail) -> int:
    """How many events there was room for."""
    taken = 0
    with suppress(Failure):
        while True:
            await trail.promise()
            taken += 1
    return taken


def written(path: Path, *events: bytes) -> bytes:
    """What the file of a process that died holds."""
    journal = Journal(path)
    journal.find_room(ROOM)
    journal.append(events)
    journal.close()
    return path.read_bytes()


def test_of_a_torn_tail_the_events_before_it_are_read_and_nothing_else(tmp_path: Path) -> None:
    content = written(tmp_path / "a.journal", b"first", b"second", b"third")
    whole = content.index(b"third") + len(b"third")
    assert list(frames(content)) == [b"first", b"second", b"third"]
    begun = content.index(b"third") - 8
    for end in range(begun, whole):
        assert list(frames(content[:end])) == [b"first", b"second"]
        torn = content[:end] + bytes([content[end] ^ 0xFF]) + content[end + 1 :]
        assert list(frames(torn)) == [b"first", b"second"], end


async def test_what_a_process_left_when_it_died_is_told_by_the_next_one(tmp_path: Path) -> None:
    written(tmp_path / "dead.journal", b"one", b"two")
    access = Access()
    async with running(access, tmp_path):
        await until(lambda: not names(tmp_path))
    assert list(access.kept) == [b"one", b"two"]


async def test_the_journal_of_a_process_that_lives_is_not_taken(tmp_path: Path) -> None:
    living = Journal(tmp_path / "living.journal")
    living.find_room(ROOM)
    living.append([b"mine"])
    assert LeftBehind.taken(living.path) is None
    living.close()
    left = LeftBehind.taken(living.path)
    assert left is not None
    assert left.events() == [b"mine"]
    left.close(remove=True)
    assert LeftBehind.taken(living.path) is None


async def test_what_a_child_of_the_dead_process_still_holds_is_told_soon_after_that_has_ended_too(
    tmp_path: Path,
) -> None:
    dead = Journal(tmp_path / "dead.journal")
    dead.find_room(ROOM)
    dead.append([b"one"])
    # A child has its parent's descriptors until it becomes another program.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    dead.close()
    waited: list[float] = []

    async def pause(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            os.close(writing)
            await asyncio.to_thread(os.waitpid, child, 0)
        await soon(seconds)

    access = Access()
    async with running(access, tmp_path, pause=pause):
        await until(lambda: not names(tmp_path))
    assert list(access.kept) == [b"one"]
    assert len(waited) >= 3
    assert sum(waited[:3]) < 5


async def test_an_event_is_on_the_disk_when_its_call_may_be_answered(tmp_path: Path) -> None:
    async with running(Access(reachable=False), tmp_path) as trail:
        await record(trail, b"one")
        assert on_disk(tmp_path) == [b"one"]


async def test_while_access_is_away_nobody_waits_for_it_and_then_it_is_told_all_in_order(tmp_path: Path) -> None:
    access, back = Access(reachable=False), asyncio.Event()
    events = [f"event {number}".encode() for number in range(300)]

    async def pause(seconds: float) -> None:
        await (soon(0) if seconds == 0.2 else back.wait())

    async with running(access, tmp_path, pause=pause) as trail:
        for event in events:
            await record(trail, event)
        assert not access.kept
        access.reachable = True
        back.set()
        await until(lambda: len(access.kept) == len(events))
    assert list(access.kept) == events
    assert not names(tmp_path)


async def test_what_access_kept_without_answering_is_told_again_and_is_there_once(tmp_path: Path) -> None:
    access = Access(forgets_to_answer=2)
    async with running(access, tmp_path) as trail:
        await record(trail, b"one")
        await until(lambda: len(access.calls) == 3)
        await record(trail, b"two")
        await until(lambda: len(access.kept) == 2)
    assert list(access.kept) == [b"one", b"two"]


async def test_an_event_that_access_refuses_holds_up_no_other(tmp_path: Path) -> None:
    access = Access(refuses=b"wrong")
    async with running(access, tmp_path) as trail:
        await asyncio.gather(*(record(trail, event) for event in (b"one", b"wrong", b"two")))
        await until(lambda: len(access.kept) == 2)
        await record(trail, b"three")
        await until(lambda: len(access.kept) == 3)
    # Changes made side by side ask for room in threads, so their events enter in any order.
    assert set(access.kept) == {b"one", b"two", b"three"}


async def test_what_ends_together_goes_to_the_disk_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    original = os.fdatasync

    def counted(descriptor: int) -> None:
        synced.append(descriptor)
        original(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    async with running(Access(), tmp_path) as trail:
        await asyncio.gather(*(record(trail, str(number).encode()) for number in range(100)))
    assert len(synced) < 10


async def test_a_change_for_whose_event_there_is_no_room_is_refused_before_it_is_made(tmp_path: Path) -> None:
    with small_disk(tmp_path / "audit", "512k") as folder:
        async with running(Access(), folder) as trail:
            with pytest.raises(Failure) as refused:
                await trail.promise()
            assert refused.value.reason is Reason.DISK_FULL
            assert "nothing" in refused.value.sentence
        assert not names(folder)


async def test_room_that_was_promised_stays_when_the_disk_fills_up(tmp_path: Path) -> None:
    with small_disk(tmp_path / "audit", "1100k") as folder:
        async with running(Access(reachable=False), folder) as trail:
            await trail.promise()
            fill(folder)
            await trail.enter(b"x" * 4000)
            # What of the room nobody was promised is used too, and then changes are refused.
            taken = await promised_until_refused(trail)
            assert taken > 100
            trail.waive()
            await trail.promise()


async def test_a_disk_that_fails_for_a_while_holds_answers_back_until_it_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [OSError(5, "Input/output error")] * 2
    original = os.fdatasync

    def failing(descriptor: int) -> None:
        if failures:
            raise failures.pop()
        original(descriptor)

    monkeypatch.setattr(os, "fdatasync", failing)
    async with running(Access(reachable=False), tmp_path) as trail:
        await record(trail, b"one")
        assert not failures
        assert on_disk(tmp_path) == [b"one"]


async def test_what_ends_with_the_server_is_on_the_disk(tmp_path: Path) -> None:
    async with running(Access(reachable=False), tmp_path) as trail:
        await trail.promise()
        trail.enter(b"last")
    # Written by whoever came first, or by both: access keeps it once.
    assert set(on_disk(tmp_path)) == {b"last"}
