"""The schema is what the code expects, and the sweep removes what has expired and what no row names, and nothing else."""

import time
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, String, Text, create_engine, inspect, select, text

from services.chassis.context import Rights, Role, Scope
from services.chassis.database import open_database
from services.chassis.errors import Failure, Reason
from services.files import migrations
from services.files.batches.batch import Creator, shown
from services.files.responses import InputItem, Response, Turn
from services.files.store_batches import BatchRow
from tests.adapters import digest
from tests.unit.files.shop import HOUR, Shop


async def test_the_revisions_make_the_tables_that_the_code_expects(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/made.db"
    async with open_database(url, "services.files.migrations"):
        pass
    wanted = create_engine(f"sqlite:///{tmp_path}/wanted.db")
    BatchRow.metadata.create_all(wanted)
    found, expected = inspect(create_engine(url)), inspect(wanted)
    for table in expected.get_table_names():
        for look in ("get_columns", "get_pk_constraint", "get_foreign_keys", "get_indexes"):
            ours, theirs = (getattr(each, look)(table) for each in (found, expected))
            assert str(ours) == str(theirs), (table, look)


async def test_a_batch_from_before_its_creators_rights_were_kept_has_the_least_that_one_needs(tmp_path: Path):
    url = f"sqlite:///{tmp_path}/old.db"
    columns = {column.name: column for column in BatchRow.__table__.columns if column.name not in ("roles", "scopes")}
    old = create_engine(url)
    with old.connect() as connection:
        revised(connection, "0003")
        row = {name: "" if isinstance(column.type, String | Text) else 0 for name, column in columns.items()}
        row |= {"tenant": "t", "batch": "b", "principal": "anna", "endpoint": "/v1/completions", "state": "in_progress"}
        row |= {"details": "{}", "problems": "[]"}
        with connection.begin():
            connection.execute(text(f"INSERT INTO batches ({', '.join(row)}) VALUES (:{', :'.join(row)})"), row)
    async with open_database(url, "services.files.migrations") as database:
        (found,) = await database.read(lambda session: [shown(each) for each in session.scalars(select(BatchRow))])
    assert found.creator == Creator("anna", Rights(frozenset({Role.MEMBER}), frozenset({Scope.INFERENCE})))
    with old.connect() as connection:
        revised(connection, "0003", down=True)
        assert {each["name"] for each in inspect(connection).get_columns("batches")} == set(columns)


def revised(connection: Connection, target: str, *, down: bool = False) -> None:
    """Walk the schema to a revision."""
    folder = str(Path(migrations.__path__[0]))
    script = ScriptDirectory(folder, version_locations=[folder])
    steps = script._downgrade_revs if down else script._upgrade_revs
    with EnvironmentContext(Config(), script, fn=lambda revision, _: steps(target, revision)) as environment:
        with connection.begin():
            environment.configure(connection=connection, render_as_batch=True)
            environment.run_migrations()


async def test_the_sweep_removes_expired_files_and_the_bytes_that_no_file_has_any_more(shop: Shop):
    short, long = await shop.store(b"short", HOUR), await shop.store(b"long")
    same, other = await shop.store(b"same", HOUR), await shop.store(b"same")
    assert await shop.sweep() == {"expired": 0, "blobs": 0}
    shop.now += HOUR
    for gone in (short, same):
        with pytest.raises(Failure):
            await shop.files.get("t", gone)
    assert await shop.sweep() == {"expired": 2, "blobs": 1}
    assert not shop.blobs.holds_now(digest(b"short"))
    for kept, content in ((long, b"long"), (other, b"same")):
        assert b"".join([piece.content async for piece in shop.files.read("t", kept, 0)]) == content


async def test_the_sweep_leaves_bytes_that_are_on_their_way_to_a_row(shop: Shop):
    shop.now = time.time()
    await shop.files.delete("t", await shop.store(b"young"))
    assert await shop.sweep(HOUR) == {"expired": 0, "blobs": 0}
    assert shop.blobs.holds_now(digest(b"young"))


async def test_what_a_tenant_keeps_is_counted_down_by_deletion_and_by_expiry(shop: Shop):
    for _ in range(3):
        await shop.store(b"x" * 500, HOUR)
        deleted = await shop.store(b"y" * 500)
        with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.FILES_EXHAUSTED):
            await shop.store(b"z")
        await shop.files.delete("t", deleted)
        await shop.store(b"z" * 500, HOUR)
        shop.now += HOUR
        assert (await shop.sweep())["expired"] == 2


async def test_bytes_that_a_tenant_has_no_room_for_are_not_taken_in(shop: Shop):
    for byte in (b"x", b"y"):
        await shop.store(byte * 500)
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.FILES_EXHAUSTED):
        await shop.store(b"z" * 400)
    assert not shop.blobs.holds_now(digest(b"z" * 400))
    assert [path for path in (shop.folder / "staging").glob("*/*") if path.is_file()] == []


async def test_responses_expire_and_make_room(shop: Shop):
    turn = Turn(Response("resp_1", "", "m", b"x" * 60), (InputItem("i", b"y" * 40),))
    await shop.responses.put("t", turn)
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.RESPONSES_EXHAUSTED):
        await shop.responses.put("t", Turn(Response("resp_2", "", "m", b"x"), ()))
    shop.now += 30 * 24 * HOUR
    with pytest.raises(Failure, check=lambda failure: failure.reason is Reason.RESPONSE_NOT_FOUND):
        await shop.responses.get("t", "resp_1")
    # Before the sweep its id is free already.
    await shop.responses.put("t", turn)
    shop.now += 30 * 24 * HOUR
    assert (await shop.sweep())["expired"] == 1
    await shop.responses.put("t", Turn(Response("resp_2", "", "m", b"x" * 100), ()))
