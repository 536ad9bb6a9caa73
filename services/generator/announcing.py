"""What this generator has told the registry of each version, and that it stays true.

Invariant: the registry's last word on a version is READY only while this process holds
it (``Holder.holds``), or for the moment that the correction takes.  Words are sent one
at a time and each is formed when its turn comes, so that none overtakes a later one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import Any, Protocol

from services.chassis.errors import Failure, Reason

# Why a version that was ready is so no longer, as the registry is told, where nothing else is known.
UNLOADED = "it was unloaded to make room"

_PAUSE_SECONDS = 2.0


class Word(Enum):
    """What is said of a version."""

    LOADING = "loading"
    READY = "ready"
    FAILED = "failed"


class Listener(Protocol):
    """The registry as it hears of versions."""

    def as_service(self) -> AbstractAsyncContextManager[Any]:
        """Context for the call below."""
        ...

    async def report(self, tenant: str, version: str, word: Word | None, reason: str) -> None:
        """Tell what this generator makes of a version; all empty is a heartbeat."""
        ...


class Holder(Protocol):
    """What this generator holds."""

    def holds(self, version: str) -> bool:
        """Whether a version can serve at once."""
        ...

    def absence(self, version: str) -> str:
        """Why a version that could serve at once cannot any more."""
        ...

    async def changed(self) -> None:
        """Return at the next change of what it holds."""
        ...


class Announcements:
    """The words on versions; ``lost`` hears of every version that left though it had been called ready."""

    def __init__(
        self,
        listener: Listener,
        holder: Holder,
        pause: Callable[[float], Awaitable[None]],
        lost: Callable[[str], None],
    ) -> None:
        self._listener = listener
        self._holder = holder
        self._pause = pause
        self._lost = lost
        self._turn = asyncio.Lock()
        # Version to tenant, of all that the registry may believe ready.
        self._ready: dict[str, str] = {}

    async def loading(self, tenant: str, version: str, reason: str = "") -> None:
        """Say that a version is on its way, and what holds it up."""
        await self._say(tenant, version, Word.LOADING, reason)

    async def failed(self, tenant: str, version: str, reason: str) -> None:
        """Say that a version cannot be loaded, for good."""
        await self._say(tenant, version, Word.FAILED, reason)

    async def ready(self, tenant: str, version: str) -> bool:
        """Say that a version can serve at once; False, and nothing is said, when it has left again."""
        async with self._turn:
            if not self._holder.holds(version):
                return False
            # Before the call: when its answer is lost, the registry may have heard it.
            self._ready[version] = tenant
            await self._report(tenant, version, Word.READY, "")
            return True

    async def again(self) -> None:
        """Repeat what still holds: the registry was away and may have taken us for dead."""
        for version, tenant in list(self._ready.items()):
            try:
                await self.ready(tenant, version)
            except Failure as failure:
                # It was deleted meanwhile, and one that is must not keep the others from being told of.
                if failure.reason is not Reason.VERSION_NOT_FOUND:
                    raise
                self._ready.pop(version, None)

    async def withdraw(self, version: str, reason: str) -> None:
        """Say that a version is not held any more, if it was ever called ready."""
        async with self._turn:
            tenant = self._ready.get(version)
            if tenant is None:
                return
            try:
                await self._report(tenant, version, Word.LOADING, reason)
            except Failure as failure:
                # The registry believes nothing of a version that was deleted.
                if failure.reason is not Reason.VERSION_NOT_FOUND:
                    raise
            del self._ready[version]

    async def follow(self) -> None:
        """Take back what was said of each version that is held no more, until cancelled."""
        while True:
            version = next((version for version in self._ready if not self._holder.holds(version)), None)
            if version is None:
                await self._holder.changed()
                continue
            try:
                await self.withdraw(version, self._holder.absence(version))
                self._lost(version)
            except Failure:
                await self._pause(_PAUSE_SECONDS)

    async def _say(self, tenant: str, version: str, word: Word, reason: str) -> None:
        async with self._turn:
            await self._report(tenant, version, word, reason)
            self._ready.pop(version, None)

    async def _report(self, tenant: str, version: str, word: Word, reason: str) -> None:
        async with self._listener.as_service():
            await self._listener.report(tenant, version, word, reason)
