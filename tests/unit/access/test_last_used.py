"""When a key was last used is known at once and written later, and what was not written is not forgotten."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from services.access.keys import Keys, NewKey
from services.access.tenants import Tenants
from services.chassis.context import Role
from services.chassis.database import Database, open_database

NOW = 1_000_000


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(f"sqlite:///{tmp_path}/access.db", "services.access.migrations") as opened:
        yield opened


async def test_a_use_is_told_at_once_and_outlives_the_process_once_it_is_written(database: Database) -> None:
    keys = Keys(database, b"hashing key", lambda: NOW)
    await database.write(lambda session: Tenants(database, lambda: NOW).add(session, "t", "", "p"))
    wanted = NewKey("t", "", frozenset({Role.VIEWER}))
    _, secret = await database.write(lambda session: keys.add(session, wanted, "p"))
    await keys.check(secret)
    assert [item.used_at for item in await keys.page("t", None, 10)] == [NOW]
    assert [item.used_at for item in await Keys(database, b"hashing key", lambda: NOW).page("t", None, 10)] == [None]
    await keys.used.flush()
    assert [item.used_at for item in await Keys(database, b"hashing key", lambda: NOW).page("t", None, 10)] == [NOW]


async def test_a_use_that_could_not_be_written_is_written_the_next_time(database: Database) -> None:
    keys = Keys(database, b"hashing key", lambda: NOW)
    await database.write(lambda session: Tenants(database, lambda: NOW).add(session, "t", "", "p"))
    wanted = NewKey("t", "", frozenset({Role.VIEWER}))
    _, secret = await database.write(lambda session: keys.add(session, wanted, "p"))
    await keys.check(secret)
    await database.write(lambda session: session.execute(text("ALTER TABLE keys RENAME TO elsewhere")))
    with pytest.raises(Exception, match="no such table"):
        await keys.used.flush()
    await database.write(lambda session: session.execute(text("ALTER TABLE elsewhere RENAME TO keys")))
    await keys.used.flush()
    assert [item.used_at for item in await Keys(database, b"hashing key", lambda: NOW).page("t", None, 10)] == [NOW]


async def test_an_earlier_use_that_is_written_later_is_neither_kept_nor_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/access.db"
    async with (
        open_database(url, "services.access.migrations") as here,
        open_database(url, "services.access.migrations") as there,
    ):
        early, late = Keys(here, b"hashing key", lambda: NOW), Keys(there, b"hashing key", lambda: NOW + 1)
        await here.write(lambda session: Tenants(here, lambda: NOW).add(session, "t", "", "p"))
        _, secret = await here.write(lambda session: early.add(session, NewKey("t", "", frozenset({Role.VIEWER})), "p"))
        for replica in (early, late):
            await replica.check(secret)
        await late.used.flush()
        assert [item.used_at for item in await early.page("t", None, 10)] == [NOW + 1]
        await early.used.flush()
        assert [item.used_at for item in await late.page("t", None, 10)] == [NOW + 1]
