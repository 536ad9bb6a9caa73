"""Whose turn it is on one engine: waiting requests become running ones, and what they wait for is brought in.

Invariants: no request begins while ``max_running`` answers run; while ``max_waiting`` wait, the next one is refused with a
retry hint; a place that was granted is given back once, whoever goes away in which step; what is loaded ahead of time, and
what nobody waits for, waits behind what somebody waits for, but not for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.generator.admission import LOAD_TOKENS, NEW_TOKEN_WEIGHT, FairQueue, Ticket, Urgency, overloaded
from services.generator.engine import Engine, EngineAdapter, EngineLost
from services.generator.forecast import Forecast, Wanted
from services.generator.holdings import Holdings, Shared
from services.generator.residency import AdapterState, Move, Place, StoredAdapter, Tier
from services.generator.residency_table import ResidencyTable

# How long what is loaded ahead of time lets every other request go first.
_AHEAD_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs and waits; a version that waits longer than patience makes another close.

    A request of several answers begins whole as soon as one place is free, so that it is not passed for ever by those
    of one answer: ``max_running`` is exceeded by at most its other answers.  The engine batches no more sequences for
    that: what is beyond its own bound waits there, in order, and nothing is preempted.  ``memory_bytes`` is what adapters
    outside of the slots may take of this engine's host memory.  ``max_protected`` is in how many slots one tenant may protect
    its versions.  Work for which no caller waits lets requests go first for ``background_seconds``.
    """

    max_running: int
    max_waiting: int
    patience_seconds: float = 0.25
    memory_bytes: int = 0
    max_protected: int | None = None
    background_seconds: float = 30.0


