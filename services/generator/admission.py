"""Who goes next: a bounded queue that is fair between tenants, and between a tenant's versions.

Invariant: at most ``capacity`` tickets wait; each tenant's lanes (one a version) are
visited in turn, so neither a busy tenant nor a busy version makes another wait for more
than its own place in the round.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.chassis.errors import Failure, Reason
from services.generator.residency import Place, StoredAdapter

RETRY_SECONDS = 1.0


@dataclass(eq=False, slots=True)
class Ticket:
    """One wait for a place; ``place`` is set when it is granted or refused."""

    tenant: str
    adapter: StoredAdapter | None
    since: float
    place: asyncio.Future[Place] = field(repr=False)

    @property
    def version(self) -> str:
        """Version waited for; empty for the base."""
        return self.adapter.version if self.adapter else ""


Lanes = OrderedDict[str, deque[Ticket]]


class FairQueue:
    """Tickets by tenant, then by version; both visited round robin."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tenants: OrderedDict[str, Lanes] = OrderedDict()
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def push(self, ticket: Ticket) -> None:
        """Add at the end of its lane.  Raises OVERLOADED when the queue is full."""
        if self._size >= self._capacity:
            raise Failure(Reason.OVERLOADED, retry_after_seconds=RETRY_SECONDS, limit=self._capacity)
        lanes = self._tenants.setdefault(ticket.tenant, OrderedDict())
        lanes.setdefault(ticket.version, deque()).append(ticket)
        self._size += 1

    def heads(self) -> Iterator[Ticket]:
        """The first ticket of every lane, in the order in which they should be served."""
        rounds = [[lane[0] for lane in lanes.values()] for lanes in self._tenants.values()]
        for position in range(max(map(len, rounds), default=0)):
            yield from (heads[position] for heads in rounds if position < len(heads))

    def serve(self, ticket: Ticket) -> None:
        """Remove a ticket that was granted; its lane and its tenant go to the end of the round."""
        self._remove(ticket)
        lanes = self._tenants.get(ticket.tenant)
        if lanes is None:
            return
        if ticket.version in lanes:
            lanes.move_to_end(ticket.version)
        self._tenants.move_to_end(ticket.tenant)

    def discard(self, ticket: Ticket) -> None:
        """Remove a ticket whose owner went away; nothing when it is not there."""
        lanes = self._tenants.get(ticket.tenant)
        if lanes is not None and ticket in lanes.get(ticket.version, ()):
            self._remove(ticket)

    def waiting_for(self, version: str) -> list[Ticket]:
        """All tickets for a version, of any tenant."""
        return [ticket for lanes in self._tenants.values() for ticket in lanes.get(version, ())]

    def all(self) -> list[Ticket]:
        """Every ticket."""
        return [ticket for lanes in self._tenants.values() for lane in lanes.values() for ticket in lane]

    def _remove(self, ticket: Ticket) -> None:
        lanes = self._tenants[ticket.tenant]
        lanes[ticket.version].remove(ticket)
        self._size -= 1
        if not lanes[ticket.version]:
            del lanes[ticket.version]
        if not lanes:
            del self._tenants[ticket.tenant]
