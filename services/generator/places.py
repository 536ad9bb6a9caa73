"""Waiting requests become running ones: who goes next, and what is loaded for whom.

Invariants: ``engine.load`` of a version is awaited before any request runs with it, and
once only however many wait (single flight); ``engine.unload`` happens only when nobody
uses the version; no request begins while ``max_running`` answers run; while ``max_waiting`` wait,
the next one is refused with a retry hint; while the engine is down nothing waits here; what is
loaded ahead of time waits behind what is asked for, but not for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.chassis.errors import Failure, Reason
from services.generator.admission import LOAD_TOKENS, NEW_TOKEN_WEIGHT, FairQueue, Ticket, overloaded
from services.generator.engine import Engine, EngineLost
from services.generator.holdings import RESTART_RETRY_SECONDS, Holdings, Shared, not_ready
from services.generator.residency import AdapterState, Move, Place, Resident, StoredAdapter, Tier
from services.generator.residency_table import ResidencyTable

__all__ = ["RESTART_RETRY_SECONDS", "Limits", "Shared", "Slots", "not_ready"]

# How long what is loaded ahead of time lets every request go first.
_AHEAD_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs and waits; a version that waits longer than patience makes another close.

    A request of several answers begins whole as soon as one place is free, so that it is not passed for ever by those
    of one answer: ``max_running`` is exceeded by at most its other answers.  The engine batches no more sequences for
    that: what is beyond its own bound waits there, in order, and nothing is preempted.  ``memory_bytes`` is what adapters
    outside of the slots may take of this engine's host memory.
    """

    max_running: int
    max_waiting: int
    patience_seconds: float = 0.25
    memory_bytes: int = 0


