"""Who goes next: a bounded queue that is fair in tokens, between tenants by weight and between a tenant's versions.

Virtual token counters (Sheng et al., "Fairness in Serving Large Language Models", arXiv 2401.00588): everybody's
counter rises by the tokens that were served, prompt tokens once and new tokens ``NEW_TOKEN_WEIGHT`` times, and the
lowest counter goes next.  Who comes back from a pause is lifted to those who wait, so that nobody saves up for a burst.
Counting requests instead would give a tenant of long answers as many of them as one of short answers.

Of a tenant of weight w a token counts one w-th, in whole numbers: ``_COUNTED // w``.  A weight is the request's, so what
was counted stays as it was when the tenant has another.

A version that had to be brought into a slot counts like the tokens that others lose by it, for whoever waited for it.

Invariant: at most ``capacity`` tickets wait, and nobody is refused while another tenant has more of them, or while anything
waits that nobody waits for.  Of two
tenants that wait without a pause, neither is served more for its weight than the other by over twice the larger of the
weighted tokens of one prompt (and the load before it) and of all that runs at once, for the smaller of their weights.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from services.chassis.errors import Failure, Reason
from services.generator.forecast import Wanted
from services.generator.residency import Place, StoredAdapter

RETRY_SECONDS = 1.0
# A new token costs a step of the engine, a prompt token a part of one: the weights of the paper.
NEW_TOKEN_WEIGHT = 2
# Filling a slot holds the engine up for about as long as a step of a full batch.
LOAD_TOKENS = 32
# What a token counts for a tenant of weight 1.  The weights up to 20 and whatever divides 1000 divide it, and those between
# (a quota's is 1000 at most) are off by less than a millionth: a token costs one multiplication and no rest is carried.
_COUNTED = math.lcm(*range(1, 21), 1000)
# Counters that are kept of those who are away.  Beyond them the ones that make no difference are forgotten.
_KEPT_COUNTERS = 4096


class Urgency(IntEnum):
    """Who waits for it: somebody; somebody soon, for a version in its slot before it is asked for; nobody."""

    NOW = 0
    AHEAD = 1
    BACKGROUND = 2


@dataclass(eq=False, slots=True)
class Ticket:
    """One wait for a place; ``place`` is set when it is granted or refused."""

    tenant: str
    adapter: StoredAdapter | None
    wanted: Wanted
    since: float
    place: asyncio.Future[Place] = field(repr=False)
    load_seconds: float = 0.0
    urgency: Urgency = Urgency.NOW

    @property
    def version(self) -> str:
        """Version waited for; empty for the base."""
        return self.adapter.version if self.adapter else ""


def overloaded(limit: int) -> Failure:
    """The failure of whoever finds the queue full."""
    return Failure(Reason.OVERLOADED, retry_after_seconds=RETRY_SECONDS, limit=limit)


class Counters:
    """The virtual counters of one level: what counts of the tokens that each name was served."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        # Who waited last: where he stands is where those begin who find nobody waiting.
        self._last = ""

    def of(self, name: str) -> int:
        """The counter."""
        return self._served.get(name, 0)

    def add(self, name: str, counted: int) -> None:
        """Somebody was served."""
        self._served[name] = self.of(name) + counted

    def join(self, name: str, waiting: Collection[str]) -> None:
        """Somebody begins to wait, beside those who wait already."""
        floor = min((self.of(other) for other in waiting), default=self.of(self._last))
        self._served[name] = max(self.of(name), floor)
        if len(self._served) > _KEPT_COUNTERS:
            # Whoever is away and stands no higher is lifted when he comes back: his counter says nothing.
            here = {name, self._last, *waiting}
            self._served = {other: served for other, served in self._served.items() if served > floor or other in here}

    def leave(self, name: str) -> None:
        """Nothing of a name waits any more."""
        self._last = name


Lanes = OrderedDict[str, deque[Ticket]]


