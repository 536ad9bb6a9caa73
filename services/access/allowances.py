"""Parts of limits, leased to gateways ahead of need, so that none asks for each request.

Invariants: what all gateways were given of a limit and may still use never exceeds it.  A
limit a minute is a bucket that holds one minute's worth and fills evenly; what is given is
gone from it, so what a gateway that dies did not use fills up again within the minute.
Places and months are held under a lease; what a gateway that dies held comes back at its end.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from services.access.policies import ContentPolicy, policy_of
from services.access.quotas import Quota, Unit, quota_of
from services.access.store import BucketRow, HoldingRow, SpendingRow, in_turn
from services.chassis.database import Database

# How long places and months are held without another call: several of a gateway's calls fit in it.
LEASE_SECONDS = 15.0
_MICROSECONDS = 1_000_000
_MINUTE_SECONDS = 60
_RATES = {Unit.REQUESTS, Unit.TOKENS}


@dataclass(frozen=True, slots=True)
class Meter:
    """One limit of a tenant."""

    scope: str
    unit: Unit

    @property
    def name(self) -> str:
        """As rows name it."""
        return f"{self.unit.value}:{self.scope}"


@dataclass(frozen=True, slots=True)
class Holding:
    """What a gateway holds of a limit, how much more it wants, what it gives back unused."""

    meter: Meter
    held: int = 0
    wanted: int = 0
    returned: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """What was given of a limit; ``remaining`` is what nobody holds then."""

    meter: Meter
    granted: int
    limit: int
    remaining: int
    reset_seconds: float


@dataclass(frozen=True, slots=True)
class Bucket:
    """A limit a minute at a moment: ``level`` in millionths, ``at`` in Unix microseconds."""

    level: int
    at: int

    def filled(self, limit: int, now: int) -> "Bucket":
        """The bucket later: fuller by what flowed in, never over its limit."""
        flowed = limit * max(0, now - self.at) // _MINUTE_SECONDS
        return Bucket(min(limit * _MICROSECONDS, self.level + flowed), max(now, self.at))

    def taken(self, limit: int, holding: Holding) -> tuple["Bucket", int]:
        """The bucket after what came back was put in and what is wanted was given, as far as there is; how much."""
        level = min(limit * _MICROSECONDS, self.level + holding.returned * _MICROSECONDS)
        given = min(holding.wanted, level // _MICROSECONDS)
        return Bucket(level - given * _MICROSECONDS, self.at), given


def month_of(microseconds: int) -> int:
    """The calendar month (UTC) of a moment."""
    at = datetime.fromtimestamp(microseconds / _MICROSECONDS, UTC)
    return at.year * 12 + at.month - 1


def _seconds_left(now: int) -> float:
    year, month = divmod(month_of(now) + 1, 12)
    return datetime(year, month + 1, 1, tzinfo=UTC).timestamp() - now / _MICROSECONDS


@dataclass(frozen=True, slots=True)
class Asked:
    """What a gateway asks about one tenant."""

    tenant: str
    holdings: tuple[Holding, ...] = ()


@dataclass(frozen=True, slots=True)
class Terms:
    """A tenant's quota and content policy, and what was given under the quota."""

    tenant: str
    quota: Quota
    grants: tuple[Grant, ...]
    policy: ContentPolicy | None = None


class Allowances:
    """Leases."""

    def __init__(self, database: Database, now: Callable[[], int]) -> None:
        self._database = database
        self._now = now

    async def lease(self, gateway: str, asked: Sequence[Asked]) -> list[Terms]:
        """Give what is wanted as far as there is, in one transaction; the terms in the order asked."""

        def transaction(session: Session) -> list[Terms]:
            # One order everywhere, or two gateways would wait for each other.
            for tenant in sorted({item.tenant for item in asked if item.holdings}):
                in_turn(session, tenant)
            return [self._leased(session, gateway, item) for item in asked]

        if any(item.holdings for item in asked):
            return await self._database.write(transaction)
        return await self._database.read(transaction)

    def _leased(self, session: Session, gateway: str, asked: Asked) -> Terms:
        quota = quota_of(session, asked.tenant)
        limited = ((holding, quota.limit(holding.meter.scope, holding.meter.unit)) for holding in asked.holdings)
        grants = [
            _from_bucket(session, asked.tenant, holding, limit, self._now())
            if holding.meter.unit in _RATES
            else _under_lease(session, gateway, asked.tenant, holding, limit, self._now())
            for holding, limit in limited
            # A limit that was lifted meanwhile needs no allowance.
            if limit is not None
        ]
        return Terms(asked.tenant, quota, tuple(grants), policy_of(session, asked.tenant))


def _from_bucket(session: Session, tenant: str, holding: Holding, limit: int, now: int) -> Grant:
    row = session.get(BucketRow, (tenant, holding.meter.name))
    if row is None:
        row = BucketRow(tenant=tenant, meter=holding.meter.name, level_millionths=limit * _MICROSECONDS, filled_at=now)
        session.add(row)
    bucket, given = Bucket(row.level_millionths, row.filled_at).filled(limit, now).taken(limit, holding)
    row.level_millionths, row.filled_at = bucket.level, bucket.at
    whole = (limit * _MICROSECONDS - bucket.level) / _MICROSECONDS / limit * _MINUTE_SECONDS
    return Grant(holding.meter, given, limit, bucket.level // _MICROSECONDS, whole)


def _under_lease(session: Session, gateway: str, tenant: str, holding: Holding, limit: int, now: int) -> Grant:
    meter = holding.meter
    same = (HoldingRow.tenant == tenant, HoldingRow.meter == meter.name)
    session.execute(delete(HoldingRow).where(*same, HoldingRow.expires_at <= now))
    others = session.scalar(select(func.sum(HoldingRow.amount)).where(*same, HoldingRow.gateway != gateway)) or 0
    free = limit - _spent(session, tenant, meter, now) - others - holding.held
    given = max(0, min(holding.wanted, free))
    row = session.get(HoldingRow, (tenant, meter.name, gateway))
    if row is None:
        row = HoldingRow(tenant=tenant, meter=meter.name, gateway=gateway)
        session.add(row)
    row.amount, row.expires_at = holding.held + given, now + round(LEASE_SECONDS * _MICROSECONDS)
    reset = 0.0 if meter.unit is Unit.PLACES else _seconds_left(now)
    return Grant(meter, given, limit, max(0, free - given), reset)


def _spent(session: Session, tenant: str, meter: Meter, now: int) -> int:
    if meter.unit is Unit.PLACES:
        return 0
    row = session.get(SpendingRow, (tenant, meter.scope, month_of(now)))
    if row is None:
        return 0
    return row.tokens if meter.unit is Unit.MONTH_TOKENS else row.micros


@dataclass(frozen=True, slots=True)
class Spent:
    """What a recorded request adds to its month."""

    scope: str
    tokens: int
    micros: int


def spend(session: Session, tenant: str, now: int, items: Iterable[Spent]) -> None:
    """Raise the month's sums, in the transaction that records the usage and in the tenant's turn."""
    month = month_of(now)
    for item in items:
        row = session.get(SpendingRow, (tenant, item.scope, month))
        if row is None:
            row = SpendingRow(tenant=tenant, scope=item.scope, month=month, tokens=0, micros=0)
            session.add(row)
        row.tokens += item.tokens
        row.micros += item.micros
