"""What other services changed is in the log once, in its own tenant's chain, and cannot be changed unseen either."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from services.access.audit import SYSTEM, Audit, AuditEvent, Filter
from services.access.changes import Change, Changes
from services.access.tenants import Tenants
from services.chassis.database import Database, open_database
from services.chassis.errors import Reason
from tests.unit.access.tampering import tamper

METHOD = "/trivium.registry.v1.RegistryService/SetAlias"
CHANGE = Change("e1", "acme", "key_1", "", "alias.set", METHOD, "models/m/aliases/prod", "OK", "r1", 7_000_000)


@pytest.fixture(params=["sqlite", "postgres"])
async def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """Two processes' views of one database."""
    on_disk = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/access.db" if on_disk else str(request.getfixturevalue("postgres_url"))
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_database(url, "services.access.migrations")) for _ in range(2)]
        for tenant in ("acme", "else"):
            await opened[0].write(
                partial(Tenants(opened[0], lambda: 1).add, tenant=tenant, display_name="", principal="p")
            )
        yield opened


async def listed(database: Database, tenant: str) -> list[AuditEvent]:
    """Events from other services, oldest first."""
    return [event for event in reversed(await Audit(database).page(tenant, Filter(), None, 1000)) if event.event_id]


async def rewrite(database: Database, column: str, value: str) -> None:
    """Change a column of the second event behind access's back."""
    await tamper(database, f"UPDATE audit SET {column} = :value WHERE sequence = 2", value=value)


async def test_what_is_told_again_by_anybody_is_there_once(replicas: list[Database]) -> None:
    changes = [replace(CHANGE, event_id=f"e{number}") for number in range(20)]
    told = [Changes(database).record_all(changes[start:]) for start in (0, 5, 10) for database in replicas]
    for refusals in await asyncio.gather(*told):
        assert set(refusals) == {None}
    assert {event.event_id for event in await listed(replicas[0], "acme")} == {change.event_id for change in changes}
    verdict = await Audit(replicas[0]).verify("acme", 0, b"")
    assert (verdict.events, verdict.problem) == (21, "")


async def test_one_told_twice_in_one_batch_is_there_once_and_the_first_stays(replicas: list[Database]) -> None:
    await Changes(replicas[0]).record_all([CHANGE, replace(CHANGE, resource="models/other")])
    (event,) = await listed(replicas[0], "acme")
    assert event.resource == CHANGE.resource


async def test_each_is_in_its_own_tenants_chain_and_what_has_none_in_that_of_the_services(
    replicas: list[Database],
) -> None:
    theirs, nobodys, unknown = (replace(CHANGE, tenant=tenant) for tenant in ("else", "", "gone"))
    refusals = await Changes(replicas[0]).record_all([unknown, CHANGE, nobodys, theirs])
    assert [refusal and refusal.reason for refusal in refusals] == [Reason.TENANT_NOT_FOUND, None, None, None]
    for tenant in ("acme", "else", SYSTEM):
        (event,) = await listed(replicas[0], tenant)
        assert (event.action, event.resource, event.created_at) == ("alias.set", CHANGE.resource, CHANGE.at)
        assert (await Audit(replicas[0]).verify(tenant, 0, b"")).problem == ""


async def test_anybody_can_compute_its_hash_and_a_change_to_it_is_found(replicas: list[Database]) -> None:
    await Changes(replicas[0]).record_all([replace(CHANGE, actor="svc")])
    first, event = reversed(await Audit(replicas[0]).page("acme", Filter(), None, 10))
    facts = ["acme", 2, "key_1", "svc", "alias.set", METHOD, CHANGE.resource, CHANGE.at, "OK", "r1", "e1"]
    line = json.dumps(facts, ensure_ascii=False, separators=(",", ":"))
    assert event.hash == hashlib.sha256(first.hash + line.encode()).digest()
    for column in ("outcome", "request_id", "event_id"):
        was = {"outcome": "OK", "request_id": "r1", "event_id": "e1"}[column]
        await rewrite(replicas[0], column, "x")
        assert (await Audit(replicas[0]).verify("acme", 0, b"")).broken_sequence == 2, column
        await rewrite(replicas[0], column, was)
    assert (await Audit(replicas[0]).verify("acme", 0, b"")).problem == ""