class FairQueue:
    """Tickets by tenant, then by version; the least served, of tenants for their weight, go first at both levels."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._waiting: OrderedDict[str, Lanes] = OrderedDict()
        self._size = 0
        self._tenants = Counters()
        self._versions: dict[str, Counters] = {}

    def __len__(self) -> int:
        return self._size

    def push(self, ticket: Ticket) -> Ticket | None:
        """Add to its lane; returns another ticket that had to go for it.

        Raises OVERLOADED when the queue is full and no tenant has more in it than this one would have, nor anything waits
        in it that nobody waits for.
        """
        shed = self._to_shed(ticket) if self._size >= self._capacity else None
        if shed is not None:
            self._remove(shed)
        if ticket.tenant not in self._waiting:
            self._join(ticket.tenant)
        lanes = self._waiting[ticket.tenant]
        if ticket.version not in lanes:
            self._versions[ticket.tenant].join(ticket.version, lanes)
            lanes[ticket.version] = deque()
        lane = lanes[ticket.version]
        place = len(lane)
        while place and lane[place - 1].urgency > ticket.urgency:
            place -= 1
        lane.insert(place, ticket)
        self._size += 1
        return shed

    def ahead_of(self, tenant: str, weight: int = 1) -> int:
        """How many that somebody waits for would go before a newcomer of the tenant's: those that the turns take as well."""
        sizes = {
            name: sum(ticket.urgency is Urgency.NOW for lane in lanes.values() for ticket in lane)
            for name, lanes in self._waiting.items()
        }
        own = sizes.pop(tenant, 0)
        # Until the newcomer's turn another has as many more of them, or as many fewer, as its weight is.
        return own + sum(min(size, -(-(own + 1) * self._weight(name) // weight)) for name, size in sizes.items())

    def _weight(self, tenant: str) -> int:
        """The weight of who waits, by one of its tickets."""
        lane = next(iter(self._waiting[tenant].values()))
        return lane[0].wanted.weight

    def heads(self) -> Iterator[Ticket]:
        """The first ticket of every lane, in the order in which they should be served; what nobody waits for last."""
        later: list[Ticket] = []
        for tenant in sorted(self._waiting, key=self._tenants.of):
            versions, lanes = self._versions[tenant], self._waiting[tenant]
            for version in sorted(lanes, key=versions.of):
                head = lanes[version][0]
                if head.urgency is Urgency.NOW:
                    yield head
                else:
                    later.append(head)
        yield from sorted(later, key=lambda head: head.urgency)

    def serve(self, ticket: Ticket) -> None:
        """Remove a ticket that was granted; its prompt counts."""
        self._remove(ticket)
        self.charge(ticket.tenant, ticket.version, max(1, ticket.wanted.prompt_tokens), ticket.wanted.weight)

    def charge(self, tenant: str, version: str, weighted_tokens: int, weight: int) -> None:
        """Count what a request was served; its tenant has the ``weight``, among whose versions it is nothing."""
        self._tenants.add(tenant, weighted_tokens * (_COUNTED // weight))
        if tenant in self._versions:
            self._versions[tenant].add(version, weighted_tokens)

    def discard(self, ticket: Ticket) -> None:
        """Remove a ticket whose owner went away; nothing when it is not there."""
        lanes = self._waiting.get(ticket.tenant)
        if lanes is not None and ticket in lanes.get(ticket.version, ()):
            self._remove(ticket)

    def waiting_for(self, version: str) -> list[Ticket]:
        """All tickets for a version, of any tenant."""
        return [ticket for lanes in self._waiting.values() for ticket in lanes.get(version, ())]

    def all(self) -> list[Ticket]:
        """Every ticket."""
        return [ticket for lanes in self._waiting.values() for lane in lanes.values() for ticket in lane]

    def _to_shed(self, asking: Ticket) -> Ticket:
        """The newest ticket that nobody waits for, else of whoever has most.  Raises OVERLOADED when that is the newcomer's."""
        background = [ticket for ticket in self.all() if ticket.urgency is Urgency.BACKGROUND]
        if asking.urgency is Urgency.BACKGROUND:
            raise overloaded(self._capacity)
        if background:
            return max(background, key=lambda ticket: ticket.since)
        newcomer = asking.tenant
        sizes = {tenant: sum(map(len, lanes.values())) for tenant, lanes in self._waiting.items()}
        most = max(sizes, key=sizes.__getitem__, default=newcomer)
        if sizes.get(most, 0) <= sizes.get(newcomer, 0) + 1:
            raise overloaded(self._capacity)
        return max((lane[-1] for lane in self._waiting[most].values()), key=lambda ticket: ticket.since)

    def _join(self, tenant: str) -> None:
        self._tenants.join(tenant, self._waiting)
        self._waiting[tenant] = OrderedDict()
        self._versions.setdefault(tenant, Counters())
        if len(self._versions) > _KEPT_COUNTERS:
            # A tenant that was away begins anew among its own versions.
            self._versions = {other: self._versions[other] for other in self._waiting}

    def _remove(self, ticket: Ticket) -> None:
        lanes = self._waiting[ticket.tenant]
        lanes[ticket.version].remove(ticket)
        self._size -= 1
        if not lanes[ticket.version]:
            del lanes[ticket.version]
            self._versions[ticket.tenant].leave(ticket.version)
        if not lanes:
            del self._waiting[ticket.tenant]
            self._tenants.leave(ticket.tenant)
