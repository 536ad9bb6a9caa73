"""Two replicas of access on one PostgreSQL: what each does first, both do at once."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from services.access.audit import Audit, Filter
from services.access.first_start import FirstStart
from services.access.keys import Keys, NewKey
from services.access.store import in_turn
from services.access.tenants import Tenants
from services.access.usage import Usage, UsageLedger
from services.chassis.context import Bearer, RequestContext, Role
from services.chassis.database import Database, open_database
from services.chassis.errors import Failure, Reason
from services.chassis.idempotency import IdempotencyKey
from tests.stack import eventually

NOW = 1_000_000
OWNER = RequestContext("acme", "owner", frozenset({Role.OWNER}), Bearer(), "", None, "/m")
ALWAYS_NEW = IdempotencyKey("acme", "/m", "", b"f")
WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@pytest.fixture
async def replicas(postgres_url: str) -> AsyncIterator[list[Database]]:
    async with AsyncExitStack() as stack:
        opening = [stack.enter_async_context(open_database(postgres_url, "services.access.migrations")) for _ in "ab"]
        yield await asyncio.gather(*opening)


async def test_replicas_that_start_together_make_the_tenant_once(replicas: list[Database], tmp_path: Path) -> None:
    def started(number: int, database: Database) -> list[str]:
        tenants, keys = Tenants(database, lambda: NOW), Keys(database, b"hashing key", lambda: NOW)
        return FirstStart(database, tenants, keys, tenant="default", folder=tmp_path / f"{number}").ensure()

    made = await asyncio.gather(*(asyncio.to_thread(started, *each) for each in enumerate(replicas)))
    assert "admin.key" in made[0] + made[1]
    assert [tenant.tenant for tenant in await Tenants(replicas[0], lambda: NOW).page("", 10)] == ["default"]


async def test_the_first_records_of_a_tenant_come_at_once_and_each_counts_once(replicas: list[Database]) -> None:
    await replicas[0].write(lambda session: Tenants(replicas[0], lambda: NOW).add(session, "t", "", "p"))
    ledgers = [UsageLedger(database, lambda: NOW, bytes) for database in replicas]
    # Every request is recorded by both, as a gateway does that repeats a call.
    records = [Usage("t", f"r{number}", "p", "m", b"receipt", 1, 1) for number in range(12)]
    await asyncio.gather(*(ledger.record(record) for record in records for ledger in ledgers))
    kept = await ledgers[0].page("t", None, 100)
    assert sorted(usage.request_id for usage in kept) == sorted(record.request_id for record in records)
    assert sorted(usage.sequence for usage in kept) == list(range(1, len(records) + 1))


async def ended(call: Coroutine[Any, Any, object]) -> object:
    """What a call comes to, be it a refusal."""
    try:
        return await call
    except Failure as failure:
        return failure


async def at_once(database: Database, *calls: Coroutine[Any, Any, object]) -> list[object]:
    """What calls come to that all began while the turn of their tenant was another's, each as far as it came then."""
    taken, over, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

    def takes_the_turn(session: Session) -> None:
        in_turn(session, "acme")
        loop.call_soon_threadsafe(taken.set)
        assert over.wait(60)

    begun: list[asyncio.Task[object]] = []

    def all_wait_or_are_done() -> bool:
        waiting: int = database.read_now(lambda session: session.scalar(WAITING))
        return waiting == sum(not task.done() for task in begun)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(database.write(takes_the_turn))
        try:
            await taken.wait()
            for call in calls:
                begun.append(group.create_task(ended(call)))
                await asyncio.to_thread(eventually, all_wait_or_are_done, "the call waits for its turn")
        finally:
            over.set()
    return [task.result() for task in begun]


@pytest.fixture
async def keys(replicas: list[Database]) -> list[Keys]:
    """The keys of a tenant, as each replica sees them."""
    await replicas[0].write(lambda session: Tenants(replicas[0], lambda: NOW).add(session, "acme", "", "p"))
    return [Keys(database, b"hashing key", lambda: NOW) for database in replicas]


@pytest.fixture
async def key(keys: list[Keys]) -> str:
    made, _ = await keys[0].create(OWNER, NewKey("acme", "", frozenset({Role.MEMBER})), ALWAYS_NEW)
    return made.key


async def heirs(keys: Keys, key: str) -> list[str]:
    return [found.key for found in await keys.page("acme", None, 100) if found.replaces == key]


@pytest.mark.parametrize("first", ["rotated", "revoked"])
async def test_a_key_that_is_rotated_and_revoked_at_once_gets_no_heir_after_its_end(
    replicas: list[Database], keys: list[Keys], key: str, first: str
) -> None:
    calls = [keys[0].rotate(OWNER, key, 0, ALWAYS_NEW), keys[1].revoke(OWNER, key)]
    await at_once(replicas[0], *(calls if first == "rotated" else reversed(calls)))
    events = await Audit(replicas[0]).page("acme", Filter(action_prefix="key."), None, 100)
    assert events[0].action == "key.revoked"
    assert len(await heirs(keys[0], key)) == [event.action for event in events].count("key.rotated")


async def test_a_key_that_two_rotate_at_once_gets_one_heir(
    replicas: list[Database], keys: list[Keys], key: str
) -> None:
    ends = await at_once(replicas[0], *(each.rotate(OWNER, key, 0, ALWAYS_NEW) for each in keys))
    assert [end.reason for end in ends if isinstance(end, Failure)] == [Reason.KEY_NOT_FOUND]
    assert len(await heirs(keys[0], key)) == 1
