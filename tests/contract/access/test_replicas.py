"""Two replicas of access on one PostgreSQL: what each does first, both do at once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from services.access.first_start import FirstStart
from services.access.keys import Keys
from services.access.tenants import Tenants
from services.access.usage import Usage, UsageLedger
from services.chassis.database import Database, open_database

NOW = 1_000_000


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
