"""All engines as one: what they hold together, and which of them a version goes to.

The watcher, the sweep and the lists ask here and need not know how many engines there are.
Invariant: a version sits in the slots of the engine whose base its manifest names, and in
no other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from services.chassis.errors import Failure, Reason
from services.generator.adapter_files import VersionFacts, read_manifest
from services.generator.announcing import UNLOADED
from services.generator.bases import Bases, Readable, Target
from services.generator.generation import Files
from services.generator.hosts import Host
from services.generator.places import Slots
from services.generator.pool import Pool
from services.generator.residency import Resident, StoredAdapter
from services.generator.residency_table import ResidencyTable
from services.generator.supervision import EngineState


@dataclass(frozen=True, slots=True)
class Prepared:
    """A version whose files lie here, verified: an adapter, or a full model, whose host it is then."""

    target: Target
    tenant: str
    adapter: StoredAdapter | None


class LocalFiles(Files, Protocol):
    """Verified adapters, and whether there is room for more of them."""

    def used_at(self, version: str) -> float:
        """When a version that lies here was last used, in Unix seconds; 0 for one that does not."""
        ...

    def has_room(self, facts: VersionFacts) -> bool:
        """Whether a version lies here, or could without another's leaving."""
        ...


class Fleet:
    """Every engine's slots, and every full model."""

    def __init__(self, pool: Pool, bases: Bases, files: LocalFiles, versions: Readable) -> None:
        self._pool = pool
        self._bases = bases
        self._files = files
        self._versions = versions

    def residents(self) -> tuple[Resident, ...]:
        """What all running engines hold now, in slots and in host memory."""
        return tuple(held for slots in self._running() for held in slots.residents())

    def tables(self) -> list[ResidencyTable]:
        """Where each version is, of every running engine."""
        return [slots.table for slots in self._running()]

    def wanted(self) -> frozenset[str]:
        """Versions whose files a running engine needs."""
        return frozenset[str]().union(*(slots.wanted() for slots in self._running()))

    def idle(self, version: str) -> bool:
        """Whether a version is resident and neither runs nor is waited for."""
        return any(slots.idle(version) for slots in self._running())

    def holds(self, version: str) -> bool:
        """Whether a version can serve at once: an adapter at hand, a full model while its engine answers.

        One whose engine was stopped, idle or to make room, has to start it first, and so have the adapters on it.  Only
        where that would take the room of an engine in use do verified files count: a swap that needed both versions'
        memory at once would not be one.  Requests start a stopped engine whatever this says.
        """
        host = self._full(version)
        if host is not None and host.life is not None:
            return self._pool.state(host) is EngineState.READY
        host = host or self._at_rest(version)
        if host is not None:
            return self._pool.startable(host) and not self._pool.has_room(host)
        return any(slots.holds(version) for slots in self._running())

    def absence(self, version: str) -> str:
        """Why a version that could serve at once cannot any more, as the registry is told."""
        if self._full(version) or self._at_rest(version):
            return "its engine is stopped until it is needed"
        return UNLOADED

    async def obtain(self, facts: VersionFacts) -> Prepared:
        """A version's files, fetched and verified, under the service's identity.  Raises as Bases and Files do."""
        target = await self._bases.of(self._versions, facts)
        adapter = await self._files.obtain(facts) if target.facts is not None else None
        if adapter is not None:
            target.host.adapters = {version for version in target.host.adapters if self._lies_here(version)}
            target.host.adapters.add(facts.version)
        return Prepared(target, read_manifest(facts).tenant, adapter)

    async def warm(self, tenant: str, prepared: Prepared, *, pending: bool) -> None:
        """Load an adapter beside the others.  Where an alias is ``pending``, start the engine for it if it fits.

        What no alias is pending for comes as near as there is room (:func:`nearest`), and starts no engine.  Where every
        engine is in use, verified files are enough: see :meth:`holds`.  Raises as ``Slots.warm``,
        ENGINE_TOO_LARGE, WEIGHTS_REFUSED for a full model that no engine comes up with.
        """
        host = prepared.target.host
        if prepared.adapter is not None:
            if not (host.life is not None or (pending and self._pool.has_room(host))):
                self._pool.require_possible(host)
                return
            with self._files.in_hand(prepared.adapter.version):
                async with self._pool.use(host, tenant):
                    await nearest(host.slots, tenant, prepared.adapter, pending=pending)
            return
        self._pool.require_possible(host)
        if not pending or not self._pool.has_room(host):
            return
        try:
            async with self._pool.use(host, tenant):
                pass
        except Failure as failure:
            if not host.given_up:
                raise
            raise Failure(Reason.WEIGHTS_REFUSED, problem=host.given_up) from failure

    async def warm_if_running(self, prepared: Prepared) -> bool:
        """Load an adapter into a slot of its engine; False when that does not run.  Raises as ``Slots.warm``."""
        host = prepared.target.host
        if prepared.adapter is None or self._pool.state(host) is not EngineState.READY:
            return False
        async with self._pool.use(host, prepared.tenant):
            await host.slots.warm(prepared.tenant, prepared.adapter, ahead=True)
        return True

    def used_at(self, version: str) -> float:
        """When an adapter that lies here was last used, in Unix seconds; 0 for one that does not."""
        return self._files.used_at(version)

    def has_room(self, facts: VersionFacts) -> bool:
        """Whether an adapter lies here, or could without another's leaving; of a full model its cache decides."""
        return read_manifest(facts).kind != "LORA" or self._files.has_room(facts)

    async def lower(self, version: str) -> None:
        """Take an adapter out of its slot into host memory, once idle and if that has room."""
        for slots in self._running():
            await slots.lower(version)

    async def unload(self, version: str) -> None:
        """Unload an adapter once idle, or stop a full model's engine once idle.  Raises ADAPTER_NOT_RESIDENT."""
        host = self._full(version)
        if host is not None:
            self._pool.release(host)
            return
        await self.slots_of(version).unload(version)

    def pin(self, version: str, pinned: bool) -> Resident:
        """Protect from eviction; see ResidencyTable.pin."""
        return self.slots_of(version).pin(version, pinned)

    def slots_of(self, version: str) -> Slots:
        """The slots that hold a version.  Raises ADAPTER_NOT_RESIDENT."""
        for slots in self._running():
            if any(held.stored.version == version for held in slots.residents()):
                return slots
        raise Failure(Reason.ADAPTER_NOT_RESIDENT, name=version)

    async def changed(self) -> None:
        """Return at the next change of what any engine holds, does or is."""
        waits = [asyncio.ensure_future(host.slots.changed()) for host in self._pool.hosts()]
        waits.append(asyncio.ensure_future(self._pool.changed()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            # Their cancellations are results here; one that is raised is the caller's own, and counts.
            await asyncio.gather(*waits, return_exceptions=True)

    def _running(self) -> Iterator[Slots]:
        return (host.slots for host in self._pool.hosts() if host.life is not None)

    def _at_rest(self, version: str) -> Host | None:
        """The host of an adapter whose files lie here while its engine does not run."""
        resting = (host for host in self._pool.hosts() if host.life is None and version in host.adapters)
        return next(resting, None) if self._lies_here(version) else None

    def _lies_here(self, version: str) -> bool:
        return self._files.used_at(version) > 0

    def _full(self, version: str) -> Host | None:
        owned = (host for host in self._pool.hosts() if any(version in versions for versions in host.owners.values()))
        return next(owned, None)


async def nearest(slots: Slots, tenant: str, adapter: StoredAdapter, *, pending: bool) -> None:
    """Bring an adapter into a slot when an alias is ``pending`` for it or one is free, else into host memory.

    Behind the requests that wait.  Where that is full of what matters more, its verified file has to do.
    """
    if pending or slots.table.slots_used < slots.capacity:
        await slots.warm(tenant, adapter, ahead=True)
    else:
        await slots.keep(adapter)
