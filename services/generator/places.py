"""One engine as requests and the watcher see it: places to run in, and versions that are brought in, kept and let go.

Who goes next is settled in ``turns``, what lies where in ``holdings``.  Invariants: ``engine.load`` of a version is
awaited before any request runs with it, and once only however many wait (single flight); ``engine.unload`` happens
only when nobody uses the version; while the engine is down nothing waits here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from services.chassis.errors import Failure, Reason
from services.generator.admission import Urgency
from services.generator.engine import Engine, EngineLost
from services.generator.forecast import Wanted
from services.generator.holdings import RESTART_RETRY_SECONDS, Shared, not_ready
from services.generator.residency import Place, Resident, StoredAdapter, Tier
from services.generator.residency_table import ResidencyTable
from services.generator.turns import Limits, Turns

_NOTHING = Wanted()

__all__ = ["RESTART_RETRY_SECONDS", "Limits", "Shared", "Slots", "not_ready"]


class Slots:
    """One engine's slots as requests see them: ``async with slots.place(tenant, adapter)``."""

    def __init__(
        self, engine: Engine, limits: Limits, monotonic: Callable[[], float], shared: Shared | None = None
    ) -> None:
        shared = shared or Shared()
        self._now = monotonic
        self._tallies = shared.tallies
        self._turns = Turns(engine, limits, monotonic, shared)
        self._holdings = self._turns.holdings
        self._down: str | None = "the engine is starting"
        self.life = 0

    @property
    def table(self) -> ResidencyTable:
        """Where each version is; only to read."""
        return self._holdings.table

    @property
    def capacity(self) -> int:
        """How many versions can be in slots at once."""
        return self.table.slots

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return self._turns.waiting

    @property
    def running(self) -> int:
        """Answers that run."""
        return self._turns.running

    def residents(self) -> tuple[Resident, ...]:
        """What the engine holds now, in slots and in host memory, by version."""
        return self.table.all()

    def wanted(self) -> frozenset[str]:
        """Versions that the engine holds or will hold again, or that a request waits for: their files are needed."""
        held = {held.stored.version for held in self.table.all()}
        return self._holdings.lost | held | self._turns.waited_for()

    def holds(self, version: str) -> bool:
        """Whether a version can serve without a look at the disk."""
        held = self.table.get(version)
        return held is not None and held.at_hand

    def idle(self, version: str) -> bool:
        """Whether the engine holds a version that neither runs nor is waited for."""
        held = self.table.get(version)
        return held is not None and not held.in_flight and version not in self._turns.waited_for()

    def require_in_time(self, tenant: str, wanted: Wanted, *, background: bool = False) -> None:
        """Refuse what would come too late for its deadline, before it waits for a place.  Raises TOO_BUSY_FOR_DEADLINE."""
        if not background:
            self._turns.require_in_time(tenant, wanted)

    @asynccontextmanager
    async def place(
        self,
        tenant: str,
        adapter: StoredAdapter | None,
        wanted: Wanted = _NOTHING,
        *,
        background: bool = False,
    ) -> AsyncIterator[Place]:
        """Wait for the turn and the slot; the place is given back when the block ends.

        In the ``background`` nobody waits for the answer, and others go first for a while.
        What is made meanwhile is told to :meth:`charge`, so that the next turn is fair.  Raises OVERLOADED,
        TOO_BUSY_FOR_DEADLINE, NOT_READY while the engine is down, WEIGHTS_REFUSED, EngineLost when the engine dies meanwhile.
        """
        self._require_up(adapter)
        if adapter is not None:
            self._count_hit(adapter)
        urgency = Urgency.BACKGROUND if background else Urgency.NOW
        async with self._turns.turn(tenant, adapter, wanted, urgency) as place:
            yield place

    def charge(self, tenant: str, place: Place, new_tokens: int) -> None:
        """Count tokens that a running request was given, all of its answers together."""
        self._turns.charge(tenant, place, new_tokens)

    async def warm(self, tenant: str, adapter: StoredAdapter, *, ahead: bool = False, weight: int = 1) -> Resident:
        """Load a version beside the running ones and return once it can serve.

        With ``ahead`` nobody waits for it, and requests go first for a while; nobody says a ``weight`` then either.  Raises
        as :meth:`place`, NOT_READY.
        """
        self._require_up(adapter)
        urgency = Urgency.AHEAD if ahead else Urgency.NOW
        try:
            async with self._turns.turn(tenant, adapter, Wanted(weight=weight), urgency):
                held = self.table.get(adapter.version)
                if held is None:
                    raise EngineLost("the engine was lost as soon as it held the version")
                return held
        except EngineLost as lost:
            raise not_ready(str(lost)) from lost

    async def keep(self, stored: StoredAdapter) -> bool:
        """Bring a version into host memory, unless it is at hand; False when what ranks higher fills that.

        Raises WEIGHTS_REFUSED, NOT_READY.
        """
        self._require_up(stored)
        return await self._holdings.keep(stored)

    async def lower(self, version: str) -> None:
        """Out of its slot into host memory, once idle and if that has room."""
        await self._holdings.lower(version)

    async def unload(self, version: str) -> None:
        """Out of slot and memory once idle; requests that come meanwhile wait and load it again.

        Raises ADAPTER_NOT_RESIDENT.
        """
        await self._holdings.unload(version)

    def pin(self, version: str, pinned: bool) -> Resident:
        """Protect from eviction; see ResidencyTable.pin."""
        return self._holdings.pin(version, pinned)

    async def changed(self) -> None:
        """Return at the next change of where a version is or who uses it."""
        await self._holdings.changed()

    async def next_life(self, after: int) -> None:
        """Return once an engine answers that was started after that ``life``."""
        while self.life <= after:
            await self.changed()

    def suspend(self, why: str) -> list[Resident]:
        """The engine is down: what waits learns it, nothing is taken; returns what was resident."""
        self._down = why
        self._turns.refuse_all(why)
        before = self._holdings.suspend()
        self._holdings.notify()
        return before

    async def resume(self, before: list[Resident]) -> None:
        """The engine answers again: load what was resident before, then let requests in.  Raises EngineLost."""
        await self._holdings.restore(before)
        self._down = None
        self.life += 1
        self._holdings.notify()
        self._turns.dispatch()

    def _require_up(self, adapter: StoredAdapter | None) -> None:
        """Raises NOT_READY while the engine is down, WEIGHTS_REFUSED for a version that it died of or has no slot for."""
        if adapter is not None and not self.capacity:
            raise Failure(Reason.WEIGHTS_REFUSED, problem="the engine of their base has no slots for adapters")
        if self._down is not None:
            raise not_ready(self._down)
        if adapter is not None:
            self._holdings.require_harmless(adapter.version)

    def _count_hit(self, adapter: StoredAdapter) -> None:
        held = self.table.get(adapter.version)
        self._tallies.hit(Tier.FILE if held is None else held.tier, adapter)
        self.table.touch(adapter.version, self._now())