class Slots:
    """One engine's slots as requests see them: ``async with slots.place(tenant, adapter)``."""

    def __init__(
        self, engine: Engine, limits: Limits, monotonic: Callable[[], float], shared: Shared | None = None
    ) -> None:
        shared = shared or Shared()
        self._limits = limits
        self._now = monotonic
        self._tallies = shared.tallies
        self._holdings = Holdings(engine, limits.memory_bytes, monotonic, shared, self._settled)
        self._queue = FairQueue(limits.max_waiting)
        self._down: str | None = "the engine is starting"
        self.running = 0
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
        return len(self._queue)

    def residents(self) -> tuple[Resident, ...]:
        """What the engine holds now, in slots and in host memory, by version."""
        return self.table.all()

    def wanted(self) -> frozenset[str]:
        """Versions that the engine holds or will hold again, or that a request waits for: their files are needed."""
        held = {held.stored.version for held in self.table.all()}
        return self._holdings.lost | held | {ticket.version for ticket in self._queue.all()}

    def holds(self, version: str) -> bool:
        """Whether a version can serve without a look at the disk."""
        held = self.table.get(version)
        return held is not None and held.at_hand

    def idle(self, version: str) -> bool:
        """Whether the engine holds a version that neither runs nor is waited for."""
        held = self.table.get(version)
        return held is not None and not held.in_flight and not self._queue.waiting_for(version)

    @asynccontextmanager
    async def place(
        self, tenant: str, adapter: StoredAdapter | None, prompt_tokens: int = 0, answers: int = 1
    ) -> AsyncIterator[Place]:
        """Wait for the turn and the slot; the place is given back when the block ends.

        What is made meanwhile is told to :meth:`charge`, so that the next turn is fair.  Raises OVERLOADED,
        NOT_READY while the engine is down, WEIGHTS_REFUSED, EngineLost when the engine dies meanwhile.
        """
        self._require_up(adapter)
        if adapter is not None:
            self._count_hit(adapter)
        ticket = self._ticket(Ticket(tenant, adapter, prompt_tokens, self._now(), _future(), answers))
        async with self._granted(ticket) as place:
            yield place

    def charge(self, tenant: str, version: str, new_tokens: int) -> None:
        """Count tokens that a running request was given; ``version`` is empty for the base."""
        self._queue.charge(tenant, version, NEW_TOKEN_WEIGHT * new_tokens)

    async def warm(self, tenant: str, adapter: StoredAdapter, *, ahead: bool = False) -> Resident:
        """Load a version beside the running ones and return once it can serve.

        With ``ahead`` nobody waits for it, and requests go first for a while.  Raises as :meth:`place`, NOT_READY.
        """
        self._require_up(adapter)
        ticket = self._ticket(Ticket(tenant, adapter, 0, self._now(), _future(), ahead=ahead))
        try:
            async with self._granted(ticket):
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
        for ticket in self._queue.all():
            self._refuse(ticket, EngineLost(why))
        before = self._holdings.suspend()
        self._holdings.notify()
        return before

    async def resume(self, before: list[Resident]) -> None:
        """The engine answers again: load what was resident before, then let requests in.  Raises EngineLost."""
        await self._holdings.restore(before)
        self._down = None
        self.life += 1
        self._holdings.notify()
        self._dispatch()

    @asynccontextmanager
    async def _granted(self, ticket: Ticket) -> AsyncIterator[Place]:
        try:
            place = await ticket.place
        except asyncio.CancelledError:
            self._abandon(ticket)
            raise
        try:
            yield place
        finally:
            self._leave(place)

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

    def _ticket(self, ticket: Ticket) -> Ticket:
        """Wait in the queue.  Raises OVERLOADED."""
        shed = self._queue.push(ticket)
        if shed is not None:
            self._refuse(shed, overloaded(self._limits.max_waiting))
        if ticket.ahead:
            asyncio.get_running_loop().call_later(_AHEAD_PATIENCE_SECONDS, self._wanted_now, ticket)
        self._dispatch()
        return ticket

    def _wanted_now(self, ticket: Ticket) -> None:
        """It has let the requests go first for long enough."""
        ticket.ahead = False
        self._dispatch()

    def _dispatch(self) -> None:
        """Grant every place that can be granted, and start every load of those who should go before."""
        self._grant_all()
        if not any(self._blocked(ticket) for ticket in self._queue.all()) and self._holdings.reopen():
            # Whoever waited for what was to close has to wait no longer.
            self._grant_all()

    def _grant_all(self) -> None:
        while self.running < self._limits.max_running:
            if not any(self._grant(ticket) or self._bring(ticket) for ticket in self._queue.heads()):
                break

    def _grant(self, ticket: Ticket) -> bool:
        if ticket.place.done():
            # Its owner was cancelled and has not run yet.
            self._queue.discard(ticket)
            return True
        if ticket.adapter is None:
            self._admit(ticket, Place("", None, ticket.answers))
            return True
        adapter = self.table.take(ticket.version, self._now())
        if adapter is None:
            return False
        self._admit(ticket, Place(ticket.version, adapter, ticket.answers, ticket.load_seconds))
        return True

    def _bring(self, ticket: Ticket) -> bool:
        """Begin to load what a ticket waits for, unless that is under way; it can go on later, so False."""
        held = self.table.get(ticket.version)
        if ticket.adapter is not None and (held is None or held.state is AdapterState.KEPT):
            self._make_room(ticket)
        return False

    def _admit(self, ticket: Ticket, place: Place) -> None:
        self._queue.serve(ticket)
        self.running += place.answers
        ticket.place.set_result(place)
        self._holdings.notify()

    def _make_room(self, ticket: Ticket) -> None:
        assert ticket.adapter is not None
        wanted = {other.version for other in self._queue.all()}
        move = self.table.load(ticket.adapter, self._now(), wanted)
        if move is not None:
            self._queue.charge(ticket.tenant, ticket.version, LOAD_TOKENS)
            self._holdings.start(move)
        elif not ticket.ahead:
            waited_seconds = self._now() - ticket.since
            if waited_seconds >= self._limits.patience_seconds:
                self.table.ask_to_close()
            else:
                left_seconds = self._limits.patience_seconds - waited_seconds + 0.001
                asyncio.get_running_loop().call_later(left_seconds, self._dispatch)

    def _blocked(self, ticket: Ticket) -> bool:
        held = self.table.get(ticket.version)
        return ticket.adapter is not None and (held is None or not held.in_slot)

    def _settled(self, move: Move, began: float, failure: Exception | None) -> None:
        """A move has ended; what failed to come in fails all who wait for it."""
        now = self._now()
        for ticket in self._queue.waiting_for(move.stored.version):
            if failure is not None:
                self._refuse(ticket, failure)
            elif move.to is Tier.SLOT:
                ticket.load_seconds += now - max(began, ticket.since)
        self._dispatch()

    def _leave(self, place: Place) -> None:
        self.running -= place.answers
        if place.adapter is not None:
            self.table.give_back(place.version, place.adapter, self._now())
        self._holdings.notify()
        self._dispatch()

    def _abandon(self, ticket: Ticket) -> None:
        """The owner went away while it waited, or in the very step in which it was granted."""
        if ticket.place.done() and not ticket.place.cancelled() and ticket.place.exception() is None:
            self._leave(ticket.place.result())
        else:
            self._queue.discard(ticket)
            self._dispatch()

    def _refuse(self, ticket: Ticket, failure: Exception) -> None:
        self._queue.discard(ticket)
        if not ticket.place.done():
            ticket.place.set_exception(failure)


def _future() -> asyncio.Future[Place]:
    return asyncio.get_running_loop().create_future()
