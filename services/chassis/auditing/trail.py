"""Events from the call to access: on the disk before the answer leaves, all that end together in one sync.

Invariants: a change whose answer says that it was made has its event on this disk; access has each event once,
whatever is killed or away in between, because an event is told until access has answered and its id is the same
every time.  A change that could not be put on the disk is refused before it is made.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

from services.chassis.auditing.journal import MAX_EVENT_BYTES, Journal, LeftBehind
from services.chassis.errors import Code, Failure
from services.chassis.logs import Log

T = TypeVar("T")

# Events that go to the disk, and to access, at once.
_BATCH = 256
# What ends within this time after the first is told to access with it.
_GATHER_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
# How often files of processes that are gone are looked for; at first the pause is short and doubles.  A file stays locked
# while a child that the killed process was starting has its descriptors still, which is until that child becomes another
# program or hears that it is to end: seconds, where others have the processors.
_LOOK_SECONDS = 60.0
_FIRST_LOOK_SECONDS = 0.5
_LAST_WORDS_SECONDS = 1.0


class EventLog(Protocol):
    """Access as the trail uses it.  Raises Failure."""

    async def record(self, events: Sequence[bytes]) -> list[str]:
        """Keep events, each once for its id; the reason why each was refused, empty where it is kept."""


class Trail:
    """The events of one process."""

    def __init__(
        self, folder: Path, name: str, log: Log, pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """``name`` is another in every process; nothing is made in the folder before the first change."""
        self._folder = folder
        self._journal = Journal(folder / f"{name}.journal")
        # One thread, so that what is done with the journal is done one after another.
        self._disk = ThreadPoolExecutor(1, "audit-journal")
        self._log = log
        self._pause = pause
        self._promised = 0
        self._entered: deque[tuple[bytes, asyncio.Future[None]]] = deque()
        self._called = asyncio.Event()
        self._written = asyncio.Event()
        # Whether access answered the last time.
        self._heard = False

    async def promise(self) -> None:
        """Have room for one event more, which is then entered or waived.  Raises DISK_FULL."""
        self._promised += 1
        if self._journal.room >= self._promised * MAX_EVENT_BYTES:
            return
        try:
            await self._on_disk(self._journal.find_room, self._promised * MAX_EVENT_BYTES)
        except BaseException:
            self._promised -= 1
            raise

    def waive(self) -> None:
        """Nothing was changed: give back the room."""
        self._promised -= 1

    def enter(self, event: bytes) -> "asyncio.Future[None]":
        """Put an event that was promised on its way; done when it is durable."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._entered.append((event, durable))
        self._called.set()
        return durable

    async def run(self, access: EventLog) -> None:
        """Write and tell for as long as the server lives."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._write())
                tasks.create_task(self._tell(access))
                tasks.create_task(self._tell_what_was_left(access))
        finally:
            await self._end(access)

    async def _write(self) -> None:
        while True:
            await self._called.wait()
            self._called.clear()
            while self._entered:
                await self._write_some()

    async def _write_some(self) -> None:
        batch = list(islice(self._entered, _BATCH))
        try:
            await self._on_disk(self._journal.append, [event for event, _ in batch])
        except OSError as error:
            # There is room, so the disk itself fails.  No answer leaves before it has recovered.
            self._log.error("audit_journal_fails", events=len(batch), exc_info=error)
            await self._pause(_FIRST_PAUSE_SECONDS)
            return
        for _, durable in batch:
            self._entered.popleft()
            self._promised -= 1
            if not durable.done():
                durable.set_result(None)
        self._written.set()

    async def _tell(self, access: EventLog) -> None:
        while True:
            await self._written.wait()
            await self._pause(_GATHER_SECONDS)
            self._written.clear()
            while self._journal.told < self._journal.end:
                events, place = await self._on_disk(self._journal.untold, _BATCH)
                await self._until_told(access, events)
                self._journal.told = place
            await self._on_disk(self._journal.begin_again)

    async def _tell_what_was_left(self, access: EventLog) -> None:
        pause = _FIRST_LOOK_SECONDS
        while True:
            paths = await asyncio.to_thread(lambda: sorted(self._folder.glob("*.journal")))
            for path in paths:
                # Here and not in a thread, whose outcome a server that ends would not wait for.
                left = LeftBehind.taken(path)
                if left is not None:
                    await self._tell_one_left(access, left)
            await self._pause(pause)
            pause = min(pause * 2, _LOOK_SECONDS)

    async def _tell_one_left(self, access: EventLog, left: LeftBehind) -> None:
        told = False
        try:
            events = await asyncio.to_thread(left.events)
            for start in range(0, len(events), _BATCH):
                await self._until_told(access, events[start : start + _BATCH])
            told = True
        finally:
            left.close(remove=told)

    async def _until_told(self, access: EventLog, events: Sequence[bytes]) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._told_once(access, events)
            except Failure as failure:
                if pause == _FIRST_PAUSE_SECONDS:
                    self._log.warning("audit_events_wait", events=len(events), why=failure.reason.name)
                self._heard = False
                await self._pause(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
                continue
            self._heard = True
            return

    async def _told_once(self, access: EventLog, events: Sequence[bytes]) -> None:
        try:
            reasons = await access.record(events)
        except Failure as failure:
            # Said of the request: whatever of it is wrong is wrong of one event, which holds up no other.
            if failure.code is not Code.INVALID_ARGUMENT:
                raise
            if len(events) > 1:
                for event in events:
                    await self._told_once(access, [event])
                return
            reasons = [failure.reason.name]
        for event, reason in zip(events, reasons, strict=True):
            if reason:
                self._log.error("audit_event_refused", reason=reason, change=event.hex())

    async def _end(self, access: EventLog) -> None:
        """Keep what ended with the server, and tell what access takes at once; the rest is for the next process."""
        if self._entered:
            # Some of it may be there already: its ids are the same.
            await self._on_disk(self._journal.append, [event for event, _ in self._entered])
        if self._heard and self._journal.told < self._journal.end:
            try:
                async with asyncio.timeout(_LAST_WORDS_SECONDS):
                    while self._journal.told < self._journal.end:
                        events, place = await self._on_disk(self._journal.untold, _BATCH)
                        await self._told_once(access, events)
                        self._journal.told = place
            except (TimeoutError, Failure) as error:
                self._log.info("audit_events_left", why=type(error).__name__)
        await self._on_disk(self._journal.close)
        self._disk.shutdown(wait=False)

    async def _on_disk(self, function: Callable[..., T], *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, partial(function, *arguments))
