"""What a call, a heartbeat or a sweep costs others is bounded, however much there is."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, insert, select
from sqlalchemy.orm import Session

from services.chassis.database import Database, open_database
from services.registry import changes
from services.registry.alias_view import AliasView, FlipPolicy
from services.registry.aliases import Aliases
from services.registry.callers import Caller
from services.registry.canaries import Canaries
from services.registry.deletion import Deletion
from services.registry.holds import Holds, Wish
from services.registry.lives import forget_silent, living
from services.registry.models import ModelChange, Models, Retention
from services.registry.readiness import Life, ReadinessState, Report
from services.registry.retention import RetentionSweep
from services.registry.store import CounterRow, EventRow, ModelRow, VersionRow
from services.registry.store_aliases import AliasRow, LifeRow, ReadinessRow

CALLER = Caller("t", "p")
NOW = 1000.0
G1 = Life("g1", "first")


@dataclass
class Seen:
    """What a database was asked: how often, how many transactions that write, and the most values in a statement."""

    statements: int = 0
    writes: int = 0
    values: int = 0
    kinds: list[str] = field(default_factory=list)


@contextmanager
def seen() -> Iterator[Seen]:
    """Every statement inside the block."""
    found = Seen()

    def executed(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        found.statements += 1
        if not many and not statement.startswith("INSERT"):
            found.values = max(found.values, len(parameters))

    def committed(connection: Any) -> None:
        found.writes += connection.get_execution_options().get("trivium_write", False)

    event.listen(Engine, "before_cursor_execute", executed)
    event.listen(Engine, "commit", committed)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", executed)
        event.remove(Engine, "commit", committed)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/r.db", "services.registry.migrations", turn="registry") as opened:
        yield opened


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


async def with_versions(database: Database, count: int, **fields: Any) -> None:
    """A model with so many versions."""
    model = {"tenant": "t", "model": "fares", "description": "", "labels": "{}", "revision": 1, "created_at": 0.0}
    version = {"tenant": "t", "model": "fares", "parent": "", "manifest": "{}", "principal": "p", "kind": "LORA"}
    rows = [
        {**version, "version": digest(number), "number": number, "created_at": float(number), **fields}
        for number in range(1, count + 1)
    ]

    def add(session: Session) -> None:
        session.execute(insert(ModelRow), [{**model, "last_number": count}])
        session.execute(insert(VersionRow), rows)

    await database.write(add)


def deletion(database: Database, grace_seconds: float = 0.0) -> Deletion:
    return Deletion(database, lambda: NOW, Holds(lambda: NOW, 60.0), grace_seconds)


async def left(database: Database) -> int:
    def count(session: Session) -> int:
        return session.scalar(select(func.count()).select_from(VersionRow)) or 0

    return await database.read(count)


async def test_no_statement_grows_with_the_versions_of_a_model_that_is_deleted(database: Database) -> None:
    await with_versions(database, 2500)
    with seen() as found:
        await deletion(database).delete_model(CALLER, "fares", Wish())
    assert found.values < 1000
    assert found.statements < 100
    events = await database.read(lambda session: session.scalars(select(EventRow.tenant_sequence)).all())
    assert sorted(events) == list(range(1, 2501))
    assert len(await database.read(lambda session: changes.page(session, "t", "fares", None, 9999))) == 2501
    with seen() as found:
        await deletion(database).delete_model(CALLER, "fares", Wish(purge=True))
    assert found.values < 1000
    assert await left(database) == 0


async def test_a_sweep_purges_some_a_transaction_and_all_that_is_due(database: Database) -> None:
    await with_versions(database, 120, deleted_at=1.0, purge_at=2.0)
    with seen() as found:
        assert await deletion(database).purge_due() == 120
    assert found.writes >= 3
    assert await left(database) == 0


async def test_a_policy_is_applied_some_a_transaction(database: Database) -> None:
    await with_versions(database, 125)
    await Models(database, lambda: NOW).update(CALLER, "fares", ModelChange(retention=Retention(keep_last=5)))
    sweep = RetentionSweep(database, lambda: NOW, Holds(lambda: NOW, 60.0), deletion(database))
    with seen() as found:
        assert await sweep.run() == 120
    assert found.writes >= 3
    kept = select(VersionRow.number).where(VersionRow.deleted_at.is_(None)).order_by(VersionRow.number)
    assert list(await database.read(lambda session: session.scalars(kept).all())) == [121, 122, 123, 124, 125]
    with seen() as found:
        assert await sweep.run() == 0
    assert found.statements < 10


async def test_a_heartbeat_looks_at_no_alias_that_nobody_has_said_a_word_on(database: Database) -> None:
    await with_versions(database, 200)
    alias: dict[str, Any] = {"tenant": "t", "model": "fares", "serving": "", "state": "PENDING", "reason": ""}
    alias |= {"etag": "1", "principal": "p", "updated_at": 0.0}
    rows = [{**alias, "alias": f"a{number}", "target": digest(number)} for number in range(1, 201)]
    await database.write(lambda session: session.execute(insert(AliasRow), rows))
    view = AliasView(lambda: NOW, FlipPolicy(1, 60.0))
    aliases = Aliases(database, view, Canaries(database, view))
    with seen() as found:
        assert await aliases.report(Report(G1)) == []
    assert found.statements < 20
    changed = await aliases.report(Report(G1, "t", digest(7), ReadinessState.READY))
    assert [item.alias for item in changed] == ["a7"]


async def test_a_heartbeat_still_moves_what_waited_for_the_generator_to_live(database: Database) -> None:
    await with_versions(database, 1)
    now = NOW
    view = AliasView(lambda: now, FlipPolicy(1, 60.0))
    aliases = Aliases(database, view, Canaries(database, view))
    await aliases.report(Report(G1, "t", digest(1), ReadinessState.READY))
    now += 100.0
    alias: dict[str, Any] = {"tenant": "t", "model": "fares", "alias": "prod", "target": digest(1), "serving": ""}
    alias |= {"state": "PENDING", "reason": "", "etag": "1", "principal": "p", "updated_at": 0.0}
    await database.write(lambda session: session.execute(insert(AliasRow), [alias]))
    assert [item.serving for item in await aliases.report(Report(G1))] == [digest(1)]


async def test_what_generators_said_that_are_gone_is_forgotten_with_them(database: Database) -> None:
    await with_versions(database, 1)
    now = NOW
    view = AliasView(lambda: now, FlipPolicy(1, 60.0))
    aliases = Aliases(database, view, Canaries(database, view))
    for name in ("gone-1", "gone-2", "g1"):
        await aliases.report(Report(Life(name, "a"), "t", digest(1), ReadinessState.READY))
    now += 500.0
    await aliases.report(Report(Life("g1", "a")))
    assert await database.write(lambda session: forget_silent(session, now - 100.0)) == 2

    def known(session: Session) -> tuple[set[str], set[str], set[str]]:
        tables = (LifeRow.generator, ReadinessRow.generator, CounterRow.name)
        lives, words, counters = (set(session.scalars(select(column))) for column in tables)
        return lives, words, {name for name in counters if name.startswith("lives/")}

    assert await database.read(known) == ({"g1"}, {"g1"}, {"lives/g1"})
    # One that comes back all the same is a generator like any other.
    await aliases.report(Report(Life("gone-1", "a"), "t", digest(1), ReadinessState.READY))
    assert Life("gone-1", "a") in await database.read(lambda session: living(session, now - 1.0))
