"""What the service can do: answers aside, engines and the adapters in them, as their owners may see and change them.

Invariant: a caller sees and changes only adapters of its own tenant, and of engines only
those of the deployment and of its own full models; the role service sees all, because it
acts for the deployment.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from services.chassis.context import RequestContext, Role
from services.chassis.errors import Failure, Reason
from services.generator.accounting import Accounting, Located, Usage, located
from services.generator.engine import EngineFacts
from services.generator.fleet import Fleet, Prepared
from services.generator.footprint import resident_bytes
from services.generator.generation import Generation
from services.generator.hosts import Host
from services.generator.pool import Pool
from services.generator.protection import Protection
from services.generator.supervision import EngineState

# Changes that follow one another closer than this are told as one.
_COALESCED_SECONDS = 0.05
# Adapters in one list: those in slots and memory are few, those in files may be thousands.
_MOST_LISTED = 2000


@dataclass(frozen=True, slots=True)
class EngineView:
    """One engine as a caller sees it; ``model`` and ``version`` are the caller's own full model that it serves.

    Bytes: ``memory_bytes`` as measured, 0 where that was not asked for, ``estimated_bytes`` as the pool reckons.
    """

    facts: EngineFacts
    state: EngineState
    started_at: datetime | None
    running: int
    waiting: int
    restarts: int
    model: str = ""
    version: str = ""
    estimated_bytes: int = 0
    memory_bytes: int = 0
    idle_seconds: float = 0.0
    last_error: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the last: engines in a new state or load, adapters that entered or changed, or left."""

    engines: tuple[EngineView, ...]
    entered: tuple[Located, ...]
    left: tuple[Located, ...]
    caught_up: bool


