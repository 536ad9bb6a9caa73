"""The audit log tells when somebody changes it, also where two replicas write it."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from services.access import audit
from services.access.audit import Audit, Filter
from services.access.changes import Changes
from services.access.tenants import Tenants
from services.chassis.database import Database, open_database
from tests.harness.wording import missing
from tests.unit.access.tampering import tamper
from tests.unit.access.test_changes_of_others import CHANGE

NOW = 1_000_000


@pytest.fixture(params=["sqlite", "postgres"])
async def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Database]]:
    """Two processes' views of one database."""
    on_disk = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/access.db" if on_disk else str(request.getfixturevalue("postgres_url"))
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(open_database(url, "services.access.migrations")) for _ in range(2)]
        await opened[0].write(lambda session: Tenants(opened[0], lambda: NOW).add(session, "acme", "", "p"))
        yield opened


async def add(database: Database, resource: str) -> None:
    await database.write(
        lambda session: audit.note(
            session, tenant="acme", principal="p", action="key.created", resource=resource, at=NOW
        )
    )


@pytest.fixture
async def written(replicas: list[Database]) -> Database:
    """A log of 21 events, written by both at once."""
    await asyncio.gather(*(add(database, f"r{number}") for number in range(10) for database in replicas))
    return replicas[0]


async def test_what_two_replicas_write_at_once_is_one_chain(written: Database) -> None:
    verdict = await Audit(written).verify("acme", 0, b"")
    assert (verdict.events, verdict.head_sequence, verdict.broken_sequence, verdict.problem) == (21, 21, 0, "")


async def test_anybody_can_compute_the_hashes_from_what_is_listed(written: Database) -> None:
    previous = b""
    for event in reversed(await Audit(written).page("acme", Filter(), None, 100)):
        facts = ["acme", event.sequence, event.principal, event.actor, event.action, event.method, event.resource]
        line = json.dumps([*facts, event.created_at], ensure_ascii=False, separators=(",", ":"))
        previous = hashlib.sha256(previous + line.encode()).digest()
        assert event.hash == previous


_ROW = "('acme', :sequence, 'p', 'a', 'r', 1, :hash, :event)"
_INTO = f"INTO audit (tenant, sequence, principal, action, resource, created_at, hash, event_id) VALUES {_ROW}"
_BY_HAND = (
    "UPDATE audit SET resource = 'x' WHERE sequence = 9",
    "DELETE FROM audit WHERE sequence = 21",
    "DELETE FROM audit",
    f"INSERT {_INTO} ON CONFLICT (tenant, sequence) DO UPDATE SET resource = 'x'",
)
_BY_HAND_IN = {True: (f"INSERT OR REPLACE {_INTO}",), False: ("TRUNCATE audit",)}


async def test_the_database_lets_nobody_who_writes_rows_change_the_log(written: Database) -> None:
    assert await Changes(written).record_all([replace(CHANGE, event_id="told")]) == [None]
    for statement in _BY_HAND + _BY_HAND_IN[written.is_sqlite]:
        # One of its number, and one of the id that another service gave it.
        for sequence, event in ((9, None), (400, "told")) if "REPLACE" in statement else ((9, None),):
            values = {"sequence": sequence, "hash": bytes(32), "event": event} if _INTO in statement else {}
            with pytest.raises(IntegrityError, match="append-only"):
                await written.write(lambda session: session.execute(text(statement), values))  # noqa: B023  # it runs here
    await add(written, "goes on")
    verdict = await Audit(written).verify("acme", 0, b"")
    assert (verdict.events, verdict.problem) == (23, "")


async def test_a_changed_event_is_found(written: Database) -> None:
    for number, column in enumerate(("resource", "method", "actor", "action", "principal")):
        await tamper(written, f"UPDATE audit SET {column} = 'x' WHERE sequence = {9 - number}")
        verdict = await Audit(written).verify("acme", 0, b"")
        assert (verdict.broken_sequence, verdict.head_sequence) == (9 - number, 8 - number), column


async def test_an_event_that_was_taken_out_is_found_wherever_it_was(written: Database) -> None:
    for sequence in (21, 9, 1):
        await tamper(written, "DELETE FROM audit WHERE sequence = :gone", gone=sequence)
        assert (await Audit(written).verify("acme", 0, b"")).broken_sequence == sequence


async def test_events_that_changed_places_are_found(written: Database) -> None:
    for old, new in ((4, 400), (5, 4), (400, 5)):
        await tamper(written, "UPDATE audit SET sequence = :new WHERE sequence = :old", old=old, new=new)
    assert (await Audit(written).verify("acme", 0, b"")).broken_sequence == 4


async def test_a_log_that_was_written_anew_differs_from_what_was_noted(written: Database) -> None:
    before = await Audit(written).verify("acme", 0, b"")
    await tamper(written, "DELETE FROM audit WHERE sequence = 21")
    await tamper(written, "UPDATE counters SET value = 20 WHERE name = 'audit/acme'")
    await add(written, "another")
    assert (await Audit(written).verify("acme", 0, b"")).problem == ""
    noted = await Audit(written).verify("acme", before.head_sequence, before.head_hash)
    assert (noted.broken_sequence, missing(noted.problem, "21", "hash")) == (21, [])


async def test_what_is_listed_is_what_was_asked_for(written: Database) -> None:
    async def listed(**wanted: Any) -> list[str]:
        return [event.action for event in await Audit(written).page("acme", Filter(**wanted), None, 100)]

    assert len(await listed(action_prefix="key.")) == 20
    assert await listed(action_prefix="tenant.") == ["tenant.created"]
    assert len(await listed(resource_prefix="r3")) == 2
    assert await listed(resource_prefix="_3") == []
    assert await listed(principal="somebody") == []
    assert len(await listed(since=NOW, until=NOW + 1)) == 21
    assert await listed(until=NOW) == []
