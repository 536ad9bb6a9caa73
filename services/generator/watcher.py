"""Hot swap: follows the registry's aliases, loads new targets beside the old, says when they are ready.

A stream of changes is resumed after the last sequence number that was acted upon.
Invariants: a target is reported READY only after the engine held it, and no longer when
it has left; a target that cannot be loaded is reported FAILED with the reason and the
versions that serve stay (``preparing``); a superseded version is unloaded only when nobody
uses it and no alias names it.  What serves already is fetched ahead of its requests, the last
used first, as far as slots, host memory and local files have room, one at a time and behind
whoever waits for an answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.generator.aliases import AliasSeen, Change
from services.generator.announcing import Announcements, Holder, Listener
from services.generator.cursor import Cursor
from services.generator.preparing import Facts, Loads, Preparations, Shelf
from services.generator.priorities import Priorities, Priority
from services.generator.residency import Resident
from services.generator.supervision import Log

_PAUSE_SECONDS = 2.0


class Registry(Listener, Facts, Protocol):
    """The registry as the watcher needs it, all of it under the service's own identity."""

    async def aliases(self) -> Sequence[AliasSeen]:
        """Every tenant's aliases."""
        ...

    def changes(self, after: int) -> AsyncIterator[Change]:
        """Changes after a sequence number.  Raises CURSOR_UNKNOWN, CURSOR_EXPIRED."""
        ...


class Held(Holder, Loads, Protocol):
    """What this generator holds, and how more comes to be held; see ``fleet``."""

    def residents(self) -> tuple[Resident, ...]:
        """What the engines hold now."""
        ...

    async def lower(self, version: str) -> None:
        """Out of its slot into host memory, once idle and if that has room."""
        ...

    async def unload(self, version: str) -> None:
        """Unload once idle.  Raises ADAPTER_NOT_RESIDENT."""
        ...


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
        self._known: dict[tuple[str, str, str], AliasSeen] = {}
        self._group = asyncio.TaskGroup()
        self._announcements = Announcements(registry, slots, pause, self._again)
        self._preparations = Preparations(
            registry, files, slots, self._announcements, log, pause=pause, named=self._named
        )

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
                    await self._interrupted(failure)
                except OSError as error:
                    # The cursor's file: what was acted upon is acted upon once more.
                    self._log.error("watch_interrupted", reason=type(error).__name__)
                await self._pause(_PAUSE_SECONDS)

    async def _interrupted(self, failure: Failure) -> None:
        self._log.info("watch_interrupted", reason=failure.reason.name)
        if failure.reason in (Reason.CURSOR_UNKNOWN, Reason.CURSOR_EXPIRED):
            with suppress(Failure, OSError):
                await asyncio.to_thread(self._cursor.write, 0)

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
            self._preparations.begin(self._group, alias, version, pending=pending)

    def _again(self, version: str) -> None:
        """A version that was ready has left its slot: whoever still waits for it waits for us."""
        for alias in self._known.values():
            if alias.waits_for(version):
                self._preparations.begin(self._group, alias, version, pending=True)

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
