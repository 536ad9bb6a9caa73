"""Which engines run, what memory they take and whom they serve: the decisions of the pool, without waiting.

Invariants: the estimates of all engines that have processes stay within the budget, and
their number within the bound; an engine that somebody uses, and one that is always on, is
never stopped to make room.  Of two tenants of which one waits, the one that has more
engines is asked to let one go: it takes nothing new, finishes what it runs, and is then
stopped.  Nothing here waits: ``pool`` turns these decisions into starts and stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """What all engines together may take, and how long things last.

    An engine is stopped after ``idle_seconds`` without use, and serves at least ``turn_seconds`` before another
    tenant may claim its room.  A request waits for room ``patience_seconds`` while nothing can be stopped; at most
    ``max_waiting`` requests wait for engines, and of one tenant at most half of them.
    """

    budget_bytes: int
    max_engines: int
    idle_seconds: float = 300.0
    turn_seconds: float = 60.0
    patience_seconds: float = 30.0
    max_waiting: int = 256


class Room(Enum):
    """Whether an engine could be started."""

    FREE = "now"
    AFTER_STOPPING = "after the victims were stopped"
    NONE = "not while the others are in use"
    NEVER = "not beside the engines that are always on"


@dataclass(slots=True)
class Entry:
    """One engine: ``occupying`` from its start until its processes are gone, ``size_bytes`` by estimate."""

    digest: str
    size_bytes: int
    always_on: bool
    occupying: bool = False
    ready: bool = False
    stopping: bool = False
    closing: bool = False
    leaving: bool = False
    users: Counter[str] = field(default_factory=Counter)
    ready_at: float = 0.0
    used_at: float = 0.0

    @property
    def in_use(self) -> int:
        """Requests that use it, running or about to."""
        return self.users.total()

    @property
    def open(self) -> bool:
        """Whether it takes new requests."""
        return self.ready and not (self.closing or self.stopping)

    @property
    def stoppable(self) -> bool:
        """Whether it may be stopped now."""
        return self.ready and not (self.in_use or self.always_on or self.stopping)


class PoolTable:
    """All engines by the digest of their base."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self._entries: dict[str, Entry] = {}

    def __getitem__(self, digest: str) -> Entry:
        return self._entries[digest]

    def add(self, digest: str, size_bytes: int, *, always_on: bool = False) -> None:
        """Know an engine; one that is always on takes its room from now on."""
        self._entries[digest] = Entry(digest, size_bytes, always_on, occupying=always_on)

    def forget(self, digest: str) -> None:
        """Know a stopped engine no longer."""
        assert not self._entries[digest].occupying
        del self._entries[digest]

    @property
    def occupied_bytes(self) -> int:
        """The estimates of all that run, together."""
        return sum(entry.size_bytes for entry in self._entries.values() if entry.occupying)

    def enter(self, digest: str, tenant: str) -> None:
        """One more request uses an engine."""
        entry = self._entries[digest]
        entry.users[tenant] += 1
        entry.leaving = False

    def leave(self, digest: str, tenant: str, now: float) -> None:
        """One request less."""
        entry = self._entries[digest]
        entry.users[tenant] -= 1
        entry.users += Counter()
        entry.used_at = now

    def room(self, digest: str) -> tuple[Room, Sequence[str]]:
        """Whether an engine could start, and which idle ones would have to stop first, the longest unused first."""
        wanted = self._entries[digest]
        running = [entry for entry in self._entries.values() if entry.occupying]
        fixed = [entry for entry in running if entry.always_on]
        if not self._fits(wanted, fixed):
            return Room.NEVER, ()
        if self._fits(wanted, running):
            return Room.FREE, ()
        # What is being stopped is as good as gone, and nobody else need go for it.
        running = [entry for entry in running if not entry.stopping]
        victims: list[str] = []
        if self._fits(wanted, running):
            return Room.AFTER_STOPPING, victims
        for idle in sorted((entry for entry in running if entry.stoppable), key=lambda entry: entry.used_at):
            victims.append(idle.digest)
            running.remove(idle)
            if self._fits(wanted, running):
                return Room.AFTER_STOPPING, victims
        return Room.NONE, ()

    def started(self, digest: str) -> None:
        """Its processes begin."""
        self._entries[digest].occupying = True

    def answers(self, digest: str, ready: bool, now: float) -> None:
        """It answers, or does not any more."""
        entry = self._entries[digest]
        if ready and not entry.ready:
            entry.ready_at = entry.used_at = now
        entry.ready = ready

    def stopping(self, digest: str) -> None:
        """Its processes are being ended."""
        self._entries[digest].stopping = True

    def stopped(self, digest: str, now: float) -> None:
        """Its processes are gone."""
        entry = self._entries[digest]
        entry.occupying = entry.ready = entry.stopping = entry.closing = entry.leaving = False
        entry.used_at = now

    def release(self, digest: str) -> None:
        """Nobody will ask for it again, as far as is known: stop it as soon as it is idle."""
        self._entries[digest].leaving = True

    def overdue(self, now: float) -> list[str]:
        """Idle engines that should not run any longer: unused for too long, released, or asked to close."""
        oldest = now - self.limits.idle_seconds
        return [
            entry.digest
            for entry in self._entries.values()
            if entry.stoppable and (entry.leaving or entry.closing or entry.used_at <= oldest)
        ]

    def ask_to_close(self, tenants: Collection[str], now: float) -> bool:
        """Let a busy engine of a tenant with more engines than the waiting ones take nothing new, unless one does.

        False when there is none that has had its turn.
        """
        if any(entry.closing for entry in self._entries.values()):
            return True
        fewest = min(map(self.engines_of, tenants))
        found = [
            (max(map(self.engines_of, entry.users)), -entry.in_use, -entry.used_at, entry)
            for entry in self._entries.values()
            if entry.ready and entry.in_use and not (entry.always_on or entry.stopping)
            if entry.ready_at + self.limits.turn_seconds <= now
        ]
        richer = [candidate for candidate in found if candidate[0] > fewest]
        if not richer:
            return False
        max(richer, key=lambda candidate: candidate[:3])[3].closing = True
        return True

    def reopen(self) -> None:
        """Nobody waits for room any more."""
        for entry in self._entries.values():
            entry.closing = False

    def engines_of(self, tenant: str) -> int:
        """How many engines a tenant keeps busy, those that are always on aside."""
        return sum(tenant in entry.users for entry in self._entries.values() if not entry.always_on)

    def in_turn(self, waiting: Iterable[tuple[str, Collection[str], float]]) -> list[str]:
        """Digests in the order in which they should start; given with those who wait for each, and since when.

        Whoever has the fewest engines goes first, then whoever has waited longest.
        """
        ranked = [(min(map(self.engines_of, tenants)), since, digest) for digest, tenants, since in waiting]
        return [digest for _, _, digest in sorted(ranked)]

    def _fits(self, wanted: Entry, beside: Sequence[Entry]) -> bool:
        others = [entry for entry in beside if entry is not wanted]
        size_bytes = wanted.size_bytes + sum(entry.size_bytes for entry in others)
        return size_bytes <= self.limits.budget_bytes and len(others) < self.limits.max_engines
