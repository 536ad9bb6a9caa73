"""What one request holds of its limits, by its parts: the request itself, and each question of our own on its way.

Invariants: of a meter a request holds what that part needs which needs most, so its parts never take two places of one model;
a part that ends settles what it used, and what then no other part needs comes back; a request is one request of each limit,
however many of its parts fall under it.
"""

from collections.abc import Sequence

from gateway.limits.meters import Meter
from gateway.limits.terms import Demand, Limit, Terms, Unit

Reservation = tuple[Meter, int]
OF_MODEL = "model:"


class Held:
    """What one request holds, whichever of its parts need it."""

    __slots__ = ("parts", "reserved")

    def __init__(self) -> None:
        self.reserved: dict[Meter, int] = {}
        self.parts: list[Part] = []

    def further(self, needs: Sequence[Reservation]) -> list[Reservation]:
        """What is to be reserved beside what is, so that all of ``needs`` are."""
        further: list[Reservation] = []
        for meter, amount in needs:
            reserved = self.reserved.get(meter)
            if reserved is None:
                further.append((meter, amount))
            elif amount > reserved:
                further.append((meter, amount - reserved))
        return further

    def settle(self, meter: Meter, spent: int) -> None:
        """Book what was used of a meter, and give back what no part that goes on needs."""
        reserved = self.reserved[meter]
        if meter.limit.unit is Unit.REQUESTS:
            kept, spent = (reserved, 0) if self.parts else (0, reserved)
        else:
            kept = min(reserved, max((part.needed(meter) for part in self.parts), default=0))
        meter.settle(reserved - kept, spent)
        self.reserved[meter] = kept


class Part:
    """What a request needs for one answer, and has used for it."""

    __slots__ = ("_held", "_needs", "demand", "terms", "uses")

    def __init__(self, demand: Demand, held: Held, terms: Terms) -> None:
        self._held = held
        held.parts.append(self)
        # By the model that answers; that which is named is at the door.
        self._needs: dict[str, dict[Meter, int]] = {demand.model: {}}
        self.demand = demand
        self.terms = terms
        self.uses: list[Demand] = []

    def beside(self, demand: Demand) -> "Part":
        """Another part of the same request."""
        return Part(demand, self._held, self.terms)

    def has(self, model: str) -> bool:
        """Whether what a model takes is reserved."""
        return model in self._needs

    def further(self, needs: Sequence[Reservation]) -> list[Reservation]:
        """What of ``needs`` the request does not hold yet."""
        return self._held.further(needs)

    def reserve(self, model: str, needs: Sequence[Reservation], now: float) -> None:
        """Take what ``model`` needs; its meters have what is :meth:`further`."""
        for meter, amount in self._held.further(needs):
            meter.reserve(amount, now)
            self._held.reserved[meter] = self._held.reserved.get(meter, 0) + amount
        self._needs[model] = dict(needs)

    def needed(self, meter: Meter) -> int:
        """How much of a meter it may still use."""
        return max((needs.get(meter, 0) for needs in self._needs.values()), default=0)

    def left(self) -> None:
        """Give back what models need beside the one that is named: another is to answer."""
        self._needs = {self.demand.model: self._needs[self.demand.model]}
        for meter in self._held.reserved:
            self._held.settle(meter, 0)

    def end(self) -> None:
        """Settle, once."""
        self._held.parts.remove(self)
        for meter in self._held.reserved:
            self._held.settle(meter, self._spent(meter.limit))

    def _spent(self, limit: Limit) -> int:
        if limit.unit in (Unit.REQUESTS, Unit.PLACES):
            return 0
        model = limit.scope.removeprefix(OF_MODEL) if limit.scope.startswith(OF_MODEL) else None
        uses = (use for use in self.uses if model is None or model in use.models)
        return sum(self.terms.amount(limit.unit, use) for use in uses)
