"""Tenants as this gateway knows them: their terms and what it holds of their limits, kept fresh by one background task.

Invariant: one call to access is in flight at a time, and it carries everything that is due;
no request waits for one unless what is held does not suffice.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from gateway.limits.meters import Meter
from gateway.limits.terms import Allowances, Grant, Limit, Terms, Unit, Wish
from services.chassis.errors import Failure
from services.chassis.logs import Log

# A changed quota reaches every gateway within this; access holds places and months for three times as long.
_TERMS_SECONDS = 5.0
_FORGOTTEN_SECONDS = 60.0
# The terms of a tenant that was away for longer than this are asked for anew before its next request.
_STALE_SECONDS = 10.0
# Calls do not follow one another more closely.
_APART_SECONDS = 0.02
_CALL_SECONDS = 1.0
_AWAY_SECONDS = 1.0
_TENANTS_A_CALL = 1024


class Account:
    """One tenant."""

    __slots__ = ("heard_at", "meters", "tenant", "terms", "used_at", "waiting")

    def __init__(self, tenant: str, now: float) -> None:
        self.tenant = tenant
        self.terms: Terms | None = None
        self.meters: dict[tuple[str, Unit], Meter] = {}
        self.heard_at = float("-inf")
        self.used_at = now
        self.waiting: list[asyncio.Future[None]] = []

    def meter(self, limit: Limit) -> Meter:
        """What is held of a limit."""
        meter = self.meters.get((limit.scope, limit.unit))
        if meter is None:
            meter = self.meters[limit.scope, limit.unit] = Meter(limit)
        return meter

    def due(self, now: float) -> bool:
        """Whether access should hear of it now."""
        if self.terms is None or self.waiting:
            return True
        if now - self.heard_at >= _TERMS_SECONDS:
            return bool(self.meters) or self.used_at > self.heard_at
        return any(meter.low() and not meter.dry(now) and not meter.idle(now) for meter in self.meters.values())

    def stale(self, now: float) -> bool:
        """Whether its terms were never heard, or too long ago to go by."""
        return self.terms is None or now - self.heard_at > _STALE_SECONDS

    def forgettable(self, now: float) -> bool:
        """Whether nobody has used it for long and nothing is held; a content policy counts also while access is away."""
        if self.terms is not None and self.terms.policy is not None:
            return False
        held = any(meter.reserved or meter.held for meter in self.meters.values())
        return not held and not self.waiting and now - self.used_at > _FORGOTTEN_SECONDS

    def hear(self, terms: Terms, now: float) -> None:
        """Take new terms: limits that are gone are forgotten, others keep what is held of them."""
        self.terms, self.heard_at = terms, now
        limits = {(limit.scope, limit.unit): limit for limit in terms.limits}
        self.meters = {key: meter for key, meter in self.meters.items() if key in limits}
        for key, meter in self.meters.items():
            meter.limit = limits[key]

    def woken(self) -> None:
        """Let those who wait look again."""
        for waiting in self.waiting:
            if not waiting.done():
                waiting.set_result(None)
        self.waiting = []


class Accounts:
    """Every tenant that came by of late."""

    def __init__(self, allowances: Allowances, log: Log, clock: Callable[[], float]) -> None:
        self._allowances = allowances
        self._log = log
        self._clock = clock
        self._accounts: dict[str, Account] = {}
        self._woken = asyncio.Event()
        self._away_until = float("-inf")

    def of(self, tenant: str) -> Account:
        """A tenant's account; its terms may not have been heard yet."""
        account = self._accounts.get(tenant)
        now = self._clock()
        if account is None:
            account = self._accounts[tenant] = Account(tenant, now)
        account.used_at = now
        return account

    async def refreshed(self, account: Account) -> bool:
        """Wait until access was asked about an account; False at once when access cannot be reached."""
        if self._clock() < self._away_until:
            return False
        waiting = asyncio.get_running_loop().create_future()
        account.waiting.append(waiting)
        self._woken.set()
        await waiting
        return self._clock() >= self._away_until

    def stir(self) -> None:
        """Let the background look what runs low."""
        self._woken.set()

    async def run(self) -> None:
        """Keep the accounts fresh for as long as the server lives."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_AWAY_SECONDS):
                    await self._woken.wait()
            self._woken.clear()
            now = self._clock()
            self._accounts = {name: account for name, account in self._accounts.items() if not account.forgettable(now)}
            if now >= self._away_until:
                due = [account for account in self._accounts.values() if account.due(now)]
                for start in range(0, len(due), _TENANTS_A_CALL):
                    await self._ask(due[start : start + _TENANTS_A_CALL])
            await asyncio.sleep(_APART_SECONDS)

    async def _ask(self, due: Sequence[Account]) -> None:
        wishes = [(account, [meter.wish(self._clock()) for meter in account.meters.values()]) for account in due]
        try:
            async with asyncio.timeout(_CALL_SECONDS):
                answers = await self._allowances.lease([(account.tenant, asked) for account, asked in wishes])
        except (Failure, TimeoutError) as error:
            self._away(due, error)
        else:
            for (account, asked), (terms, grants) in zip(wishes, answers, strict=True):
                _given(account, asked, grants, self._clock())
                account.hear(terms, self._clock())
        for account in due:
            account.woken()

    def _away(self, due: Sequence[Account], error: Exception) -> None:
        now = self._clock()
        self._away_until = now + _AWAY_SECONDS
        self._log.warning("allowances_away", tenants=len(due), why=str(error) or "timeout")
        for account in due:
            for meter in account.meters.values():
                meter.alone(now)


def _given(account: Account, asked: Sequence[Wish], grants: Sequence[Grant], now: float) -> None:
    wishes = {(wish.limit.scope, wish.limit.unit): wish for wish in asked}
    for grant in grants:
        key = (grant.scope, grant.unit)
        meter, wish = account.meters.get(key), wishes.get(key)
        if meter is not None and wish is not None:
            meter.given(wish, grant, now)
