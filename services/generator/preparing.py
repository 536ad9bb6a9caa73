"""Brings versions that aliases name to where they can serve, and says so: attempt after attempt while one names them.

Invariants: a version that the registry waits for is tried until it is ready, refused for good, or named no more,
whatever else was begun for it; what only passes (a full disk, too much to do, a registry that is away, a disk that
cannot be read) is told and tried again; what serves already is fetched one at a time, and never instead of what the
registry waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, Protocol

from services.chassis.errors import Code, Failure
from services.generator.adapter_files import VersionFacts
from services.generator.aliases import AliasSeen
from services.generator.announcing import Announcements
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
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 10.0
# Targets that are fetched and checked at once: each takes a process while it is checked.
_AT_ONCE = 4


class Facts(Protocol):
    """The registry's word on versions, under the service's own identity."""

    def as_service(self) -> AbstractAsyncContextManager[Any]:
        """Context for the call below."""
        ...

    async def facts(self, version: str) -> VersionFacts:
        """A version of any tenant."""
        ...


class Shelf(Protocol):
    """Where versions lie, verified."""

    async def obtain(self, facts: VersionFacts) -> Any:
        """What :meth:`Loads.warm` takes.  Raises WEIGHTS_REFUSED, BASE_MISMATCH, TEMPLATE_MISMATCH."""
        ...

    def used_at(self, version: str) -> float:
        """When a version that lies here was last used, in Unix seconds; 0 for one that does not."""
        ...

    def has_room(self, facts: VersionFacts) -> bool:
        """Whether a version lies here, or could without another's leaving."""
        ...


class Loads(Protocol):
    """How a version comes to be held; see ``fleet``."""

    def holds(self, version: str) -> bool:
        """Whether a version can serve at once."""
        ...

    async def warm(self, tenant: str, prepared: Any, *, pending: bool) -> object:
        """Load a version beside the running ones; unless an alias is ``pending`` for it, as near as there is room."""
        ...


class Preparations:
    """The versions that are on their way; ``named`` says whether an alias still names one."""

    def __init__(
        self,
        registry: Facts,
        files: Shelf,
        slots: Loads,
        announcements: Announcements,
        log: Log,
        *,
        pause: Callable[[float], Awaitable[None]],
        named: Callable[[str], bool],
    ) -> None:
        self._registry = registry
        self._files = files
        self._slots = slots
        self._announcements = announcements
        self._log = log
        self._pause = pause
        self._named = named
        # What the registry waits for goes on while one version is fetched that only might be asked for.
        self._turns = {True: asyncio.Semaphore(_AT_ONCE), False: asyncio.Semaphore(1)}
        self._begun: dict[tuple[str, bool], asyncio.Task[None]] = {}

    def begin(self, group: asyncio.TaskGroup, alias: AliasSeen, version: str, *, pending: bool) -> None:
        """Begin, unless that has been; ``pending`` when the registry waits for our word on the version."""
        if (version, pending) in self._begun or (not pending and (version, True) in self._begun):
            return
        if not pending and self._slots.holds(version):
            return
        task = group.create_task(self._make_ready(alias, version, pending), name=f"prepare {version}")
        self._begun[version, pending] = task
        task.add_done_callback(lambda _: self._begun.pop((version, pending), None))

    async def _make_ready(self, alias: AliasSeen, version: str, pending: bool) -> None:
        pause_seconds = _FIRST_PAUSE_SECONDS
        held_up = ""
        while self._named(version):
            try:
                if await self._made_ready(alias, version, pending=pending, again=bool(held_up)):
                    self._log.info("version_ready", version=version, model=alias.model)
                    return
                held_up = "it was unloaded to make room"
            except Failure as failure:
                if failure.code not in _PASSING:
                    await self._give_up(alias, version, failure)
                    return
                held_up = failure.sentence
                await self._tell_delay(alias, version, held_up, failure.reason.name)
            except OSError as error:
                held_up = f"Its files cannot be kept here: {error.strerror or type(error).__name__}."
                await self._tell_delay(alias, version, held_up, type(error).__name__)
            await self._pause(pause_seconds)
            pause_seconds = min(pause_seconds * 2, _LONGEST_PAUSE_SECONDS)

    async def _made_ready(self, alias: AliasSeen, version: str, *, pending: bool, again: bool) -> bool:
        """One attempt; False when the version was evicted before it could be announced."""
        async with self._turns[pending]:
            if pending and not again:
                await self._announcements.loading(alias.tenant, version)
            async with self._registry.as_service():
                facts = await self._registry.facts(version)
                if not pending and not self._files.has_room(facts):
                    return True
                stored = await self._files.obtain(facts)
            if not pending:
                await self._slots.warm(alias.tenant, stored, pending=False)
        if pending:
            await self._slots.warm(alias.tenant, stored, pending=True)
        return await self._announcements.ready(alias.tenant, version) or not pending

    async def _tell_delay(self, alias: AliasSeen, version: str, held_up: str, reason: str) -> None:
        self._log.info("version_waits", version=version, model=alias.model, reason=reason)
        with suppress(Failure):
            await self._announcements.loading(alias.tenant, version, f"{held_up} It is tried again.")

    async def _give_up(self, alias: AliasSeen, version: str, failure: Failure) -> None:
        self._log.error("version_failed", version=version, model=alias.model, reason=failure.reason.name)
        with suppress(Failure):
            await self._announcements.failed(alias.tenant, version, failure.sentence)
