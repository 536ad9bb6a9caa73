"""A key that another takes the place of ends with all that was issued for it, when its overlap does."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.access.keys import Key, Keys, NewKey
from services.access.revocations import Revocations
from services.access.tenants import Tenants
from services.access.users import Users
from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.database import Database, open_database
from services.chassis.idempotency import IdempotencyKey
from tests.harness.clock import ManualClock

ASSERTION_SECONDS = 600
OWNER = RequestContext("acme", "owner", frozenset({Role.OWNER}), Bearer(), "", None, "/m")


def microseconds(clock: ManualClock) -> Callable[[], int]:
    """Return the clock in the unit of the store."""
    return lambda: int(clock() * 1_000_000)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000_000.0)


@pytest.fixture
async def database(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/access.db", "services.access.migrations") as opened:
        await opened.write(lambda session: Tenants(opened, microseconds(clock)).add(session, "acme", "", "p"))
        yield opened


async def rotated(keys: Keys, overlap_seconds: int) -> Key:
    """A key that another takes the place of."""
    wanted = NewKey("acme", "", frozenset({Role.MEMBER}))
    made, _ = await keys.create(OWNER, wanted, IdempotencyKey("acme", "/made", "", b"f"))
    _, _, old = await keys.rotate(OWNER, made.key, overlap_seconds, IdempotencyKey("acme", "/rotated", "", b"f"))
    return old


@pytest.mark.parametrize("overlap_seconds", [0, 90])
async def test_what_was_issued_for_the_old_key_is_refused_from_the_overlaps_end_until_it_lives_no_more(
    database: Database, clock: ManualClock, overlap_seconds: int
) -> None:
    now = microseconds(clock)
    keys, users = Keys(database, b"hashing key", now), Users(database, now)
    revocations = Revocations(keys, users, lifetime_seconds=ASSERTION_SECONDS, now=now)
    old = await rotated(keys, overlap_seconds)
    if overlap_seconds:
        clock.advance(overlap_seconds - 1)
        assert await keys.lives(old.key)
        assert await revocations.current() == []
        clock.advance(1)
    for later in (0, ASSERTION_SECONDS):
        clock.advance(later)
        assert not await keys.lives(old.key)
        assert await revocations.current() == [old.key]
    # Its heir is nobody's loss, and of the old one no assertion is left.
    clock.advance(ASSERTION_SECONDS)
    assert await revocations.current() == []
