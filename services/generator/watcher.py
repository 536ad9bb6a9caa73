"""Hot swap: follows the registry's aliases, loads new targets beside the old, says when they are ready.

A stream of changes is resumed after the last sequence number that was acted upon.
Invariants: a target is reported READY only after the engine held it, and no longer when
it has left; a target that cannot be loaded is reported FAILED with the reason and the
versions that serve stay, but what only passes (a full disk, too much to do, a registry
that is away) is tried again for as long as an alias names the version, and told; a
superseded version is unloaded only when nobody uses it and no alias names it.  What serves
already is fetched ahead of its requests, the last used first, as far as slots, host memory and
local files have room, one at a time and behind whoever waits for an answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.chassis.errors import Code, Failure, Reason
from services.chassis.files import write_atomically
from services.generator.adapter_files import VersionFacts
from services.generator.announcing import Announcements, Holder, Listener
from services.generator.priorities import Priorities, Priority
from services.generator.residency import Resident
from services.generator.supervision import Log

# Answers that say nothing about the version: try again.
_PASSING = frozenset(
    {
        Code.UNAVAILABLE,
        Code.DEADLINE_EXCEEDED,
        Code.UNAUTHENTICATED,
        Code.CANCELLED,
        Code.ABORTED,
        Code.RESOURCE_EXHAUSTED,
    }
)
_PAUSE_SECONDS = 2.0
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
# Targets that are fetched and checked at once: each takes a process while it is checked.
_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class AliasSeen:
    """An alias as the registry last told it; ``pending`` while its target does not serve yet.

    ``canaries`` are versions that get a share of its requests, each with whether it waits for generators;
    ``previous`` served before and stays loaded while there is room, so that going back to it takes no time.
    """

    tenant: str
    model: str
    alias: str
    target: str
    serving: str
    pending: bool
    canaries: tuple[tuple[str, bool], ...] = ()
    previous: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What identifies it."""
        return self.tenant, self.model, self.alias

    @property
    def wanted(self) -> tuple[tuple[str, bool], ...]:
        """Versions that are to be loaded for it, each with whether the registry waits for our word on it."""
        main = (self.target, True) if self.pending else (self.serving, False)
        return tuple(want for want in (main, *self.canaries) if want[0])

    @property
    def classes(self) -> tuple[tuple[str, Priority], ...]:
        """Versions that it names, each with what it makes of them."""
        tried = [version for version, _ in self.canaries] + ([self.target] if self.pending else [])
        named = [(version, Priority.CANDIDATE) for version in tried]
        return ((self.serving, Priority.SERVING), (self.previous, Priority.PREVIOUS), *named)

    @property
    def held(self) -> frozenset[str]:
        """Versions that stay loaded for it once they are."""
        return frozenset({self.serving, self.previous, *(version for version, _ in self.canaries)} - {""})

    def waits_for(self, version: str) -> bool:
        """Whether the registry waits for our word on a version."""
        return (version, True) in self.wanted


@dataclass(frozen=True, slots=True)
class Change:
    """One message of the stream; ``sequence`` 0 for a sign of life."""

    sequence: int
    alias: AliasSeen | None
    deleted: bool
    caught_up: bool
    version_deleted: bool = False


class Registry(Listener, Protocol):
    """The registry as the watcher needs it, all of it under the service's own identity."""

    async def aliases(self) -> Sequence[AliasSeen]:
        """Every tenant's aliases."""
        ...

    def changes(self, after: int) -> AsyncIterator[Change]:
        """Changes after a sequence number.  Raises CURSOR_UNKNOWN, CURSOR_EXPIRED."""
        ...

    async def facts(self, version: str) -> VersionFacts:
        """A version of any tenant."""
        ...


class Shelf(Protocol):
    """Where versions lie, verified."""

    async def obtain(self, facts: VersionFacts) -> Any:
        """What :meth:`Held.warm` takes.  Raises WEIGHTS_REFUSED, BASE_MISMATCH, TEMPLATE_MISMATCH."""
        ...

    def used_at(self, version: str) -> float:
        """When a version that lies here was last used, in Unix seconds; 0 for one that does not."""
        ...

    def has_room(self, facts: VersionFacts) -> bool:
        """Whether a version lies here, or could without another's leaving."""
        ...


