"""Buckets and leases: whatever gateways ask, together they never hold more than a limit."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.access.allowances import LEASE_SECONDS, Allowances, Asked, Bucket, Holding, Meter, Spent, month_of, spend
from services.access.quotas import Limit, Price, Quota, Unit, checked, packed, unpacked
from services.access.store import Base, QuotaRow, TenantRow
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason

SECOND = 1_000_000
REQUESTS = Meter("", Unit.REQUESTS)
START = int(datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()) * SECOND
STEPS = st.lists(st.tuples(st.integers(0, 90 * SECOND), st.integers(0, 500), st.integers(0, 3)), max_size=60)


@given(limit=st.integers(1, 10_000), steps=STEPS)
def test_a_bucket_gives_no_more_in_any_span_than_a_minutes_worth_and_what_flowed_in(limit, steps):
    bucket, now = Bucket(limit * SECOND, 0), 0
    given_at: list[tuple[int, int]] = []
    for pause, wanted, back in steps:
        now += pause
        held = sum(amount for _, amount in given_at)
        returned = min(back, held)
        bucket, given_ = bucket.filled(limit, now).taken(limit, Holding(REQUESTS, wanted=wanted, returned=returned))
        assert 0 <= given_ <= wanted
        assert 0 <= bucket.level <= limit * SECOND
        given_at.append((now, given_ - returned))
    for first in range(len(given_at)):
        for last in range(first, len(given_at)):
            span = given_at[last][0] - given_at[first][0]
            used = sum(amount for _, amount in given_at[first : last + 1])
            assert used * SECOND * 60 <= limit * (SECOND * 60 + span)


@pytest.fixture
async def database(tmp_path):
    async with open_database(f"sqlite:///{tmp_path / 'access.db'}", Base.metadata) as opened:
        yield opened


class Site:
    """Allowances with a clock of its own and one limited tenant."""

    def __init__(self, database: Database) -> None:
        self.now = START
        self.database = database
        self.allowances = Allowances(database, lambda: self.now)

    async def limited(self, **limits: Any) -> None:
        def change(session):
            session.merge(TenantRow(tenant="ada", display_name="", created_at=0, disabled_at=None))
            session.flush()
            session.merge(QuotaRow(tenant="ada", quota=packed(Quota((Limit(**limits),))), updated_at=0))

        await self.database.write(change)

    async def lease(self, gateway: str, unit: Unit, *, held: int = 0, wanted: int = 0, returned: int = 0):
        holding = Holding(Meter("", unit), held, wanted, returned)
        (terms,) = await self.allowances.lease(gateway, [Asked("ada", (holding,))])
        return terms.grants[0]


async def test_two_gateways_share_a_limit_a_minute(database):
    site = Site(database)
    await site.limited(requests_per_minute=60)
    assert (await site.lease("a", Unit.REQUESTS, wanted=50)).granted == 50
    second = await site.lease("b", Unit.REQUESTS, wanted=50)
    assert (second.granted, second.remaining, second.reset_seconds) == (10, 0, 60.0)
    site.now += 5 * SECOND
    assert (await site.lease("b", Unit.REQUESTS, wanted=50)).granted == 5
    assert (await site.lease("a", Unit.REQUESTS, returned=20)).remaining == 20
    assert (await site.lease("b", Unit.REQUESTS, wanted=50)).granted == 20


async def test_places_of_a_gateway_that_died_come_back_when_its_lease_ends(database):
    site = Site(database)
    await site.limited(concurrent_requests=8)
    assert (await site.lease("dying", Unit.PLACES, wanted=6)).granted == 6
    assert (await site.lease("living", Unit.PLACES, wanted=6)).granted == 2
    site.now += round((LEASE_SECONDS - 1) * SECOND)
    assert (await site.lease("living", Unit.PLACES, held=2, wanted=6)).granted == 0
    site.now += 2 * SECOND
    assert (await site.lease("living", Unit.PLACES, held=2, wanted=6)).granted == 6


async def test_a_month_counts_what_was_recorded_and_what_is_held_and_begins_anew(database):
    site = Site(database)
    await site.limited(tokens_per_month=1000)
    await database.write(lambda session: spend(session, "ada", site.now, [Spent("", 300, 0), Spent("key:k", 300, 0)]))
    assert (await site.lease("a", Unit.MONTH_TOKENS, wanted=400)).granted == 400
    other = await site.lease("b", Unit.MONTH_TOKENS, wanted=400)
    assert (other.granted, other.remaining) == (300, 0)
    assert other.reset_seconds == 36 * 3600
    # What a gateway used was recorded: it holds as much less.
    await database.write(lambda session: spend(session, "ada", site.now, [Spent("", 400, 0)]))
    assert (await site.lease("a", Unit.MONTH_TOKENS, held=0, wanted=1)).granted == 0
    site.now += 37 * 3600 * SECOND
    assert month_of(site.now) == month_of(START) + 1
    assert (await site.lease("a", Unit.MONTH_TOKENS, wanted=2000)).granted == 1000


@settings(max_examples=25, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 12), st.integers(0, 12), st.integers(0, 6)), max_size=25
    )
)
def test_gateways_never_hold_more_places_than_there_are(tmp_path_factory, steps):
    async def run() -> None:
        url = f"sqlite:///{tmp_path_factory.mktemp('places') / 'access.db'}"
        async with open_database(url, Base.metadata) as database:
            site, holds, until = Site(database), dict.fromkeys("abc", 0), dict.fromkeys("abc", 0)
            await site.limited(concurrent_requests=10)
            for gateway, keep, wanted, pause in steps:
                site.now += pause * SECOND
                # A gateway uses nothing of a lease that has ended.
                held = min(keep, holds[gateway]) if until[gateway] > site.now else 0
                grant = await site.lease(gateway, Unit.PLACES, held=held, wanted=wanted)
                holds[gateway], until[gateway] = held + grant.granted, site.now + round(LEASE_SECONDS * SECOND)
                assert sum(holds[name] for name in holds if until[name] > site.now) <= 10

    asyncio.run(run())


def test_a_quota_survives_its_packing_and_prices_round_up():
    quota = Quota((Limit(requests_per_minute=5), Limit("key:k", tokens_per_month=9)), (Price("", 1, 3),), weight=4)
    assert unpacked(packed(quota)) == quota
    assert quota.cost("base", 1, 0) == 1
    assert quota.cost("base", 1_000_000, 2_000_000) == 7
    assert Quota(prices=(Price("", 1, 1), Price("m", 0, 0))).cost("m", 10**9, 0) == 0


@pytest.mark.parametrize(
    ("quota", "field"),
    [
        (Quota((Limit(), Limit("key:k"), Limit("key:k"))), "quota.limits"),
        (Quota(prices=(Price("m", 0, 0), Price("m", 1, 0))), "quota.prices"),
        (Quota(unenforced=("stored_bytes",)), "quota.stored_bytes"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(quota, field):
    with pytest.raises(Failure) as refused:
        checked(quota)
    assert refused.value.reason is Reason.FIELD_INVALID
    assert refused.value.field == field