@dataclass(frozen=True, slots=True)
class Verbs:
    """The service's verbs over its leaves."""

    generation: Generation
    fleet: Fleet
    pool: Pool
    accounting: Accounting
    protection: Protection
    blocking: Callable[..., Awaitable[int]]
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def engines(self, caller: RequestContext) -> list[EngineView]:
        """Every engine that the caller may see, with the memory that it takes now."""
        told = []
        for host in self._seen_hosts(caller):
            memory_bytes = await self.blocking(resident_bytes, host.engine.process_ids)
            idle_seconds = self.pool.idle_seconds(host)
            told.append(replace(self._view(caller, host), memory_bytes=memory_bytes, idle_seconds=idle_seconds))
        return told

    def adapters(self, caller: RequestContext) -> dict[str, Located]:
        """What the caller may see of the engines, by version."""
        held = self.accounting.held(self.fleet.tables(), _tenant_seen(caller))
        return {located.stored.version: located for located in held}

    def located(self, caller: RequestContext) -> list[Located]:
        """What the caller may see of all tiers, by version; of those in files alone the last used."""
        near = self.accounting.located(self.fleet.tables(), _tenant_seen(caller))
        return sorted(near[:_MOST_LISTED], key=lambda found: found.stored.version)

    def usage(self, caller: RequestContext) -> list[Usage]:
        """What the caller's adapters take of each tier (role service: all adapters), nearest tier first."""
        return self.accounting.usage(self.fleet.tables(), _tenant_seen(caller))

    async def load(self, caller: RequestContext, version: str) -> Located | Prepared:
        """Load a version that the caller may read: an adapter, or a full model into an engine of its own.

        Raises as Generation.answer.
        """
        target = await self.generation.target(version)
        with self.generation.in_hand(target):
            stored = await self.generation.stored(target)
            async with self.pool.use(target.host, caller.tenant_id):
                if stored is not None:
                    slots = target.host.slots
                    return located(slots.table, await slots.warm(caller.tenant_id, stored, weight=caller.weight))
        return Prepared(target, caller.tenant_id, None)

    async def unload(self, caller: RequestContext, version: str) -> None:
        """Unload an adapter, or stop a full model's engine, once idle.  Raises ADAPTER_NOT_RESIDENT, VERSION_PROTECTED."""
        if not self._owns_engine(caller, version):
            self.protection.require_ended(self._require_seen(caller, version).stored)
        await self.fleet.unload(version)

    async def pin(self, caller: RequestContext, version: str, pinned: bool) -> Located:
        """Protect what is in a slot, or end that wherever it is.

        Raises ADAPTER_NOT_RESIDENT, SLOTS_PROTECTED, DISK_FULL.
        """
        if pinned:
            self._require_seen(caller, version)
            held = await self.protection.protect(version)
            return located(self.fleet.slots_of(version).table, held)
        found = self._located(caller, version)
        if not await self.protection.end(version) and found.resident is None:
            raise _not_resident(version)
        return self._located(caller, version)

    async def changes(self, caller: RequestContext) -> AsyncIterator[Changes]:
        """First the present state of engines and adapters, then each change, as often as something changed.

        Changes that follow one another closely may come as one: what is told is always
        the newest state, so a slow reader holds nothing up.
        """
        told: dict[str, Located] = {}
        told_engines: dict[str, EngineView] = {}
        caught_up = True
        while True:
            # Registered before we look, so that no change falls in between.
            changed = asyncio.ensure_future(self.fleet.changed())
            await asyncio.sleep(0)
            try:
                seen = self.adapters(caller)
                engines = {view.facts.name: view for view in self._views(caller)}
                changes = Changes(
                    tuple(view for name, view in engines.items() if told_engines.get(name) != view),
                    tuple(held for version, held in seen.items() if told.get(version) != held),
                    tuple(held for version, held in told.items() if version not in seen),
                    caught_up,
                )
                if caught_up or changes.engines or changes.entered or changes.left:
                    yield changes
                told, told_engines, caught_up = seen, engines, False
                await changed
            finally:
                changed.cancel()
            await self.pause(_COALESCED_SECONDS)

    def _views(self, caller: RequestContext) -> list[EngineView]:
        return [self._view(caller, host) for host in self._seen_hosts(caller)]

    def _view(self, caller: RequestContext, host: Host) -> EngineView:
        supervisor = host.supervisor
        version, model = next(iter(_owned(caller, host).items()), ("", ""))
        facts = host.engine.facts
        return EngineView(
            facts if host.base.public else replace(facts, base=model),
            self.pool.state(host),
            supervisor.started_at if host.life is not None else None,
            host.slots.running,
            host.slots.waiting + self.pool.waiting(host),
            supervisor.restarts,
            model,
            version,
            host.size_bytes,
            last_error=supervisor.last_error,
        )

    def _seen_hosts(self, caller: RequestContext) -> list[Host]:
        return [host for host in self.pool.hosts() if host.base.public or _owned(caller, host)]

    def _owns_engine(self, caller: RequestContext, version: str) -> bool:
        return any(version in _owned(caller, host) for host in self.pool.hosts())

    def _require_seen(self, caller: RequestContext, version: str) -> Located:
        # Another tenant's adapter and one that is not here must look the same.
        found = self.adapters(caller).get(version)
        if found is None:
            raise _not_resident(version)
        return found

    def _located(self, caller: RequestContext, version: str) -> Located:
        everything = self.accounting.located(self.fleet.tables(), _tenant_seen(caller))
        found = next((found for found in everything if found.stored.version == version), None)
        if found is None:
            raise _not_resident(version)
        return found


def _not_resident(version: str) -> Failure:
    return Failure(Reason.ADAPTER_NOT_RESIDENT, name=version)


def _tenant_seen(caller: RequestContext) -> str | None:
    """Whose adapters the caller sees; None for everybody's."""
    return None if caller.has(Role.SERVICE) else caller.tenant_id


def _owned(caller: RequestContext, host: Host) -> Mapping[str, str]:
    """The caller's own full models that are this host's folder: model by version (role service: everybody's)."""
    if caller.has(Role.SERVICE):
        return {version: model for models in host.owners.values() for version, model in models.items()}
    return host.owners.get(caller.tenant_id, {})