class Held(Holder, Protocol):
    """What this generator holds, and how more comes to be held; see ``fleet``."""

    def residents(self) -> tuple[Resident, ...]:
        """What the engines hold now."""
        ...

    async def warm(self, tenant: str, prepared: Any, *, pending: bool) -> object:
        """Load a version beside the running ones; unless an alias is ``pending`` for it, as near as there is room."""
        ...

    async def lower(self, version: str) -> None:
        """Out of its slot into host memory, once idle and if that has room."""
        ...

    async def unload(self, version: str) -> None:
        """Unload once idle.  Raises ADAPTER_NOT_RESIDENT."""
        ...


class Cursor:
    """The last sequence number that was acted upon, durable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """The number, 0 at first or when the file is damaged.  Blocks."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(json.loads(self._path.read_text("utf-8"))["sequence"])
        return 0

    def write(self, sequence: int) -> None:
        """Store the number.  Blocks."""
        write_atomically(self._path, json.dumps({"sequence": sequence}).encode())


class Watcher:
    """The loop that follows the registry."""

    def __init__(
        self,
        registry: Registry,
        files: Shelf,
        slots: Held,
        cursor: Cursor,
        log: Log,
        *,
        heartbeat_seconds: float,
        pause: Callable[[float], Awaitable[None]],
        version_deleted: Sequence[Callable[[], None]] = (),
        priorities: Priorities | None = None,
    ) -> None:
        self._registry = registry
        self._files = files
        self._slots = slots
        self._cursor = cursor
        self._log = log
        self._heartbeat_seconds = heartbeat_seconds
        self._pause = pause
        self._version_deleted = version_deleted
        self._priorities = priorities or Priorities()
        # What the registry waits for goes on while one version is fetched that only might be asked for.
        self._turns = {True: asyncio.Semaphore(_AT_ONCE), False: asyncio.Semaphore(1)}
        self._known: dict[tuple[str, str, str], AliasSeen] = {}
        self._preparing: dict[str, asyncio.Task[None]] = {}
        self._group = asyncio.TaskGroup()
        self._announcements = Announcements(registry, slots, pause, self._again)

    async def run(self) -> None:
        """Follow until cancelled; what fails is begun again after a pause."""
        async with self._group:
            self._group.create_task(self._beat(), name="heartbeat")
            self._group.create_task(self._announcements.follow(), name="announcements")
            while True:
                try:
                    async with self._registry.as_service():
                        await self._follow()
                except Failure as failure:
                    if failure.reason in (Reason.CURSOR_UNKNOWN, Reason.CURSOR_EXPIRED):
                        await asyncio.to_thread(self._cursor.write, 0)
                    self._log.info("watch_interrupted", reason=failure.reason.name)
                await self._pause(_PAUSE_SECONDS)

    async def _beat(self) -> None:
        while True:
            with suppress(Failure):
                async with self._registry.as_service():
                    await self._registry.report("", "", None, "")
            await self._pause(self._heartbeat_seconds)

    async def _follow(self) -> None:
        after = await asyncio.to_thread(self._cursor.read)
        self._known = {alias.key: alias for alias in await self._registry.aliases()}
        self._classify()
        live = False
        async for change in self._registry.changes(after):
            before = self._note(change)
            if change.caught_up and not live:
                live = True
                await self._announcements.again()
                for alias in sorted(self._known.values(), key=self._urgency):
                    self._prepare(alias)
            elif live and change.alias is not None:
                self._act(change, before)
            if change.version_deleted:
                for hear in self._version_deleted:
                    hear()
            if change.sequence:
                await asyncio.to_thread(self._cursor.write, change.sequence)

    def _note(self, change: Change) -> AliasSeen | None:
        """Remember what a change says; returns what was known before."""
        if change.alias is None:
            return None
        before = self._known.get(change.alias.key)
        if change.deleted:
            self._known.pop(change.alias.key, None)
        else:
            self._known[change.alias.key] = change.alias
        self._classify()
        return before

    def _classify(self) -> None:
        self._priorities.set(named for alias in self._known.values() for named in alias.classes)

    def _urgency(self, alias: AliasSeen) -> tuple[bool, float]:
        """What the registry waits for first, then what was used last."""
        return not alias.pending, -self._files.used_at(alias.serving)

    def _act(self, change: Change, before: AliasSeen | None) -> None:
        alias = change.alias
        assert alias is not None
        if not change.deleted:
            self._prepare(alias)
        left = before.held if before is not None else frozenset()
        for version in left - (frozenset() if change.deleted else alias.held):
            if not self._named(version):
                self._group.create_task(self._retire(version), name=f"retire {version}")
        if not change.deleted and alias.previous in left and self._priorities.of(alias.previous) is Priority.PREVIOUS:
            # A slot is for what serves; in host memory it is as good as ready to serve again.
            self._group.create_task(self._slots.lower(alias.previous), name=f"lower {alias.previous}")

    def _named(self, version: str) -> bool:
        return any(version == alias.target or version in alias.held for alias in self._known.values())

    def _prepare(self, alias: AliasSeen) -> None:
        """Load what an alias is about to serve or to try; what already serves, when there is room anyway."""
        for version, pending in alias.wanted:
            self._begin(alias, version, pending)

    def _begin(self, alias: AliasSeen, version: str, pending: bool) -> None:
        if version in self._preparing:
            return
        if not pending and self._slots.holds(version):
            return
        task = self._group.create_task(self._make_ready(alias, version), name=f"prepare {version}")
        self._preparing[version] = task
        task.add_done_callback(lambda _: self._preparing.pop(version, None))

    def _again(self, version: str) -> None:
        """A version that was ready has left its slot: whoever still waits for it waits for us."""
        for alias in self._known.values():
            if alias.waits_for(version):
                self._begin(alias, version, pending=True)

    async def _make_ready(self, alias: AliasSeen, version: str) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        held_up = ""
        while self._named(version):
            try:
                if await self._made_ready(alias, version, held_up):
                    self._log.info("version_ready", version=version, model=alias.model)
                    return
                held_up = "it was unloaded to make room"
            except Failure as failure:
                if failure.code not in _PASSING:
                    await self._give_up(alias, version, failure)
                    return
                held_up = failure.sentence
                self._log.info("version_waits", version=version, model=alias.model, reason=failure.reason.name)
                with suppress(Failure):
                    await self._announcements.loading(alias.tenant, version, f"{held_up} It is tried again.")
            await self._pause(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    async def _made_ready(self, alias: AliasSeen, version: str, held_up: str) -> bool:
        """One attempt; False when the version was evicted before it could be announced."""
        awaited = alias.waits_for(version)
        async with self._turns[awaited]:
            if awaited and not held_up:
                await self._announcements.loading(alias.tenant, version)
            async with self._registry.as_service():
                facts = await self._registry.facts(version)
                if not awaited and not self._files.has_room(facts):
                    return True
                stored = await self._files.obtain(facts)
            if not awaited:
                await self._slots.warm(alias.tenant, stored, pending=False)
        if awaited:
            await self._slots.warm(alias.tenant, stored, pending=True)
        return await self._announcements.ready(alias.tenant, version) or not awaited

    async def _give_up(self, alias: AliasSeen, version: str, failure: Failure) -> None:
        self._log.error("version_failed", version=version, model=alias.model, reason=failure.reason.name)
        with suppress(Failure):
            await self._announcements.failed(alias.tenant, version, failure.sentence)

    async def _retire(self, version: str) -> None:
        pinned = any(held.pinned for held in self._slots.residents() if held.stored.version == version)
        if pinned or not self._slots.holds(version):
            return
        with suppress(Failure):
            # First, so that an alias which is set back to it from now on waits for our word.
            await self._announcements.withdraw(version, "it was superseded and unloaded")
            if not self._named(version):
                await self._slots.unload(version)
                self._log.info("version_retired", version=version)
