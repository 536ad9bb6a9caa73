"""Full models leave when their version was deleted: the tenant loses sight of the engine, which stops once idle.

Invariant: as for adapters (``sweep``), a version counts as deleted only when the registry,
asked for it, says that there is none; nothing is kept of one that is.  Its files go with the model
cache's own clean-up.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from services.chassis.errors import Failure, Reason
from services.generator.hosts import Host
from services.generator.kept_models import KeptModels
from services.generator.pool import Pool
from services.generator.supervision import Log
from services.generator.sweep import Catalog

_AGAIN_SECONDS = 60.0


class Departures:
    """The loop that asks whether the full models that are known here still exist."""

    def __init__(self, catalog: Catalog, pool: Pool, kept: KeptModels, log: Log, every_seconds: float) -> None:
        self._catalog = catalog
        self._pool = pool
        self._kept = kept
        self._log = log
        self._every_seconds = every_seconds
        self._told = asyncio.Event()

    def deleted(self) -> None:
        """The registry told of a deletion: ask soon."""
        self._told.set()

    async def run(self) -> None:
        """Ask whenever something was deleted, and every so often, until cancelled."""
        while True:
            seconds = self._every_seconds
            self._told.clear()
            try:
                await self.forget_deleted()
            except Failure as failure:
                self._log.info("departures_interrupted", reason=failure.reason.name)
                seconds = _AGAIN_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._told.wait()

    async def forget_deleted(self) -> None:
        """Take each deleted version from its host, and what was kept of it; raises what the registry fails with."""
        for host in self._pool.hosts():
            for tenant, version in [(tenant, version) for tenant, owned in host.owners.items() for version in owned]:
                if not await self._exists(version):
                    self._disown(host, tenant, version)
                    await asyncio.to_thread(self._kept.forget, version)
        served = {version for host in self._pool.hosts() for owned in host.owners.values() for version in owned}
        for version in set(self._kept.versions()) - served:
            if not await self._exists(version):
                await asyncio.to_thread(self._kept.forget, version)

    async def _exists(self, version: str) -> bool:
        try:
            async with self._catalog.as_service():
                await self._catalog.facts(version)
        except Failure as failure:
            if failure.reason is not Reason.VERSION_NOT_FOUND:
                raise
            return False
        return True

    def _disown(self, host: Host, tenant: str, version: str) -> None:
        owned = host.owners[tenant]
        del owned[version]
        if not owned:
            del host.owners[tenant]
        if not host.owners and not host.base.public:
            self._pool.release(host)
        self._log.info("full_model_forgotten", version=version)
