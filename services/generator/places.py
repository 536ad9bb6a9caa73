"""Turns the slot table's decisions into engine calls, and waiting requests into running ones.

Invariants: ``engine.load`` of a version is awaited before any request runs with it, and
once only however many wait (single flight); ``engine.unload`` happens only when nobody
uses the version; no request begins while ``max_running`` answers run, and ``max_waiting`` wait,
the next one is refused with a retry hint; while the engine is down nothing waits here; a version
whose loading killed the engine twice is not loaded again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from services.chassis.errors import Failure, Reason
from services.generator.admission import NEW_TOKEN_WEIGHT, FairQueue, Ticket
from services.generator.engine import Engine, EngineAdapter, EngineLost, EngineRefused
from services.generator.residency import Place, Resident, SlotState, SlotTable, StoredAdapter

RESTART_RETRY_SECONDS = 15.0
# Once may be chance: something else killed it while the version was being loaded.
_DEATHS_TO_QUARANTINE = 2


@dataclass(frozen=True, slots=True)
class Limits:
    """How much runs and waits; a version that waits longer than patience makes another close."""

    max_running: int
    max_waiting: int
    patience_seconds: float = 0.25


def not_ready(why: str) -> Failure:
    """The failure of every call while the engine cannot answer."""
    return Failure(Reason.NOT_READY, retry_after_seconds=RESTART_RETRY_SECONDS, service="generator", why=why)


def _quarantined(version: str) -> Failure:
    problem = (
        f"the engine died {_DEATHS_TO_QUARANTINE} times while {version} was loaded; it is not loaded again before the "
        "generator is started anew"
    )
    return Failure(Reason.WEIGHTS_REFUSED, problem=problem)


class Slots:
    """One engine's slots as requests see them: ``async with slots.place(tenant, adapter)``."""

    def __init__(self, engine: Engine, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._engine = engine
        self._limits = limits
        self._now = monotonic
        self._table = SlotTable(engine.facts.slots)
        self._queue = FairQueue(limits.max_waiting)
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._leaving: set[str] = set()
        self._down: str | None = "the engine is starting"
        # What the lost engine held and the next one will be given.
        self._lost: frozenset[str] = frozenset()
        # How often the engine died while a version was being loaded into it.
        self._deaths: Counter[str] = Counter()
        self.running = 0
        self.life = 0

    @property
    def capacity(self) -> int:
        """How many versions can be resident at once."""
        return self._table.slots

    @property
    def waiting(self) -> int:
        """Requests that wait for a place."""
        return len(self._queue)

    def residents(self) -> tuple[Resident, ...]:
        """What the slots hold now, by version."""
        return self._table.all()

    def wanted(self) -> frozenset[str]:
        """Versions that a slot holds or will hold again, or that a request waits for: their files are needed."""
        held = {held.stored.version for held in self._table.all()}
        return self._lost | held | {ticket.version for ticket in self._queue.all()}

    def holds(self, version: str) -> bool:
        """Whether a version can serve at once."""
        held = self._table.get(version)
        return held is not None and held.state is SlotState.RESIDENT

    def idle(self, version: str) -> bool:
        """Whether a version is resident and neither runs nor is waited for."""
        held = self._table.get(version)
        return held is not None and not held.in_flight and not self._queue.waiting_for(version)

    @asynccontextmanager
    async def place(
        self, tenant: str, adapter: StoredAdapter | None, prompt_tokens: int = 0, answers: int = 1
    ) -> AsyncIterator[Place]:
        """Wait for the turn and the slot; the place is given back when the block ends.

        What is made meanwhile is told to :meth:`charge`, so that the next turn is fair.  Raises OVERLOADED,
        NOT_READY while the engine is down, WEIGHTS_REFUSED, EngineLost when the engine dies meanwhile.
        """
        if self._down is not None:
            raise not_ready(self._down)
        if adapter is not None and self._deaths[adapter.version] >= _DEATHS_TO_QUARANTINE:
            raise _quarantined(adapter.version)
        granted = asyncio.get_running_loop().create_future()
        ticket = Ticket(tenant, adapter, prompt_tokens, self._now(), granted, answers)
        self._queue.push(ticket)
        self._dispatch()
        try:
            place = await ticket.place
        except asyncio.CancelledError:
            self._abandon(ticket)
            raise
        try:
            yield place
        finally:
            self._leave(place)

    def charge(self, tenant: str, version: str, new_tokens: int) -> None:
        """Count tokens that a running request was given; ``version`` is empty for the base."""
        self._queue.charge(tenant, version, NEW_TOKEN_WEIGHT * new_tokens)

    async def warm(self, tenant: str, adapter: StoredAdapter) -> Resident:
        """Load a version beside the running ones and return once it can serve.  Raises as :meth:`place`, NOT_READY."""
        try:
            async with self.place(tenant, adapter):
                held = self._table.get(adapter.version)
                assert held is not None
                return held
        except EngineLost as lost:
            raise not_ready(str(lost)) from lost

    async def unload(self, version: str) -> None:
        """Unload once idle; requests that come meanwhile wait and load it again.

        Raises ADAPTER_NOT_RESIDENT.
        """
        held = self._table.get(version)
        if held is None:
            raise Failure(Reason.ADAPTER_NOT_RESIDENT, name=version)
        self._leaving.add(version)
        self._table.close(version)
        try:
            while (held := self._table.begin_unload(version)) is None and self._table.get(version) is not None:
                await self.changed()
        finally:
            self._leaving.discard(version)
            self._table.reopen(self._leaving)
        if held is not None:
            await asyncio.shield(self._track(self._unload(held)))

    def pin(self, version: str, pinned: bool) -> Resident:
        """Protect from eviction; see SlotTable.pin."""
        held = self._table.pin(version, pinned)
        self._notify()
        return held

    async def changed(self) -> None:
        """Return at the next change of what the slots hold or who uses them."""
        await self._changed.wait()

    async def next_life(self, after: int) -> None:
        """Return once an engine answers that was started after that ``life``."""
        while self.life <= after:
            await self.changed()

    def suspend(self, why: str) -> list[Resident]:
        """The engine is down: what waits learns it, nothing is taken; returns what was resident."""
        self._down = why
        for ticket in self._queue.all():
            self._refuse(ticket, EngineLost(why))
        lost = self._table.forget_all()
        self._lost |= {held.stored.version for held in lost}
        self._notify()
        return lost

    async def resume(self, before: list[Resident]) -> None:
        """The engine answers again: load what was resident before, then let requests in.  Raises EngineLost."""
        for held in before:
            if self._deaths[held.stored.version] >= _DEATHS_TO_QUARANTINE:
                continue
            adapter = self._table.begin_load(held.stored, None)
            began = self._now()
            try:
                await self._load_counting_deaths(adapter, held.stored.version)
            except EngineRefused:
                self._table.gone(held.stored.version)
                continue
            self._table.loaded(held.stored.version, held.used_at, self._now() - began)
            if held.pinned:
                self._table.pin(held.stored.version, True)
        self._down = None
        self.life += 1
        self._lost = frozenset()
        self._notify()
        self._dispatch()

    def _dispatch(self) -> None:
        """Grant every place that can be granted, start every load that can be started."""
        while self.running < self._limits.max_running:
            granted = next((ticket for ticket in self._queue.heads() if self._grant(ticket)), None)
            if granted is None:
                break
        if not any(self._blocked(ticket) for ticket in self._queue.all()):
            self._table.reopen(self._leaving)

    def _grant(self, ticket: Ticket) -> bool:
        if ticket.place.done():
            # Its owner was cancelled and has not run yet.
            self._queue.discard(ticket)
            return True
        if ticket.adapter is None:
            self._admit(ticket, Place("", None, ticket.answers))
            return True
        adapter = self._table.take(ticket.version, self._now())
        if adapter is not None:
            self._admit(ticket, Place(ticket.version, adapter, ticket.answers, ticket.load_seconds))
            return True
        if self._table.get(ticket.version) is None:
            self._make_room(ticket)
        return False

    def _admit(self, ticket: Ticket, place: Place) -> None:
        self._queue.serve(ticket)
        self.running += place.answers
        ticket.place.set_result(place)
        self._notify()

    def _make_room(self, ticket: Ticket) -> None:
        assert ticket.adapter is not None
        possible, victim = self._table.room()
        if possible:
            self._track(self._load(ticket.adapter, victim))
            return
        waited = self._now() - ticket.since
        if waited >= self._limits.patience_seconds:
            self._table.ask_to_close()
        else:
            asyncio.get_running_loop().call_later(self._limits.patience_seconds - waited + 0.001, self._dispatch)

    def _blocked(self, ticket: Ticket) -> bool:
        return ticket.adapter is not None and self._table.get(ticket.version) is None

    def _load(self, stored: StoredAdapter, victim: Resident | None) -> Coroutine[Any, Any, None]:
        # The table is changed now, in the caller's step; the engine is asked in a task.
        adapter = self._table.begin_load(stored, victim)

        async def ask() -> None:
            began = self._now()
            try:
                if victim is not None:
                    await self._engine.unload(victim.adapter)
                await self._load_counting_deaths(adapter, stored.version)
            except EngineRefused as refused:
                self._give_up(stored.version, Failure(Reason.WEIGHTS_REFUSED, problem=str(refused)))
            except EngineLost as lost:
                self._give_up(stored.version, lost)
            else:
                now = self._now()
                for ticket in self._queue.waiting_for(stored.version):
                    ticket.load_seconds += now - max(began, ticket.since)
                if self._table.get(stored.version) is not None:
                    self._table.loaded(stored.version, now, now - began)
            self._notify()
            self._dispatch()

        return ask()

    async def _load_counting_deaths(self, adapter: EngineAdapter, version: str) -> None:
        """Load, and remember whose loading the engine did not survive.  Raises EngineLost, EngineRefused."""
        try:
            await self._engine.load(adapter)
        except EngineLost:
            self._deaths[version] += 1
            raise
        del self._deaths[version]

    def _give_up(self, version: str, failure: Exception) -> None:
        self._table.gone(version)
        for ticket in self._queue.waiting_for(version):
            self._refuse(ticket, failure)

    async def _unload(self, held: Resident) -> None:
        # Refused or lost, the engine no longer answers for it; the supervisor rebuilds a dead one.
        with suppress(EngineLost, EngineRefused):
            await self._engine.unload(held.adapter)
        self._table.gone(held.stored.version)
        self._notify()
        self._dispatch()

    def _leave(self, place: Place) -> None:
        self.running -= place.answers
        if place.adapter is not None:
            self._table.give_back(place.version, place.adapter, self._now())
        self._notify()
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

    def _track(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
