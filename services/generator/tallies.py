"""What is counted of the tiers: requests that found a version there, versions that came in, versions that made room.

Counted by tenant, so that nobody is shown what others do.  Invariant: the number of tenants that are remembered is
bounded; of those beyond it the longest silent begin anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from services.generator.residency import StoredAdapter, Tier

_TENANTS = 4096


class Event(Enum):
    """What is counted."""

    HIT = "hit"
    LOAD = "load"
    EVICTION = "eviction"


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts of one tier since the process started.

    A request is a hit of the nearest tier that held its version; one that had it fetched first counts as a load of the
    files, and as their hit.
    """

    hits: int = 0
    loads: int = 0
    evictions: int = 0


_Counts = dict[tuple[Tier, Event], int]


class Tallies:
    """The counts of one process; ``observe`` hears of each event, for metrics."""

    def __init__(self, observe: Callable[[Tier, Event], None] = lambda _tier, _event: None) -> None:
        self._observe = observe
        self._all: _Counts = {}
        self._by_tenant: OrderedDict[str, _Counts] = OrderedDict()

    def hit(self, tier: Tier, stored: StoredAdapter) -> None:
        """A request found its version there and nowhere nearer."""
        self._count(tier, Event.HIT, stored.tenant)

    def loaded(self, tier: Tier, stored: StoredAdapter) -> None:
        """A version came in."""
        self._count(tier, Event.LOAD, stored.tenant)

    def evicted(self, tier: Tier, stored: StoredAdapter) -> None:
        """A version left so that another could come in."""
        self._count(tier, Event.EVICTION, stored.tenant)

    def of(self, tier: Tier, tenant: str | None) -> Tally:
        """The counts of one tenant, or with None of all."""
        counts = self._all if tenant is None else self._by_tenant.get(tenant, {})
        return Tally(*(counts.get((tier, event), 0) for event in Event))

    def _count(self, tier: Tier, event: Event, tenant: str) -> None:
        counts = self._by_tenant.setdefault(tenant, {})
        self._by_tenant.move_to_end(tenant)
        if len(self._by_tenant) > _TENANTS:
            self._by_tenant.popitem(last=False)
        for each in (counts, self._all):
            each[tier, event] = each.get((tier, event), 0) + 1
        self._observe(tier, event)
