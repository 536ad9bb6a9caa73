"""Local files leave when their version was deleted, and when they are too many: the lowest class first.

Within a class the longest unused leave first.  Invariants: the files of a version that an engine holds, that a request
waits for or that is protected stay; a version counts as deleted only when the registry, asked for it, says that there
is none: neither an event nor a registry that is away is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import Kept, VersionFacts
from services.generator.holdings import Shared
from services.generator.priorities import Priority
from services.generator.residency import Tier
from services.generator.supervision import Log

# What was obtained so lately may be on its way into a slot.
_FRESH_SECONDS = 60.0
_SOON_SECONDS = 60.0


class Catalog(Protocol):
    """The registry as it tells which versions there are."""

    def as_service(self) -> AbstractAsyncContextManager[Any]:
        """Context for the call below."""
        ...

    async def facts(self, version: str) -> VersionFacts:
        """A version of any tenant.  Raises VERSION_NOT_FOUND."""
        ...


class LocalFiles(Protocol):
    """The folder of adapters."""

    def kept(self) -> Sequence[Kept]:
        """What lies here, the longest unused first.  Blocks."""
        ...

    async def remove(self, version: str) -> bool:
        """Delete what lies here of a version; False while it is fetched or in somebody's hands."""
        ...


class Users(Protocol):
    """Who needs files: every engine's slots."""

    def wanted(self) -> frozenset[str]:
        """Versions whose files are needed."""
        ...

    def idle(self, version: str) -> bool:
        """Whether a version is resident and neither runs nor is waited for."""
        ...

    async def unload(self, version: str) -> None:
        """Unload once idle.  Raises ADAPTER_NOT_RESIDENT."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may lie here, and how often everything is looked at."""

    limit_bytes: int
    every_seconds: float


class Sweep:
    """The loop that clears up; ``fetched`` is set when there is more than before."""

    def __init__(
        self,
        catalog: Catalog,
        files: LocalFiles,
        slots: Users,
        log: Log,
        bounds: Bounds,
        now: Callable[[], float],
        fetched: asyncio.Event,
        shared: Shared | None = None,
    ) -> None:
        self._catalog = catalog
        self._files = files
        self._slots = slots
        self._log = log
        self._bounds = bounds
        self._now = now
        self._stirred = fetched
        self._shared = shared or Shared()
        self._told = False

    def deleted(self) -> None:
        """The registry told of a deletion: ask for everything soon."""
        self._told = True
        self._stirred.set()

    async def run(self) -> None:
        """Clear up now, whenever something happened, and every so often, until cancelled."""
        everything = True
        while True:
            self._stirred.clear()
            self._told = done = False
            try:
                done = (not everything or await self.forget_deleted()) & await self.keep_within()
            except (Failure, OSError) as error:
                self._log.info("sweep_interrupted", error=type(error).__name__)
            everything = True
            with suppress(TimeoutError):
                async with asyncio.timeout(self._bounds.every_seconds if done else _SOON_SECONDS):
                    await self._stirred.wait()
                    everything = self._told or not done

    async def forget_deleted(self) -> bool:
        """Remove what belongs to deleted versions; False when some of it is still in use.

        Raises what the registry fails with, and OSError.
        """
        done = True
        async with self._catalog.as_service():
            for kept in await asyncio.to_thread(self._files.kept):
                if not await self._exists(kept.version):
                    done &= await self._forget(kept.version)
        return done

    async def keep_within(self) -> bool:
        """Remove what matters least until the rest is within the limit; False when that is not enough.

        Raises OSError.
        """
        found = await asyncio.to_thread(self._files.kept)
        beyond = sum(kept.size_bytes for kept in found) - self._bounds.limit_bytes
        for kept in sorted(found, key=lambda kept: self._shared.priorities.of(kept.version)):
            if beyond <= 0 or self._shared.priorities.of(kept.version) is Priority.PROTECTED:
                break
            fresh = self._now() - kept.used_at < _FRESH_SECONDS
            if not fresh and kept.version not in self._slots.wanted() and await self._files.remove(kept.version):
                beyond -= kept.size_bytes
                if kept.stored is not None:
                    self._shared.tallies.evicted(Tier.FILE, kept.stored)
                self._log.info("adapter_files_dropped", version=kept.version)
        return beyond <= 0

    async def _exists(self, version: str) -> bool:
        try:
            await self._catalog.facts(version)
        except Failure as failure:
            if failure.reason is not Reason.VERSION_NOT_FOUND:
                raise
            return False
        return True

    async def _forget(self, version: str) -> bool:
        """Take a deleted version out of its slot, unless it is running, and its files away."""
        if self._slots.idle(version):
            await self._slots.unload(version)
        if version in self._slots.wanted() or not await self._files.remove(version):
            return False
        self._log.info("version_forgotten", version=version)
        return True