class Turns:
    """One engine's queue, and what it holds for those in it."""

    def __init__(self, engine: Engine, limits: Limits, monotonic: Callable[[], float], shared: Shared) -> None:
        self._limits = limits
        self._now = monotonic
        self._queue = FairQueue(limits.max_waiting)
        table = ResidencyTable(engine.facts.slots, limits.memory_bytes, shared.priorities, limits.max_protected)
        self.holdings = Holdings(engine, table, monotonic, shared, self._settled)
        self._forecast = Forecast(monotonic, limits.max_running)

    @property
    def running(self) -> int:
        """Answers that run."""
        return self._forecast.running

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._queue)

    def waited_for(self) -> frozenset[str]:
        """Versions that somebody waits for."""
        return frozenset(ticket.version for ticket in self._queue.all())

    def charge(self, tenant: str, place: Place, new_tokens: int) -> None:
        """Count tokens that a running request was given, all of its answers together."""
        self._queue.charge(tenant, place.version, NEW_TOKEN_WEIGHT * new_tokens, place.course.wanted.weight)
        self._forecast.heard(place.course, new_tokens)

    def require_in_time(self, tenant: str, wanted: Wanted) -> None:
        """Refuse what would come too late, as things stand.  Raises TOO_BUSY_FOR_DEADLINE."""
        self._forecast.require_in_time(wanted, self._queue.ahead_of(tenant, wanted.weight), tenant)

    @asynccontextmanager
    async def turn(
        self,
        tenant: str,
        adapter: StoredAdapter | None,
        wanted: Wanted,
        urgency: Urgency = Urgency.NOW,
    ) -> AsyncIterator[Place]:
        """Wait for a place; it is given back when the block ends.

        Raises OVERLOADED, TOO_BUSY_FOR_DEADLINE, WEIGHTS_REFUSED, EngineLost when the engine dies meanwhile.
        """
        if urgency is Urgency.NOW:
            self.require_in_time(tenant, wanted)
        future: asyncio.Future[Place] = asyncio.get_running_loop().create_future()
        ticket = Ticket(tenant, adapter, wanted, self._now(), future, urgency=urgency)
        self._enter(ticket)
        try:
            place = await ticket.place
        except asyncio.CancelledError:
            self._abandon(ticket)
            raise
        whole = False
        try:
            yield place
            whole = True
        finally:
            self._leave(place, whole=whole)

    def refuse_all(self, why: str) -> None:
        """The engine is lost: whoever waits learns it."""
        for ticket in self._queue.all():
            self._refuse(ticket, EngineLost(why))

    def _enter(self, ticket: Ticket) -> None:
        """Wait in the queue.  Raises OVERLOADED."""
        shed = self._queue.push(ticket)
        if shed is not None:
            self._refuse(shed, overloaded(self._limits.max_waiting))
        if ticket.urgency is not Urgency.NOW:
            patience = self._limits.background_seconds if ticket.urgency is Urgency.BACKGROUND else _AHEAD_SECONDS
            asyncio.get_running_loop().call_later(patience, self._wanted_now, ticket)
        self.dispatch()

    def _wanted_now(self, ticket: Ticket) -> None:
        """It has let the requests go first for long enough."""
        ticket.urgency = Urgency.NOW
        self.dispatch()

    def dispatch(self) -> None:
        """Grant every place that can be granted, and start every load of those who should go before."""
        self._grant_all()
        if not any(self._blocked(ticket) for ticket in self._queue.all()) and self.holdings.reopen():
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
            self._admit(ticket, None)
            return True
        adapter = self.holdings.table.take(ticket.version, self._now())
        if adapter is None:
            return False
        self._admit(ticket, adapter)
        return True

    def _bring(self, ticket: Ticket) -> bool:
        """Begin to load what a ticket waits for, unless that is under way; it can go on later, so False."""
        held = self.holdings.table.get(ticket.version)
        if ticket.adapter is not None and (held is None or held.state is AdapterState.KEPT):
            self._make_room(ticket)
        return False

    def _admit(self, ticket: Ticket, adapter: EngineAdapter | None) -> None:
        self._queue.serve(ticket)
        course = self._forecast.begin(ticket.wanted, ticket.tenant, background=ticket.urgency is Urgency.BACKGROUND)
        ticket.place.set_result(Place(ticket.version, adapter, course, ticket.load_seconds))
        self.holdings.notify()

    def _make_room(self, ticket: Ticket) -> None:
        assert ticket.adapter is not None
        move = self.holdings.table.load(ticket.adapter, self._now(), self.waited_for())
        if move is not None:
            self._queue.charge(ticket.tenant, ticket.version, LOAD_TOKENS, ticket.wanted.weight)
            self.holdings.start(move)
        elif ticket.urgency is Urgency.NOW:
            waited_seconds = self._now() - ticket.since
            if waited_seconds >= self._limits.patience_seconds:
                self.holdings.table.ask_to_close()
            else:
                left_seconds = self._limits.patience_seconds - waited_seconds + 0.001
                asyncio.get_running_loop().call_later(left_seconds, self.dispatch)

    def _blocked(self, ticket: Ticket) -> bool:
        held = self.holdings.table.get(ticket.version)
        return ticket.adapter is not None and (held is None or not held.in_slot)

    def _settled(self, move: Move, began: float, failure: Exception | None) -> None:
        """A move has ended; what failed to come in fails all who wait for it."""
        now = self._now()
        for ticket in self._queue.waiting_for(move.stored.version):
            if failure is not None:
                self._refuse(ticket, failure)
            elif move.to is Tier.SLOT:
                ticket.load_seconds += now - max(began, ticket.since)
        self.dispatch()

    def _leave(self, place: Place, *, whole: bool) -> None:
        self._forecast.end(place.course, whole=whole)
        if place.adapter is not None:
            self.holdings.table.give_back(place.version, place.adapter, self._now())
        self.holdings.notify()
        self.dispatch()

    def _abandon(self, ticket: Ticket) -> None:
        """The owner went away while it waited, or in the very step in which it was granted."""
        if ticket.place.done() and not ticket.place.cancelled() and ticket.place.exception() is None:
            self._leave(ticket.place.result(), whole=False)
        else:
            self._queue.discard(ticket)
            self.dispatch()

    def _refuse(self, ticket: Ticket, failure: Exception) -> None:
        self._queue.discard(ticket)
        if not ticket.place.done():
            ticket.place.set_exception(failure)
