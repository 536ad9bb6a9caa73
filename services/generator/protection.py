"""What is protected from eviction, for longer than an engine or a process lives.

A protected version leaves neither its slot nor the local files for another.  The list lies on this generator's own disk;
an engine that comes up is given what is listed of its base again, and none is started for it.  Invariants: what was
acknowledged is on disk; what was deleted meanwhile, or is refused, leaves the list.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Any, Protocol

from services.chassis.errors import Code, Failure, Reason
from services.chassis.files import write_atomically
from services.generator.fleet import Fleet
from services.generator.manifests import VersionFacts
from services.generator.pool import Pool
from services.generator.residency import Resident, StoredAdapter
from services.generator.supervision import Log

_AGAIN_SECONDS = 10.0
# Answers that say something about the version itself, and would be the same tomorrow.
_LASTING = frozenset({Code.NOT_FOUND, Code.INVALID_ARGUMENT})


class ProtectedList:
    """The versions, durable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._versions: frozenset[str] = frozenset()
        self._turn = asyncio.Lock()

    def begin(self) -> None:
        """Take up what an earlier process wrote; nothing when that is damaged.  Blocks."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            self._versions = frozenset(map(str, json.loads(self._path.read_text("utf-8"))["versions"]))

    def __contains__(self, version: object) -> bool:
        return version in self._versions

    def all(self) -> frozenset[str]:
        """Every version."""
        return self._versions

    async def add(self, version: str) -> None:
        """List a version.  Raises DISK_FULL and OSError, and it is not listed then."""
        async with self._turn:
            await self._write(self._versions | {version})

    async def remove(self, version: str) -> None:
        """List it no more.  Raises DISK_FULL and OSError, and it still is listed then."""
        async with self._turn:
            await self._write(self._versions - {version})

    async def _write(self, versions: frozenset[str]) -> None:
        if versions != self._versions:
            text = json.dumps({"versions": sorted(versions)})
            await asyncio.to_thread(write_atomically, self._path, text.encode())
            self._versions = versions


class Readable(Protocol):
    """Versions of any tenant, under the service's own identity."""

    async def facts(self, version: str) -> VersionFacts:
        """The version.  Raises VERSION_NOT_FOUND."""
        ...


class Protection:
    """Protects, ends that, and puts back what an engine that comes up lacks."""

    def __init__(
        self,
        listed: ProtectedList,
        fleet: Fleet,
        pool: Pool,
        versions: Readable,
        as_service: Callable[[], AbstractAsyncContextManager[Any]],
        log: Log,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._listed = listed
        self._fleet = fleet
        self._pool = pool
        self._versions = versions
        self._as_service = as_service
        self._log = log
        self._pause = pause

    async def protect(self, version: str) -> Resident:
        """Protect what is in a slot.  Raises ADAPTER_NOT_RESIDENT, SLOTS_PROTECTED, DISK_FULL."""
        held = self._fleet.pin(version, True)
        try:
            await self._listed.add(version)
        except BaseException:
            self._unpin(version)
            raise
        return held

    async def end(self, version: str) -> bool:
        """Protect it no more, wherever it is; False when it was not protected.  Raises DISK_FULL."""
        was_listed = version in self._listed
        await self._listed.remove(version)
        return self._unpin(version) or was_listed

    def require_ended(self, stored: StoredAdapter) -> None:
        """Raise VERSION_PROTECTED while a version is protected: what takes it out must not end that unasked."""
        version = stored.version
        if version in self._listed or self._pinned(version):
            raise Failure(Reason.VERSION_PROTECTED, name=version, model=stored.model)

    def _pinned(self, version: str) -> bool:
        return any(held.pinned for held in self._fleet.residents() if held.stored.version == version)

    def _unpin(self, version: str) -> bool:
        pinned = self._pinned(version)
        if pinned:
            self._fleet.pin(version, False)
        return pinned

    async def run(self) -> None:
        """Look whenever an engine changed, until cancelled."""
        while True:
            # Registered before we look, so that no change falls in between.
            changed = asyncio.ensure_future(self._pool.changed())
            await asyncio.sleep(0)
            try:
                done = [await self._put_back(version) for version in sorted(self._listed.all())]
                if all(done):
                    await changed
                else:
                    await self._pause(_AGAIN_SECONDS)
            finally:
                changed.cancel()

    async def _put_back(self, version: str) -> bool:
        """Give a running engine what it lacks; False when that is to be tried again."""
        if self._pinned(version):
            return True
        try:
            async with self._as_service():
                prepared = await self._fleet.obtain(await self._versions.facts(version))
            if await self._fleet.warm_if_running(prepared) and version in self._listed:
                self._fleet.pin(version, True)
                self._log.info("protected_again", version=version)
            return True
        except OSError as error:
            self._log.info("protection_waits", version=version, reason=type(error).__name__)
            return False
        except Failure as failure:
            return await self._failed(version, failure)

    async def _failed(self, version: str, failure: Failure) -> bool:
        reason = failure.reason
        if failure.code in _LASTING and reason is not Reason.ADAPTER_NOT_RESIDENT:
            self._log.error("protection_ended", version=version, reason=reason.name)
            with suppress(Failure, OSError):
                await self._listed.remove(version)
            return True
        # Until an engine changes: its base is not served, or there are fewer slots than there were.
        waits = failure.code is Code.FAILED_PRECONDITION or reason is Reason.SLOTS_PROTECTED
        self._log.info("protection_waits", version=version, reason=reason.name)
        return waits
