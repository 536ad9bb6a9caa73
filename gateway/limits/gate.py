"""The gate that every request passes which generates, embeds or searches: places are shared, limits reserved, and settled at the end.

Invariants: a request takes of all its limits or of none; what it reserved is settled once,
however it ends, with what its records say that it used.  The model that it names holds it at
the door, the one that answers before it generates, whatever name led there; one that is left for its fallback
holds it no longer, and what we ask on the way holds it while it is asked.  With access away the limits that
are known are kept by this gateway alone, and a tenant that it never heard of passes: what
it uses is recorded, and counts when access is back.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import replace
from types import TracebackType
from typing import Self

from gateway.generation import Receipt
from gateway.limits.accounts import Account, Accounts
from gateway.limits.fair_share import FairShare
from gateway.limits.meters import Meter
from gateway.limits.parts import OF_MODEL, Held, Part, Reservation
from gateway.limits.terms import MONTHS, Demand, Terms, Unit
from gateway.names import model_of
from gateway.policy import in_force
from services.chassis.context import RequestContext, current
from services.chassis.errors import Failure, Reason

# What says that a limit has nothing left.
EXHAUSTED = frozenset({Reason.INSUFFICIENT_QUOTA, Reason.RATE_LIMIT_EXCEEDED})
Tell = Callable[[tuple[tuple[str, str], ...]], Awaitable[None]]
# A lease may have gone to another request before we look again.
_LOOKS = 3
_HEADERS = {Unit.REQUESTS: "requests", Unit.TOKENS: "tokens"}
_WORDS = {
    Unit.REQUESTS: "requests a minute",
    Unit.TOKENS: "tokens a minute",
    Unit.PLACES: "requests at once",
    Unit.MONTH_TOKENS: "tokens a month",
    Unit.MONTH_MICROS: "millionths of a unit of money a month",
}

# The part of a request that an answer is made for now.
_answering: ContextVar["tuple[Gate, Part] | None"] = ContextVar("trivium_answering", default=None)


class Gate:
    """Lets requests in."""

    def __init__(self, accounts: Accounts, shares: FairShare, clock: Callable[[], float]) -> None:
        self._accounts = accounts
        self._shares = shares
        self._clock = clock

    def passing(self, demand: Demand, tell: Tell) -> "Passage":
        """The passage of the current request, for an ``async with`` around all its work.

        ``tell`` hears how much is left, as headers, when something is limited.  Entering raises OVERLOADED,
        RATE_LIMIT_EXCEEDED and INSUFFICIENT_QUOTA.
        """
        return Passage(self, demand, tell)

    async def enter(self, passage: "Passage") -> None:
        """Take a place and reserve."""
        caller = current()
        account = self._accounts.of(caller.tenant_id)
        if account.stale(self._clock()):
            await self._accounts.refreshed(account)
        terms = account.terms or Terms()
        in_force.begin(terms.policy)
        # A service that acts for somebody does what was accepted from them before: nobody waits for it.
        background = passage.background = bool(caller.actor)
        self._shares.enter(caller.tenant_id, terms.weight, background=background)
        try:
            if terms.limits:
                await self._reserve(account, caller, passage.part, passage.part.demand, passage.tell)
        except BaseException:
            # It may have reserved already, and its caller left while it was told what is left.
            self.leave(passage, caller.tenant_id)
            raise

    async def answered_by(self, part: Part, model: str) -> None:
        """Reserve what the model that answers takes beyond what the request has reserved already."""
        caller = current()
        account = self._accounts.of(caller.tenant_id)
        if (account.terms or part.terms).limits:
            await self._reserve(account, caller, part, replace(part.demand, answers=model))

    async def _reserve(
        self, account: Account, caller: RequestContext, part: Part, demand: Demand, tell: Tell | None = None
    ) -> None:
        scopes = _scopes(caller, demand)
        away = False
        for look in range(_LOOKS):
            terms = part.terms = account.terms or part.terms
            taken = [(account.meter(limit), amount) for limit, amount in terms.needs(scopes, demand)]
            needs = part.further(taken)
            now = self._clock()
            short = [(meter, amount) for meter, amount in needs if not meter.has(amount, now)]
            if not short:
                part.reserve(demand.answers or demand.model, taken, now)
                if any(meter.low() and not meter.dry(now) for meter, _ in needs):
                    self._accounts.stir()
                break
            for meter, amount in short:
                meter.need(amount)
            dry = any(meter.dry(now) for meter, _ in short)
            if dry or away or look == _LOOKS - 1:
                await self._say(needs, tell)
                raise _exhausted(short, now)
            # Where access is away, what we keep alone is looked at once.
            away = not await self._accounts.refreshed(account)
        await self._say(needs, tell)

    async def _say(self, needs: Sequence[Reservation], tell: Tell | None) -> None:
        if tell is None:
            return
        headers = tuple(header for unit in _HEADERS for header in _headers(unit, needs, self._clock()))
        if headers:
            await tell(headers)

    def leave(self, passage: "Passage", tenant: str) -> None:
        """Settle, and give the place back."""
        passage.part.end()
        self._shares.leave(tenant, background=passage.background)


class Passage:
    """One request inside the gate."""

    __slots__ = ("_gate", "_tenant", "background", "part", "tell")

    def __init__(self, gate: Gate, demand: Demand, tell: Tell) -> None:
        self._gate = gate
        self._tenant = ""
        self.background = False
        self.part = Part(demand, Held(), Terms())
        self.tell = tell

    async def __aenter__(self) -> Self:
        await self._gate.enter(self)
        self._tenant = current().tenant_id
        _answering.set((self._gate, self.part))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _answering.set(None)
        in_force.begin(None)
        self._gate.leave(self, self._tenant)


async def answered_by(model: str) -> None:
    """Hold the current request by the limits and the price of the model that is about to answer it, too.

    Its name is without alias and version.  Raises RATE_LIMIT_EXCEEDED and INSUFFICIENT_QUOTA.
    """
    if (now := _answering.get()) is not None:
        gate, part = now
        if not part.has(model):
            await gate.answered_by(part, model)


def left() -> None:
    """Give back what is reserved for a model that was to answer and cannot: another one is to.

    It was one request of that model's limits all the same, and what it names holds it as before.
    """
    if (now := _answering.get()) is not None:
        _, part = now
        part.left()


@asynccontextmanager
async def aside(demand: Demand) -> AsyncIterator[None]:
    """Around a question of our own on the way to an answer: it holds what it demands itself, until it ends.

    Raises RATE_LIMIT_EXCEEDED and INSUFFICIENT_QUOTA.
    """
    outer = _answering.get()
    if outer is None:
        yield
        return
    gate, request = outer
    part = request.beside(demand)
    try:
        await gate.answered_by(part, demand.model)
        _answering.set((gate, part))
        yield
    finally:
        _answering.set(outer)
        part.end()


def used(receipt: Receipt) -> None:
    """Count what a recorded generation used towards the part of a request that it was made for."""
    if (now := _answering.get()) is not None:
        _, part = now
        usage, requested = receipt.usage, receipt.requested_model
        answers = model_of(receipt.resolved_model or requested)
        part.uses.append(Demand(model_of(requested), usage.prompt_tokens, usage.completion_tokens, answers))


def _scopes(caller: RequestContext, demand: Demand) -> frozenset[str]:
    scopes = ("", f"key:{caller.principal_id}", *(f"{OF_MODEL}{model}" for model in demand.models))
    return frozenset((*scopes, f"project:{caller.project}") if caller.project else scopes)


def _exhausted(short: Sequence[Reservation], now: float) -> Failure:
    meter, amount = max(short, key=lambda item: item[0].retry_seconds(item[1], now))
    seconds = max(meter.retry_seconds(amount, now), 0.05)
    reason = Reason.INSUFFICIENT_QUOTA if meter.limit.unit in MONTHS else Reason.RATE_LIMIT_EXCEEDED
    return Failure(
        reason,
        retry_after_seconds=seconds,
        whose=meter.limit.scope or "the tenant",
        limit=meter.limit.amount,
        what=_WORDS[meter.limit.unit],
        seconds=f"{seconds:.3g}",
    )


def _headers(unit: Unit, needs: Sequence[Reservation], now: float) -> list[tuple[str, str]]:
    """OpenAI's headers of the limit that is nearest to its end."""
    meters = [meter for meter, _ in needs if meter.limit.unit is unit]
    if not meters:
        return []
    nearest = min(meters, key=_left)
    name, amount = _HEADERS[unit], nearest.limit.amount
    left = max(0, min(amount, nearest.held + nearest.remaining))
    return [
        (f"x-ratelimit-limit-{name}", str(amount)),
        (f"x-ratelimit-remaining-{name}", str(left)),
        (f"x-ratelimit-reset-{name}", _span(max(0.0, (amount - left) * 60 / amount))),
    ]


def _left(meter: Meter) -> float:
    return (meter.held + meter.remaining) / meter.limit.amount


def _span(seconds: float) -> str:
    """Seconds as OpenAI writes them: 6m0s, 1.5s."""
    minutes, rest = divmod(seconds, 60)
    short = f"{rest:.3f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{short}s" if minutes else f"{short}s"
